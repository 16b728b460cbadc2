"""What does one trial of a search do? One finished run per seed, and what came of it on record."""

import gc
import json
import math
import time
from collections.abc import Mapping
from dataclasses import dataclass, field, fields, replace
from pathlib import Path
from typing import Any

import optuna
from optuna.trial import Trial, TrialState

from datamodules.errors import InputError
from datamodules.files import first_line, write_json
from datamodules.storage import writing
from experiments.tune_config import StudyConfig
from experiments.tune_space import with_settings
from train.config import Config, config_to_dict
from train.fit import fit
from train.progress import Progress
from train.pruning import Pruning
from train.run_directory import RunDirectory
from train.shared import Shared

# Attributes of a trial.
CONFIG, RUNS, SEEDS, VALUES = "config", "runs", "seeds", "values"
WEIGHTS, METRICS, SECONDS, ERROR = "weights", "metrics", "seconds", "error"
# How files call what becomes of a trial.
STATES = {TrialState.COMPLETE: "complete", TrialState.PRUNED: "pruned", TrialState.FAIL: "failed"}
# A trial that takes longer shows what `imprint fit` shows.
QUIET_SECONDS = 20.0


class TrialProgress(Progress):
    """Shows nothing of a trial that is done at once, and all the rest of one that takes its time."""

    def __init__(self, mode: str) -> None:
        super().__init__(mode)
        self._start = time.perf_counter()

    def say(self, text: str) -> None:
        """Print a line once the trial has taken long enough to be asked after."""
        if time.perf_counter() - self._start > QUIET_SECONDS:
            super().say(text)


@dataclass(slots=True)
class Outcome:
    """What came of a trial.

    Attributes:
        state: Complete, pruned or failed.
        runs: Its run directories, one per seed, as far as they were begun.
        seeds: Their seeds.
        values: The metric at the best checkpoint of each finished run.
        weights: Digests of those checkpoints.
        metrics: Means over the runs of all averaged validation metrics there.
        seconds: How long it took.
        error: What it failed of; None where it did not.
    """

    state: TrialState = TrialState.COMPLETE
    runs: list[str] = field(default_factory=list)
    seeds: list[int] = field(default_factory=list)
    values: list[float] = field(default_factory=list)
    weights: list[str] = field(default_factory=list)
    metrics: dict[str, float] = field(default_factory=dict)
    seconds: float = 0.0
    error: Exception | None = None

    @property
    def reason(self) -> str:
        """Why it failed, in a line; empty where it did not."""
        if self.error is None or isinstance(self.error, InputError):
            return str(self.error or "")
        return f"{type(self.error).__name__}: {first_line(self.error)}"

    @property
    def value(self) -> float | None:
        """Mean of the values of a complete trial."""
        return sum(self.values) / len(self.values) if self.state == TrialState.COMPLETE else None

    def attributes(self, config: Config) -> dict[str, Any]:
        """What the study keeps of it; undefined metrics are left out, which JSON does not know."""
        kept = {CONFIG: config_to_dict(config), RUNS: self.runs, SEEDS: self.seeds, SECONDS: round(self.seconds, 3)}
        kept |= {VALUES: self.values, WEIGHTS: self.weights}
        kept[METRICS] = {name: value for name, value in self.metrics.items() if value == value}
        return kept | ({ERROR: self.reason} if self.error else {})


def base_config(config: StudyConfig) -> Config:
    """Return the settings of `imprint fit` alone."""
    return Config(**{section.name: getattr(config, section.name) for section in fields(Config)})


def trial_config(
    base: Config, name: str, metric: str, folder: Path, number: int, settings: Mapping[str, Any]
) -> Config:
    """Return the config of a trial's first run.

    Its audits are off: which trials are worth one is known afterwards, and audits do not change weights.

    Args:
        base: The study's settings.
        name: Name of the study.
        metric: Picks the checkpoint.
        folder: Folder of the run directories.
        number: Number of the trial.
        settings: What it has of its own.
    """
    config = with_settings(base, settings)
    track = config.track
    return replace(
        config,
        trainer=replace(config.trainer, monitor=metric),
        audit=replace(config.audit, enabled=False),
        track=replace(track, group=track.group or name, tags=[*track.tags, f"trial-{number}"]),
        run=replace(config.run, experiment=f"{name}-t{number:04d}", root=folder),
    )


def run_seeds(
    config: Config, n_seeds: int, metric: str, shared: Shared, progress: Progress, trial: Trial | None
) -> Outcome:
    """Train with each seed; a run that fails ends the trial, and is no error here.

    Args:
        config: Settings of the first run; the others have the next seeds.
        n_seeds: How many runs.
        metric: What is optimised.
        shared: What the runs of this process have in common.
        progress: Shows the work.
        trial: Takes the metric of the first run's validations, and may stop it; None for no trial.
    """
    outcome, metrics = Outcome(), []
    begun = time.perf_counter()
    for k in range(n_seeds):
        own = replace(config, run=replace(config.run, seed=config.run.seed + k))
        outcome.seeds.append(own.run.seed)
        pruning = Pruning(trial if k == 0 else None, metric)
        try:
            result = fit(own, shared=shared, progress=progress, pruning=pruning)
            metrics.append(metrics_at(result.run, result.best.step or 0))
            outcome.values.append(metrics[-1][metric])
            outcome.weights.append(result.best.weights)
        except optuna.TrialPruned:
            outcome.state = TrialState.PRUNED
            break
        except Exception as error:
            outcome.state, outcome.error = TrialState.FAIL, error
            break
        finally:
            outcome.runs += [str(pruning.run)] if pruning.run is not None else []
            outcome.seconds = time.perf_counter() - begun
            # Trainer and model refer to each other: without this, the memory of each run stays taken until some later
            # trial, on a GPU until it is full.
            gc.collect()
    for name in metrics[0] if outcome.state == TrialState.COMPLETE else ():
        outcome.metrics[name] = sum(own.get(name, math.nan) for own in metrics) / n_seeds
    return outcome


def metrics_at(run: RunDirectory, step: int) -> dict[str, float]:
    """Read the averaged validation metrics of a run at a step, by name; undefined ones are left out."""
    found: dict[str, Any] = {}
    for row in map(json.loads, run.metrics_file.read_text(encoding="utf-8").splitlines()):
        if row["step"] == step:
            found |= {name: value for name, value in row.items() if name.startswith("val/") and name.count("/") == 1}
    return {name: float(value) for name, value in found.items() if value is not None}


def write_trial_files(outcome: Outcome, study: str, number: int, settings: Mapping[str, Any]) -> None:
    """Write into each run directory of a trial what trial it is and what became of it."""
    content = {
        "study": study,
        "number": number,
        "state": STATES[outcome.state],
        "settings": dict(settings),
        "error": outcome.reason or None,
    }
    for run in map(Path, outcome.runs):
        if run.is_dir():
            with writing(run, "start the command again"):
                write_json(run / "trial.json", content)
