"""Which trial of a search is chosen? The best on its metric that also passes the second stage."""

import math
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import pyarrow.compute as pc
from optuna.study import Study
from optuna.trial import FrozenTrial

from datamodules.errors import InputError
from experiments.parsing import read_config
from experiments.tune_config import TuneConfig
from experiments.tune_study import ranked, standing
from experiments.tune_trial import METRICS, RUNS
from train.audit_later import audit_run
from train.config import Config
from train.drift import DriftRequest, drift_within
from train.drift_series import best_audited
from train.progress import Progress
from train.run_directory import RunDirectory
from train.stored_audits import stored_audits

ECE = "val/ece_macro"
# Attribute of the study: number of a trial -> what `instability` gives.
INSTABILITY = "instability"


@dataclass(frozen=True, slots=True)
class Candidate:
    """One of the best trials in the second stage.

    Attributes:
        trial: The trial.
        ece: Its val/ece_macro; NaN where it is undefined.
        instability: See `instability`; NaN where it was not measured or is undefined.
        passes: Whether it may be chosen.
    """

    trial: FrozenTrial
    ece: float
    instability: float
    passes: bool


def is_filtered(tune: TuneConfig) -> bool:
    """Tell whether there is a second stage."""
    return tune.max_ece is not None or tune.max_instability is not None


def candidates(study: Study, tune: TuneConfig) -> list[Candidate]:
    """Return the best trials, the best first, with what the second stage says of them.

    What is undefined or was not measured does not pass.
    """
    measured = study.user_attrs.get(INSTABILITY, {})
    found = []
    for trial in ranked(study)[: tune.top_k if is_filtered(tune) else 1]:
        ece = float(trial.user_attrs.get(METRICS, {}).get(ECE, math.nan))
        moved = float(measured.get(str(trial.number), math.nan))
        limits = ((tune.max_ece, ece), (tune.max_instability, moved))
        passes = all(limit is None or value <= limit for limit, value in limits)
        found.append(Candidate(trial, ece, moved, passes))
    return found


def chosen(listed: Sequence[Candidate]) -> FrozenTrial | None:
    """Return the first trial that passes, or None."""
    return next((candidate.trial for candidate in listed if candidate.passes), None)


def audit_trials(study: Study, tune: TuneConfig, base: Config, say: Callable[[str], None]) -> bool:
    """Audit the trials that the settings ask for, and measure their instability where it has a limit.

    Args:
        study: The study, all of its trials finished.
        tune: Which trials.
        base: Settings of the study: its audit section counts.
        say: Takes a line about each trial.

    Returns:
        Whether all audits were done.
    """
    if tune.audit == "none":
        return True
    trials = _to_audit(study, tune)
    measured: dict[str, float] = dict(study.user_attrs.get(INSTABILITY, {}))
    is_done = True
    for trial in trials:
        runs = [Path(path) for path in trial.user_attrs[RUNS]]
        if missing := [path for path in runs if not (path / "config.yaml").is_file()]:
            say(f"trial {trial.number} is not audited here: {missing[0]} is not on this machine")
            continue
        say(f"auditing trial {trial.number}")
        is_done = all([audit_of(RunDirectory.open(path), base) for path in runs]) and is_done
        if tune.max_instability is not None:
            shares = [instability(RunDirectory.open(path)) for path in runs]
            if not any(map(math.isnan, shares)):
                measured[str(trial.number)] = max(shares)
                study.set_user_attr(INSTABILITY, measured)
    return is_done


def _to_audit(study: Study, tune: TuneConfig) -> list[FrozenTrial]:
    if tune.audit == "all":
        return list(standing(study).complete)
    listed = candidates(study, tune)
    if tune.max_instability is not None:
        # Those that only their instability may yet keep from being chosen.
        return [own.trial for own in listed if tune.max_ece is None or own.ece <= tune.max_ece]
    best = chosen(listed) or (listed[0].trial if listed else None)
    return [best] if best is not None else []


def audit_of(run: RunDirectory, base: Config) -> bool:
    """Audit the checkpoints of a run that no audit was finished for; whether all went well."""
    config = read_config(run.config_file)
    config.audit = base.audit
    try:
        result = audit_run(run, config, pending_only=True, progress=Progress(base.run.progress))
    except InputError as error:
        print(f"imprint: {run.path} is not audited: {error}", file=sys.stderr)
        return False
    return result.is_recorded and not result.failed


def instability(run: RunDirectory) -> float:
    """Return the mean share of audit decisions that differ between the best checkpoint and the one before it.

    Where the best is the first, the one after it counts. Of several data sets the largest; NaN with fewer than two
    audited checkpoints.
    """
    try:
        audits = stored_audits(run)
        best = best_audited(run, audits).step or 0
        # No siblings: trials beside it that differ in their seed alone are not asked for here.
        drifts = drift_within(run, DriftRequest(against_previous=True, siblings=()))
    except InputError:
        return math.nan
    shares = []
    for drift in drifts:
        rows = drift.table.filter(pc.equal(drift.table["metric"], "churn"))
        looks = sorted(set(rows["step"].to_pylist()))
        if not looks:
            continue
        at = best if best in looks else looks[0]
        values = rows.filter(pc.equal(rows["step"], at))["estimate"].to_pylist()
        defined = [value for value in values if not math.isnan(value)]
        shares += [sum(defined) / len(defined)] if defined else []
    return max(shares, default=math.nan)


def check_second_stage(tune: TuneConfig, save_top_k: int) -> None:
    """Raise InputError where the second stage could not pass any trial."""
    if tune.max_instability is not None and tune.audit == "none":
        found = f"tune.max_instability {tune.max_instability} without audits"
        raise InputError(found, "audits, which it is measured on", "--tune.audit best-only")
    if tune.max_instability is not None and save_top_k == 1:
        found = f"tune.max_instability {tune.max_instability} with one checkpoint per run"
        raise InputError(found, "two checkpoints or more, to compare", "--trainer.save_top_k -1")
