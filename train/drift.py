"""What moved between the checkpoints of a run, or between two runs? From stored audits; nothing is scored again."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from audits.drift import Look, common_scopes, drift_rows
from audits.imprint_drift import imprint_drift_rows
from audits.table import SCHEMA, concat, make_table, read_table, write_table
from datamodules.errors import InputError
from datamodules.storage import writing
from datamodules.views import ViewRequest
from train.audit_metrics import audit_scalars
from train.drift_series import (
    Series,
    audit_at,
    best_audited,
    decision_notes,
    planned_checkpoints,
    require_audits,
    run_settings,
    series_between,
    series_of,
)
from train.noise_floor import numerical_churn, read_noise
from train.run_directory import RunDirectory
from train.siblings import Levels, SeedRange, find_siblings, prevalence_levels, require_siblings, seed_range
from train.stored_audits import StoredAudit, scored_pairs, stored_audits

# Of the drift rows, those that make a trajectory in a tracker.
TRACKED = ("prevalence_change", "prevalence_difference_change", "churn", "js_distance")


@dataclass(frozen=True, slots=True)
class DriftRequest:
    """What to compare.

    Attributes:
        baseline: Step to compare with; the first audited one when left out (of two runs, the first's best).
        against_previous: Whether each checkpoint is compared with the one before it.
        datasets: Names; all when left out.
        view: Slug of the view; the audits' own when left out.
        siblings: Runs that differ in their seed alone; those beside the run when left out.
        planned_looks: How many looks there will be at most; None for a run that has ended.
    """

    baseline: int | None = None
    against_previous: bool = False
    datasets: Sequence[str] | None = None
    view: str | None = None
    siblings: Sequence[RunDirectory] | None = None
    planned_looks: int | None = None


@dataclass(frozen=True, slots=True, eq=False)
class Drift:
    """What moved in one data set.

    Attributes:
        series: What was compared.
        table: Rows of `drift_rows` and `imprint_drift_rows`, with the look's checkpoint in the run columns.
        before: Prevalence at what the last look is compared with.
        after: Prevalence at the last look.
        slopes: Slopes of rewards there, by (scorer, slice, spec, feature): those before.
        n_pairs: Pairs of the data set.
        n_trained_on: Pairs that were left out because a classifier was trained on a text of theirs.
        numerical: Churn by label that the arithmetic alone makes; empty where it was not measured.
        seeds: Differences between sibling runs; None without one.
        planned_looks: Looks that error control is for; None when all are in.
        notes: What a reader must know besides.
    """

    series: Series
    table: pa.Table
    before: Levels
    after: Levels
    slopes: dict[tuple[str, str, str, str], float]
    n_pairs: int
    n_trained_on: int
    numerical: dict[str, float]
    seeds: SeedRange | None
    planned_looks: int | None
    notes: tuple[str, ...] = field(default=())

    @property
    def last(self) -> StoredAudit:
        """The last look."""
        return self.series.looks[-1]

    @property
    def compared_with(self) -> str:
        """Name of what the last look is compared with, as the rows' specs have it."""
        specs = self.table.filter(pc.equal(self.table["step"], self.last.step))["spec"].to_pylist()
        return str(specs[0].partition("from-")[2])


def drift_within(run: RunDirectory, request: DriftRequest) -> list[Drift]:
    """Compare the checkpoints of a run with the first of them, per data set.

    Raises:
        InputError: Fewer than two comparable checkpoints, a file that is gone, or a request that does not fit the run.
    """
    audits = stored_audits(run)
    require_audits(run, audits, 2)
    found = series_of(run, audits, request.baseline, request.datasets, request.view)
    usable = [series for series in found if series.looks]
    if not usable:
        series = found[0]
        after = "" if request.baseline is None else f" after step {request.baseline}"
        why = "".join(f"; {note}" for note in series.notes)
        found_text = f"no checkpoint{after} of {run.path} to compare with step {series.baseline.step}{why}"
        raise InputError(found_text, "two audits of the same pairs", f"imprint audit {run.path}, or --baseline")
    siblings, must_fit = _siblings(run, request.siblings)
    drifts = []
    for series in usable:
        compared = (series.baseline, *series.looks)
        seeds, notes = seed_range(run, compared, siblings, series.dataset, series.view, must_fit)
        names = _step_names(compared)
        drifts.append(_drift(series, names, request.planned_looks, request.against_previous, seeds, notes))
    return drifts


def drift_between(first: RunDirectory, second: RunDirectory, request: DriftRequest) -> list[Drift]:
    """Compare the best checkpoint of a run with the best one of another, per data set.

    Raises:
        InputError: No audited checkpoint, or runs that did not audit the same pairs with the same labels.
    """
    chosen = []
    for run in (first, second):
        audits = stored_audits(run)
        require_audits(run, audits, 1)
        chosen.append((run, audits))
    (_, audits), (_, others) = chosen
    before = best_audited(first, audits) if request.baseline is None else audit_at(first, audits, request.baseline)
    after = best_audited(second, others)
    siblings, must_fit = _siblings(first, request.siblings)
    siblings = [run for run in siblings if run.path.resolve() != second.path.resolve()] if not must_fit else siblings
    drifts = []
    for series in series_between(before, after, request.datasets, request.view):
        seeds, notes = seed_range(first, audits, siblings, series.dataset, series.view, must_fit)
        names = {id(before): first.run_id, id(after): second.run_id}
        compared = f"step {before.step} of {first.run_id} and step {after.step} of {second.run_id} are compared"
        drifts.append(_drift(series, names, request.planned_looks, False, seeds, [compared, *notes]))
    return drifts


def looks_to_come(run: RunDirectory, baseline: int | None) -> int:
    """Count the looks that a run which still goes on will have after its baseline, at most.

    Args:
        run: The run directory.
        baseline: Step of the baseline; the first checkpoint when left out.
    """
    steps = [audit.step or 0 for audit in stored_audits(run)]
    n_before = sum(step <= baseline for step in steps) if baseline is not None else min(1, len(steps))
    n_seen = len(steps) - n_before
    return max(planned_checkpoints(run_settings(run)) - n_before, n_seen, 1)


def write_drift(run: RunDirectory, drifts: Sequence[Drift], other: RunDirectory | None = None) -> tuple[Path, int]:
    """Write all rows to the run's drift table, or that of an `other` run it was compared with, over what was there.

    Returns:
        The file, and how many rows.

    Raises:
        InputError: The file cannot be written.
    """
    table = concat([rows for drift in drifts for rows in (drift.table, _seed_rows(drift))])
    path = run.drift_table_file if other is None else run.drift_table_file.with_name(f"from-{other.run_id}.parquet")
    with writing(path, "imprint drift on the same runs"):
        path.parent.mkdir(parents=True, exist_ok=True)
        write_table(table, path)
    return path, len(table)


def drift_scalars(drift: Drift) -> dict[int, dict[str, float]]:
    """Name what a tracker gets, by step of the look: changes of prevalence, churn and distance of top-1 shares."""
    table = drift.table.filter(pc.is_in(drift.table["metric"], value_set=pa.array(TRACKED)))
    return {
        audit.step or 0: audit_scalars(table.filter(pc.equal(table["step"], audit.step)))
        for audit in drift.series.looks
    }


def _siblings(run: RunDirectory, named: Sequence[RunDirectory] | None) -> tuple[list[RunDirectory], bool]:
    return (find_siblings(run), False) if named is None else (require_siblings(run, named), True)


def _step_names(audits: Sequence[StoredAudit]) -> dict[int, str]:
    return {id(audit): f"step-{audit.step}" for audit in audits}


def _drift(
    series: Series,
    names: Mapping[int, str],
    planned_looks: int | None,
    against_previous: bool,
    seeds: SeedRange | None,
    further_notes: Sequence[str],
) -> Drift:
    audits = (series.baseline, *series.looks)
    scored = scored_pairs(audits, series.dataset, [series.view])
    looks = [Look(a.step, a.epoch, names[id(a)], own) for a, own in zip(audits, scored, strict=True)]
    if against_previous:
        # Every look has a baseline of its own, so no bootstrap holds them together: Bonferroni over all of them.
        planned_looks = max(planned_looks or 0, len(looks) - 1)
        pairs = [(looks[k], [looks[k + 1]]) for k in range(len(looks) - 1)]
    else:
        pairs = [(looks[0], looks[1:])]
    if planned_looks is not None and planned_looks < len(series.looks):
        found = f"{planned_looks} planned looks, and {len(series.looks)} made already"
        raise InputError(found, "at least as many as there are", "--planned_looks")
    tables = [drift_rows(baseline, after, series.view, planned_looks) for baseline, after in pairs]
    imprint, notes = _imprint(series, pairs, planned_looks)
    before, last = pairs[-1][0], pairs[-1][1][-1]
    _, counted = common_scopes(looks[0], looks[1:])[0]
    floors = [_numerical(audit, series) for audit in (audits[looks.index(before)], audits[-1])]
    return Drift(
        series=series,
        table=_stamped(concat([*tables, *imprint]), series.looks),
        before=prevalence_levels(before.scored, series.view, counted),
        after=prevalence_levels(last.scored, series.view, counted),
        slopes=_slopes(audits[looks.index(before)], series.dataset),
        n_pairs=len(counted),
        n_trained_on=int((~counted).sum()),
        numerical={name: max(each.get(name, 0.0) for each in floors) for each in floors for name in each},
        seeds=seeds,
        planned_looks=planned_looks,
        notes=(*series.notes, *decision_notes(audits), *notes, *further_notes),
    )


def _imprint(
    series: Series, pairs: Sequence[tuple[Look, list[Look]]], planned_looks: int | None
) -> tuple[list[pa.Table], list[str]]:
    """Rows of the changes of slopes, where the audits had rewards and measured the texts."""
    first = pairs[0][0].scored
    if not first.rewards or first.text_features is None:
        is_old = any("measured" not in audit.datasets[series.dataset] for audit in (series.baseline, *series.looks))
        had_rewards = series.baseline.datasets[series.dataset].get("rewards")
        note = f"slopes of rewards are not compared: audited before their values were stored; {_AGAIN}"
        return [], [note] if is_old and had_rewards else []
    files = [audit.measured_file(series.dataset) for audit in (series.baseline, *series.looks)]
    if len(set(files)) > 1:
        return [], [f"slopes of rewards are not compared: the audits read other rewards or features; {_AGAIN}"]
    name, truncation, length = series.view.split("-")
    view = ViewRequest(name, truncation, int(length))  # type: ignore[arg-type]  # checked by ViewRequest
    return [imprint_drift_rows(baseline, after, view, planned_looks) for baseline, after in pairs], []


_AGAIN = "imprint audit RUN_DIR does it again"


def _slopes(audit: StoredAudit, dataset: str) -> dict[tuple[str, str, str, str], float]:
    """Read the slopes of an audit's reward imprint."""
    path = audit.folder / "table.parquet"
    keys = ("scorer", "slice", "spec", "feature")
    return {
        (row[keys[0]], row[keys[1]], row[keys[2]], row[keys[3]]): row["estimate"]
        for row in read_table(path).filter(pc.field("audit") == "reward-imprint").to_pylist()
        if (row["dataset"], row["subset"], row["metric"]) == (dataset, "", "beta")
    }


def _numerical(audit: StoredAudit, series: Series) -> dict[str, float]:
    return numerical_churn(read_noise(audit.run), audit, series.dataset, series.view)


def _stamped(table: pa.Table, audits: Sequence[StoredAudit]) -> pa.Table:
    """Fill in the run columns of rows that know their step."""
    by_step = {audit.step: audit for audit in audits}
    own = [by_step[step] for step in table["step"].to_pylist()]
    stamps: dict[str, list[Any]] = {
        "run_id": [audit.run.run_id for audit in own],
        "weights": [audit.weights for audit in own],
        "audit_key": [audit.audit_key for audit in own],
    }
    for name, values in stamps.items():
        column = SCHEMA.get_field_index(name)
        table = table.set_column(column, SCHEMA.field(name), pa.array(values, type=pa.string()))
    return table


def _seed_rows(drift: Drift) -> pa.Table:
    """Rows of the differences between sibling runs; `n` counts the runs."""
    if drift.seeds is None:
        return make_table([])
    first = drift.last
    same = {"audit": "drift", "dataset": drift.series.dataset, "taxonomy": first.meta["taxonomy"]["name"]}
    same |= {"run_id": first.run.run_id, "mode": "corrected", "metric": "seed_range", "method": "cc"}
    n = len(drift.seeds.run_ids)
    rows = [
        same | {"spec": "best-checkpoints", "slice": part, "feature": feature, "estimate": value, "n": n}
        for (part, feature), value in drift.seeds.ranges.items()
    ]
    return make_table(rows)
