"""What does training print while it runs?"""

import time
from collections.abc import Callable
from contextlib import ExitStack
from typing import Any

import pytorch_lightning as pl

from train.progress import Progress


class EpochLines(pl.Callback):
    """A progress bar of the training texts of each epoch, and a line of metrics at its end.

    Args:
        progress: Where to print.
        metrics: Names of the validation metrics of the line.
    """

    def __init__(self, progress: Progress, metrics: tuple[str, ...]) -> None:
        self._progress = progress
        self._metrics = metrics
        self._bar = ExitStack()
        self._advance: Callable[[int], None] | None = None
        self._start = 0.0

    def on_train_epoch_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Open the bar."""
        self._start = time.perf_counter()
        label = f"training, epoch {trainer.current_epoch + 1} of {trainer.max_epochs}"
        self._advance = self._bar.enter_context(self._progress.bar(label, int(trainer.num_training_batches), "batches"))

    def on_train_batch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule, *_: Any) -> None:
        """Advance the bar; close it at the end, before validation prints."""
        if self._advance is not None:
            self._advance(1)
        if trainer.is_last_batch:
            self._close()

    def on_exception(self, trainer: pl.Trainer, pl_module: pl.LightningModule, exception: BaseException) -> None:
        """Leave the terminal clean."""
        self._close()

    def _close(self) -> None:
        self._bar.close()
        self._advance = None

    def on_validation_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Print the metrics of this validation."""
        if trainer.sanity_checking:
            return
        shown = [
            f"{name} {float(trainer.callback_metrics[name]):.4f}"
            for name in self._metrics
            if name in trainer.callback_metrics
        ]
        seconds = time.perf_counter() - self._start
        self._progress.say(f"  step {trainer.global_step}: {', '.join(shown)} ({seconds:.0f} s since the epoch began)")
