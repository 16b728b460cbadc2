"""Which stored audits can be compared? Those of the same pairs, in the same view, with the same labels."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import yaml

from datamodules.errors import InputError
from datamodules.files import read_text
from models.evaluation import is_error
from train.checkpoints import logged_values
from train.run_directory import RunDirectory
from train.stored_audits import StoredAudit, views_of
from train.thresholds import EDITED

DATASETS_FIX = "--datasets"
NOT_FITTED = "thresholds were not fitted (no known negatives), a value counts where p is above 1/L"
# Begins a note of early versions: labels of few positives took the shared threshold.
OLD_NOTE = "shared threshold (fewer than"


@dataclass(frozen=True, slots=True, eq=False)
class Series:
    """Audits of one data set that can be compared.

    Attributes:
        dataset: Its name.
        view: Slug of the view.
        baseline: What the others are compared to.
        looks: The others, by step; none where there is nothing to compare.
        notes: What was left out, and why.
    """

    dataset: str
    view: str
    baseline: StoredAudit
    looks: tuple[StoredAudit, ...]
    notes: tuple[str, ...] = ()


def run_settings(run: RunDirectory) -> dict[str, Any]:
    """Read config.yaml as nested values.

    Raises:
        InputError: It cannot be read.
    """
    fix = "restore it, or name another run directory"
    try:
        settings = yaml.safe_load(read_text(run.config_file, fix))
    except yaml.YAMLError as error:
        raise InputError(f"{run.config_file}, which is not YAML", "the config of a run", fix) from error
    if not isinstance(settings, dict) or not {"trainer", "audit", "run"} <= set(settings):
        raise InputError(f"{run.config_file} without its sections", "the config of a run", fix)
    return settings


def planned_checkpoints(settings: Mapping[str, Any]) -> int:
    """Count the checkpoints that a run will have written in the end, at most."""
    trainer = settings["trainer"]
    per_epoch = math.ceil(round(1 / float(trainer["val_check_interval"]), 9))
    # The last batches of an epoch may come after its last validation, and `last.ckpt` holds them.
    more = 1 if per_epoch > 1 and trainer["save_last"] else 0
    return int(trainer["max_epochs"] * (per_epoch + more))


def monitored_metric(run: RunDirectory) -> str:
    """Return the validation metric that picks the best checkpoint of a run.

    Raises:
        InputError: Its config cannot be read.
    """
    monitor = str(run_settings(run)["trainer"]["monitor"])
    if monitor != "auto":
        return monitor
    # As training resolves it: single positives leave average precision undefined and unlogged.
    return "val/ap_macro" if logged_values(run, "val/ap_macro") else "val/f1_top1_macro"


def best_audited(
    run: RunDirectory, audits: Sequence[StoredAudit], fix: str = "name the checkpoint: --baseline STEP"
) -> StoredAudit:
    """Return the audit of the checkpoint with the best value of the run's monitored metric.

    Args:
        run: The run directory.
        audits: Its audits.
        fix: What an error tells to do.

    Raises:
        InputError: The metric has no defined value at any of them.
    """
    monitor = monitored_metric(run)
    values = logged_values(run, monitor)
    sign = 1 if is_error(monitor) else -1
    known = [audit for audit in audits if audit.step in values and math.isfinite(values[audit.step])]
    if not known:
        found = f"no audited checkpoint of {run.path} with a defined {monitor}"
        raise InputError(found, "one, to tell which is the best", fix)
    return min(known, key=lambda audit: (sign * values[audit.step or 0], audit.step or 0))


def require_audits(run: RunDirectory, audits: Sequence[StoredAudit], n: int) -> None:
    """Raise InputError when fewer than n checkpoints of a run were audited."""
    if len(audits) < n:
        at = f" (step {audits[0].step})" if audits else ""
        found = f"{len(audits) or 'no'} audited checkpoint{'' if len(audits) == 1 else 's'}{at} in {run.path}"
        fix = f"imprint audit {run.path} --pending"
        # An ensemble, or a run that kept no last checkpoint, cannot be trained on.
        if run.last_checkpoint.is_file():
            fix += f", or train on with imprint fit --resume {run.path} --trainer.max_epochs N"
        raise InputError(found, f"at least {n}", fix)


def audit_at(run: RunDirectory, audits: Sequence[StoredAudit], step: int) -> StoredAudit:
    """Return the audit of a step.

    Raises:
        InputError: There is none.
    """
    found = [audit for audit in audits if audit.step == step]
    if not found:
        steps = ", ".join(str(audit.step) for audit in audits)
        raise InputError(f"no audited checkpoint of step {step} in {run.path}", f"one of steps {steps}", "--baseline")
    return found[-1]


def series_of(
    run: RunDirectory,
    audits: Sequence[StoredAudit],
    baseline: int | None,
    datasets: Sequence[str] | None,
    view: str | None,
) -> list[Series]:
    """Find what can be compared within a run, per data set.

    A checkpoint that was audited with other pairs, another view or other labels than the reference starts a series of
    its own and is left out, which is said. The reference is the baseline where a step is named, else the last
    checkpoint.

    Args:
        run: The run directory.
        audits: Its audits, by step.
        baseline: Step to compare with; the first of the series when left out.
        datasets: Names; all of the reference when left out.
        view: Slug of the view; the audits' own when left out.

    Raises:
        InputError: No such step, data set or view.
    """
    require_audits(run, audits, 1)
    reference = audits[-1] if baseline is None else audit_at(run, audits, baseline)
    return [_series(reference, audits, baseline, name, view) for name in _names(reference, datasets)]


def _series(
    reference: StoredAudit, audits: Sequence[StoredAudit], baseline: int | None, dataset: str, view: str | None
) -> Series:
    slug = _view(reference, dataset, view)
    own: dict[int | None, StoredAudit] = {}
    left_out: dict[str, list[str]] = {}
    for audit in audits:
        if why := difference(reference, audit, dataset, slug):
            left_out.setdefault(why, []).append(str(audit.step))
            continue
        if audit.step in own:
            left_out.setdefault("another checkpoint of the same step", []).append(f"{audit.step}")
        own[audit.step] = audit
    first = min(own, key=lambda step: step or 0) if baseline is None else baseline
    looks = tuple(audit for step, audit in own.items() if (step or 0) > (first or 0))
    notes = [f"left out, another series ({why}): step {', '.join(steps)}" for why, steps in left_out.items()]
    if len({audit.precision for audit in own.values()}) > 1:
        notes.append("some checkpoints were scored in float32 and some in bf16")
    return Series(dataset, slug, own[first], looks, tuple(notes))


def decision_notes(audits: Sequence[StoredAudit]) -> list[str]:
    """Say by which rule decisions were made where it was not the same one, or where no thresholds were fitted."""
    by_rule: dict[str, list[str]] = {}
    several_runs = len({audit.run.run_id for audit in audits}) > 1
    for audit in audits:
        name = f"step {audit.step}{f' of {audit.run.run_id}' if several_runs else ''}"
        by_rule.setdefault(_rule(audit.meta["calibration"]), []).append(name)
    if len(by_rule) > 1:
        told = "; ".join(f"{rule} at {', '.join(names)}" for rule, names in by_rule.items())
        return [f"decisions follow different rules, which moves values without any training: {told}"]
    return [f"decisions: {rule}" for rule in by_rule if rule == NOT_FITTED]


def _rule(calibration: Mapping[str, Any]) -> str:
    """How thresholds came about; early versions did not name it, nor draw rare labels to a shared threshold."""
    notes = calibration["notes"]
    if EDITED in notes:
        return f"thresholds {EDITED}"
    if not calibration["calibrated"]:
        return NOT_FITTED
    if "decision" not in calibration or any(note.startswith(OLD_NOTE) for note in notes):
        return "thresholds by the rule of an earlier version"
    return f"thresholds fitted for {calibration['decision']}"


def difference(one: StoredAudit, other: StoredAudit, dataset: str, view: str) -> str:
    """Say in a few words why two audits of a data set cannot be compared; empty where they can."""
    if dataset not in other.datasets:
        return f"{dataset} not audited"
    if one.datasets[dataset]["digest"] != other.datasets[dataset]["digest"]:
        return "other data"
    if one.labels != other.labels or one.meta["taxonomy"]["name"] != other.meta["taxonomy"]["name"]:
        return "other labels"
    if view not in views_of(other, dataset):
        return f"view {view} not scored"
    return ""


def series_between(
    first: StoredAudit, second: StoredAudit, datasets: Sequence[str] | None, view: str | None
) -> list[Series]:
    """Pair a checkpoint of one run with a checkpoint of another, per data set.

    Raises:
        InputError: No data set in common, or one that cannot be compared.
    """
    common = [name for name in first.datasets if name in second.datasets]
    if not common and datasets is None:
        found = f"{', '.join(first.datasets)} audited in {first.run.path}, {', '.join(second.datasets)} in the other"
        raise InputError(found, "a data set that both have audited", f"imprint audit {second.run.path} --datasets")
    series = []
    for name in _names(first, datasets or common):
        slug = _view(first, name, view)
        if why := difference(first, second, name, slug):
            found = f"{name} of {second.run.path}, which cannot be compared with {first.run.path}: {why}"
            needed = "the same data revision, view and labels in both runs"
            raise InputError(found, needed, f"imprint audit {second.run.path} on the same data, or --datasets, --view")
        series.append(Series(name, slug, first, (second,)))
    return series


def _names(reference: StoredAudit, wanted: Sequence[str] | None) -> list[str]:
    known = list(reference.datasets)
    if unknown := [name for name in wanted or () if name not in known]:
        found = f"no audit of {unknown[0]} at step {reference.step} of {reference.run.path}"
        raise InputError(found, f"one of {', '.join(known)}", DATASETS_FIX)
    return list(dict.fromkeys(wanted)) if wanted else known


def _view(reference: StoredAudit, dataset: str, wanted: str | None) -> str:
    views = views_of(reference, dataset)
    if wanted is not None and wanted not in views:
        raise InputError(f"no scores of view {wanted} of {dataset}", f"one of {', '.join(views)}", "--view")
    return wanted or views[0]
