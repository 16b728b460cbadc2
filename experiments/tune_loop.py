"""How does a process work off the trials of a study, and what does it do when one fails?"""

import re
import sys
import traceback

from optuna.trial import FrozenTrial, TrialState

from datamodules.errors import InputError
from experiments.tune_space import TuneConfig
from experiments.tune_study import SharedStudy, best_first, standing
from experiments.tune_trial import ERROR, Outcome, TrialProgress, run_seeds, trial_config, write_trial_files
from models.evaluation import is_error
from train.config import Config
from train.progress import Progress
from train.shared import Shared

# When the first trials fail alike, so will the others.
ALIKE = 3


def work(own: SharedStudy, base: Config, tune: TuneConfig, metric: str, shared: Shared, progress: Progress) -> None:
    """Run trials until the study has as many as it shall have, or the rest is with other processes.

    Args:
        own: The study.
        base: Settings of `imprint fit` that its trials have in common.
        tune: Settings of the search.
        metric: What is optimised.
        shared: What the runs of this process have in common.
        progress: Takes a line per trial.

    Raises:
        InputError: The first trials failed alike, or the disk cannot be written to: the trial is run again then.
    """
    while (trial := own.claim()) is not None:
        name = own.study.study_name
        config = trial_config(base, name, metric, own.folder / "trials", trial.number, trial.params)
        try:
            outcome = run_seeds(config, tune.seeds, metric, shared, TrialProgress(config.run.progress), trial)
            _raise_if_of_the_disk(outcome)
            write_trial_files(outcome, name, trial.number, trial.params)
        except BaseException:
            own.run_again(trial.number)
            raise
        counts = own.finish(trial, outcome.state, outcome.value, outcome.attributes(config))
        progress.say(_line(own, trial.number, metric, outcome, counts))
        if outcome.error is not None and not isinstance(outcome.error, InputError):
            traceback.print_exception(outcome.error, file=sys.stderr)
        if counts:
            _stop_if_alike(own, outcome)


def _raise_if_of_the_disk(outcome: Outcome) -> None:
    """Raise what a trial failed of where that is a full or read-only disk, for which its settings cannot be blamed."""
    cause = outcome.error.__cause__ if isinstance(outcome.error, InputError) else None
    if isinstance(cause, OSError) and cause.errno is not None:
        raise outcome.error  # type: ignore[misc]  # an InputError


def _line(own: SharedStudy, number: int, metric: str, outcome: Outcome, counts: bool) -> str:
    now = standing(own.study)
    so_far = f"trial {number} ({len(now.finished)} of {own.n_trials})"
    if not counts:
        return f"trial {number}: taken for dead by another process, which runs it again; its result does not count"
    ranked = best_first(now.complete, is_error(metric))
    best = f"best {float(ranked[0].value or 0.0):.4f}, trial {ranked[0].number}; " if ranked else ""
    match outcome.state:
        case TrialState.COMPLETE:
            told = f"{metric} {outcome.value:.4f}"
        case TrialState.PRUNED:
            told = "stopped early"
        case _:
            told = f"failed: {outcome.reason}"
    return f"{so_far}: {told} ({best}{outcome.seconds:.1f} s)"


def _stop_if_alike(own: SharedStudy, outcome: Outcome) -> None:
    """Raise InputError where all trials so far failed, of the same."""
    now = standing(own.study).finished
    if outcome.state != TrialState.FAIL or len(now) < ALIKE or any(t.state != TrialState.FAIL for t in now):
        return
    if len({_kind(trial) for trial in now}) > 1:
        return
    error = outcome.error
    if not isinstance(error, InputError):
        error = InputError(outcome.reason, "settings that can be trained", "mend that (its traceback is above)")
    found = f"all {len(now)} trials so far failed alike: {error.found}"
    raise InputError(found, error.needed, f"{error.fix}; then begin another study: --study NAME") from outcome.error


def _kind(trial: FrozenTrial) -> str:
    """What a trial failed of, without the numbers in it: run ids, steps."""
    return re.sub(r"\d+", "#", str(trial.user_attrs.get(ERROR)))
