"""How does a process work off the trials of a study, and what does it do when one fails?"""

import re
import sys
import traceback

from optuna.exceptions import StorageInternalError
from optuna.trial import FrozenTrial, TrialState

from datamodules.errors import InputError
from experiments.tune_config import TuneConfig
from experiments.tune_study import SharedStudy, ranked, standing, value_of
from experiments.tune_trial import ERROR, Outcome, TrialProgress, run_seeds, trial_config, write_trial_files
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
        OSError, StorageInternalError: The storage cannot be written to; the trial is run again then, too.
    """
    while (trial := own.claim()) is not None:
        name = own.study.study_name
        settings = own.space.acting(trial.params)
        config = trial_config(base, name, metric, own.folder / "trials", trial.number, settings)
        try:
            outcome = run_seeds(config, tune.seeds, metric, shared, TrialProgress(config.run.progress), trial)
            _raise_if_not_its_own(outcome)
            write_trial_files(outcome, name, trial.number, settings)
        except BaseException:
            own.run_again(trial.number)
            raise
        counts = own.finish(trial, outcome.state, outcome.value, outcome.attributes(config))
        progress.say(_line(own, trial.number, metric, outcome, counts))
        if outcome.error is not None and not isinstance(outcome.error, InputError):
            traceback.print_exception(outcome.error, file=sys.stderr)
        if counts:
            _stop_if_alike(own, outcome)


def _raise_if_not_its_own(outcome: Outcome) -> None:
    """Raise what a trial failed of where its settings cannot be blamed: a full disk, a storage out of reach."""
    error = outcome.error
    cause = error.__cause__ if isinstance(error, InputError) else error
    # An OSError without a number is a library's word for a file, such as an encoder's, that is not as it should be.
    is_of_the_disk = isinstance(cause, OSError) and cause.errno is not None
    if error is not None and (is_of_the_disk or isinstance(cause, StorageInternalError)):
        raise error


def _line(own: SharedStudy, number: int, metric: str, outcome: Outcome, counts: bool) -> str:
    now = standing(own.study)
    so_far = f"trial {number} ({len(now.finished)} of {own.n_trials})"
    if not counts:
        return f"trial {number}: taken for dead by another process, which runs it again; its result does not count"
    complete = ranked(own.study)
    best = f"best {value_of(complete[0]):.4f}, trial {complete[0].number}; " if complete else ""
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
