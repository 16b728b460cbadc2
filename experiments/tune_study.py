"""How do processes share one study? Each takes the next trial, and what a dead process left is run again."""

import errno
import hashlib
import os
import socket
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

import optuna
from optuna.distributions import BaseDistribution
from optuna.exceptions import UpdateFinishedTrialError
from optuna.samplers import BaseSampler, RandomSampler, TPESampler
from optuna.study import Study, StudyDirection
from optuna.trial import FrozenTrial, Trial, TrialState

from datamodules.storage import writing
from experiments.tune_space import MOST_REDRAWS, Space
from train.pruning import SEEN

# Attributes of a trial.
OWNER, RETRY_OF, PLANNED, WITHDRAWN = "owner", "retry_of", "planned", "withdrawn"
# Between its creation and its owner's name on it, a trial has this long.
SECONDS_WITHOUT_OWNER = 60.0
# A file system without locks says one of these.
_NO_LOCKS = (errno.ENOLCK, errno.EOPNOTSUPP, errno.ENOTSUP, errno.ENOSYS, errno.EINVAL)


class SeededByNumber(BaseSampler):
    """Draws that depend on the study's seed, the trial's number and the trials before it, and on no process.

    A process that resumes a study, or shares it, so never repeats the draws of another: numbers are given out once.
    Settings that a trial has already are drawn again.

    Args:
        space: What is drawn.
        seed: Seed of the study.
    """

    def __init__(self, space: Space, seed: int) -> None:
        self._space = space
        self._seed = seed

    def infer_relative_search_space(self, study: Study, trial: FrozenTrial) -> dict[str, BaseDistribution]:
        """Return the whole space: it is the same for all trials."""
        return {name: each for name, each in self._space.in_order.items() if not each.single()}

    def sample_relative(
        self, study: Study, trial: FrozenTrial, search_space: dict[str, BaseDistribution]
    ) -> dict[str, Any]:
        """Draw all settings of a trial by TPE; at random where there are few trials yet, or TPE repeats itself."""
        others = [other for other in study.get_trials(deepcopy=False) if other.number != trial.number]
        acting = self._space.acting
        taken = [acting({name: _settings(other).get(name) for name in search_space}) for other in others]
        tpe = TPESampler(seed=_seed_of(self._seed, trial.number))
        random = RandomSampler(seed=_seed_of(self._seed, trial.number, "random"))
        drawn: dict[str, Any] = {}
        for attempt in range(MOST_REDRAWS):
            drawn = tpe.sample_relative(study, trial, search_space) if attempt < 10 else {}
            for name, distribution in search_space.items():
                if name not in drawn:
                    drawn[name] = random.sample_independent(study, trial, name, distribution)
            if acting(drawn) not in taken:
                break
        return drawn

    def sample_independent(self, study: Study, trial: FrozenTrial, name: str, distribution: BaseDistribution) -> Any:
        """Draw one setting at random: one that a trial which is run again had not drawn yet."""
        sampler = RandomSampler(seed=_seed_of(self._seed, trial.number, name))
        return sampler.sample_independent(study, trial, name, distribution)


def _settings(trial: FrozenTrial) -> dict[str, Any]:
    """Settings of a trial, also those that it has not taken up yet."""
    return {**trial.system_attrs.get("fixed_params", {}), **trial.params}


def _seed_of(*parts: Any) -> int:
    return int.from_bytes(hashlib.sha256(repr(parts).encode()).digest()[:4], "big")


@dataclass(frozen=True, slots=True)
class Standing:
    """Where a study stands.

    Attributes:
        finished: Trials that count: complete, pruned or failed, without those that were run again, by number.
        running: Trials that some process works on.
    """

    finished: tuple[FrozenTrial, ...]
    running: tuple[FrozenTrial, ...]

    @property
    def complete(self) -> tuple[FrozenTrial, ...]:
        """Trials with a value."""
        return tuple(trial for trial in self.finished if trial.state == TrialState.COMPLETE)


def standing(study: Study) -> Standing:
    """Return the trials of a study that count."""
    trials = study.get_trials(deepcopy=False)
    again = {trial.user_attrs[RETRY_OF] for trial in trials if RETRY_OF in trial.user_attrs}
    counted = [t for t in trials if t.number not in again and WITHDRAWN not in t.user_attrs]
    return Standing(
        tuple(trial for trial in counted if trial.state.is_finished()),
        tuple(trial for trial in counted if trial.state == TrialState.RUNNING),
    )


class SharedStudy:
    """A study that this process works on, perhaps with others.

    Args:
        study: The study.
        space: What is searched.
        folder: The study's folder on this machine.
        n_trials: Finished trials that the study shall have in all.
        stale_hours: After how long without a sign of life a trial of another machine is taken for dead.
    """

    def __init__(self, study: Study, space: Space, folder: Path, n_trials: int, stale_hours: float) -> None:
        self.study = study
        self.space = space
        self.folder = folder
        self.n_trials = n_trials
        self._stale_seconds = stale_hours * 3600

    def enqueue_plan(self, seed: int) -> None:
        """Draw the whole plan and enqueue what is not in the study yet."""
        with study_lock(self.folder):
            there = {trial.user_attrs.get(PLANNED) for trial in self.study.get_trials(deepcopy=False)}
            for number, settings in enumerate(self.space.plan(self.n_trials, seed)):
                if number not in there:
                    self.study.enqueue_trial(settings, user_attrs={PLANNED: number})

    def claim(self) -> Trial | None:
        """Take the next trial, or None when all are finished or taken."""
        with study_lock(self.folder):
            self.recover()
            while len(standing(self.study).finished) + len(standing(self.study).running) < self.n_trials:
                trial = self.study.ask(self.space.in_order)
                trial.set_user_attr(OWNER, this_process())
                # Locks end at the machine. Processes of several machines may all have enqueued the plan, or taken the
                # last trial at the same time: the lower number counts.
                if not self._is_surplus(trial):
                    return trial
                trial.set_user_attr(WITHDRAWN, True)
                self.study.tell(trial, state=TrialState.FAIL)
        return None

    def _is_surplus(self, trial: Trial) -> bool:
        """Tell whether another trial stands for the same, or enough others count."""
        before = [t for t in self.study.get_trials(deepcopy=False) if t.number < trial.number]
        same = _stands_for(trial.user_attrs)
        if same is not None and any(_stands_for(other.user_attrs) == same for other in before):
            return True
        now = standing(self.study)
        return sum(t.number < trial.number for t in (*now.finished, *now.running)) >= self.n_trials

    def recover(self) -> list[int]:
        """Enqueue the trials of dead processes again; returns their numbers."""
        lost = [trial for trial in standing(self.study).running if self._is_lost(trial)]
        for trial in lost:
            self.run_again(trial.number)
        return [trial.number for trial in lost]

    def run_again(self, number: int) -> None:
        """Enqueue a running trial again with its settings; the one that runs no longer counts."""
        trial = self.study.get_trials(deepcopy=False)[number]
        attributes = {RETRY_OF: number}
        if PLANNED in trial.user_attrs:
            attributes[PLANNED] = trial.user_attrs[PLANNED]
        # In this order: where a process dies in between, the trial counts no longer and is not run again twice.
        self.study.enqueue_trial(_settings(trial), user_attrs=attributes)
        self.study.tell(number, state=TrialState.FAIL, skip_if_finished=True)

    def finish(self, trial: Trial, state: TrialState, value: float | None, attributes: dict[str, Any]) -> bool:
        """Record what came of a trial; False where another process gave it up meanwhile and runs it again."""
        if self.study.get_trials(deepcopy=False)[trial.number].state.is_finished():
            return False
        try:
            for name, content in attributes.items():
                trial.set_user_attr(name, content)
            self.study.tell(trial, value, state)
        except UpdateFinishedTrialError:
            return False
        return True

    def others(self) -> list[FrozenTrial]:
        """Trials that other processes work on."""
        own = this_process()
        return [trial for trial in standing(self.study).running if trial.user_attrs.get(OWNER) != own]

    def _is_lost(self, trial: FrozenTrial) -> bool:
        owner = trial.user_attrs.get(OWNER)
        if owner is None:
            begun = trial.datetime_start
            return begun is not None and (datetime.now() - begun).total_seconds() > SECONDS_WITHOUT_OWNER
        own = this_process()
        if owner["host"] == own["host"]:
            return bool(owner != own and _birth(owner["pid"]) != owner["born"])
        return time.time() - float(trial.user_attrs.get(SEEN, owner["since"])) > self._stale_seconds


def _stands_for(attributes: dict[str, Any]) -> tuple[Any, ...] | None:
    """What a trial was enqueued for: a place in the plan, or a lost trial; None for one that was drawn."""
    if PLANNED in attributes or RETRY_OF in attributes:
        return attributes.get(PLANNED), attributes.get(RETRY_OF)
    return None


_SINCE = time.time()


def this_process() -> dict[str, Any]:
    """Return what tells this process from all others: machine (or container), number and birth."""
    try:
        space = os.readlink("/proc/self/ns/pid")
    except OSError:
        space = ""
    pid = os.getpid()
    return {"host": socket.gethostname() + space, "pid": pid, "born": _birth(pid), "since": _SINCE}


def _birth(pid: int) -> str | None:
    """Return when a process of this machine was born, as its kernel tells it; None where there is none."""
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return None
    except OSError:
        # Somebody else's, or not to be asked here.
        pass
    try:
        state, *_ = content = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except OSError:
        return "unknown"
    return None if state == "Z" else content[19]


@contextmanager
def study_lock(folder: Path) -> Iterator[None]:
    """Let one process of this machine at a time look at a study and take from it; waits for its turn."""
    with writing(folder, "start the command again"):
        folder.mkdir(parents=True, exist_ok=True)
        handle = os.open(folder / ".lock", os.O_RDWR | os.O_CREAT, 0o666)
    try:
        try:
            import fcntl

            fcntl.flock(handle, fcntl.LOCK_EX)
        except ImportError:
            pass
        except OSError as error:
            if error.errno not in _NO_LOCKS:
                raise
        yield
    finally:
        os.close(handle)


def is_lower_better(study: Study) -> bool:
    """Tell whether the study minimises its metric."""
    return study.direction == StudyDirection.MINIMIZE


def ranked(study: Study) -> list[FrozenTrial]:
    """Return the complete trials, the best first; of equals the first."""
    sign = 1 if is_lower_better(study) else -1
    return sorted(standing(study).complete, key=lambda trial: (sign * value_of(trial), trial.number))


def value_of(trial: FrozenTrial) -> float:
    """Return the value of a complete trial, or the last one that a pruned trial reported."""
    if trial.value is None:
        raise ValueError(f"trial {trial.number} has no value")
    return trial.value


optuna.logging.set_verbosity(optuna.logging.WARNING)
