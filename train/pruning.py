"""When is a trial of a search stopped early? At a validation, when the study's pruner says so."""

import math
import time
from pathlib import Path

import optuna
import pytorch_lightning as pl

from datamodules.errors import InputError

# Attribute of a trial: the time of its last sign of life.
SEEN = "seen"


class Pruning(pl.Callback):
    """Reports a validation metric to a trial and stops training when the trial is not worth going on with.

    One process reports and decides, and the others stop with it. The last validation is reported, but stops nothing:
    training is over then.

    Args:
        trial: The trial; None to watch only.
        metric: Logged validation metric.

    Attributes:
        run: The run directory, once training has begun.
        pruned_at: Number of the validation at which training was stopped, from 1; None where it was not.
    """

    def __init__(self, trial: optuna.Trial | None, metric: str) -> None:
        self._trial = trial
        self._metric = metric
        self._n_validations = 0
        self.run: Path | None = None
        self.pruned_at: int | None = None

    def setup(self, trainer: pl.Trainer, pl_module: pl.LightningModule, stage: str) -> None:
        """Take note of the run directory."""
        self.run = Path(trainer.default_root_dir)

    def on_validation_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Report the metric, and stop where the pruner says so."""
        if trainer.sanity_checking:
            return
        self._n_validations += 1
        stop = trainer.is_global_zero and self._is_hopeless(trainer)
        if trainer.strategy.reduce_boolean_decision(stop, all=False):
            self.pruned_at = self._n_validations
            trainer.should_stop = True

    def _is_hopeless(self, trainer: pl.Trainer) -> bool:
        if self._trial is None:
            return False
        if self._metric not in trainer.callback_metrics:
            known = ", ".join(name for name in trainer.callback_metrics if name.count("/") == 1)
            raise InputError(
                f"metric {self._metric}, which validation does not log", f"one of {known}", "--tune.metric"
            )
        value = float(trainer.callback_metrics[self._metric])
        self._trial.set_user_attr(SEEN, time.time())
        if math.isfinite(value):
            self._trial.report(value, self._n_validations)
        is_last = trainer.is_last_batch and trainer.current_epoch + 1 == trainer.max_epochs
        return not is_last and self._trial.should_prune()

    def raise_if_pruned(self) -> None:
        """Raise optuna.TrialPruned where training was stopped early."""
        if self.pruned_at is not None:
            raise optuna.TrialPruned(f"stopped at validation {self.pruned_at}")
