"""When is a checkpoint audited? Right after it was written, before anything can delete it."""

from typing import Any

import pytorch_lightning as pl
from pytorch_lightning.callbacks import Checkpoint, ModelCheckpoint

from train.checkpoint_queue import CheckpointQueue


class AuditOnCheckpoint(Checkpoint):
    """Drains the queue of written checkpoints wherever a `ModelCheckpoint` may have written one.

    Lightning moves `Checkpoint` callbacks behind all others and keeps their order, so listed after `ModelCheckpoint`
    this one runs after the file is in place, in the same hook.

    Args:
        queue: Checkpoints that were written and wait.
    """

    def __init__(self, queue: CheckpointQueue) -> None:
        self._queue = queue

    def setup(self, trainer: pl.Trainer, pl_module: pl.LightningModule, stage: str) -> None:
        """Check the order of the callbacks.

        Raises:
            RuntimeError: No ModelCheckpoint before this callback.
        """
        order: list[pl.Callback] = trainer.callbacks  # type: ignore[attr-defined]
        writers = [k for k, callback in enumerate(order) if isinstance(callback, ModelCheckpoint)]
        if not writers or max(writers) > order.index(self):
            raise RuntimeError(
                "list AuditOnCheckpoint after every ModelCheckpoint: it must run after the file is written"
            )

    def _drain(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        if not trainer.sanity_checking and not trainer.fast_dev_run:  # type: ignore[attr-defined]
            self._queue.drain(pl_module)

    def on_train_batch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule, *_: Any) -> None:
        """Audit step-wise saves."""
        self._drain(trainer, pl_module)

    def on_validation_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Audit saves at validation inside an epoch."""
        self._drain(trainer, pl_module)

    def on_train_epoch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Audit saves at the end of an epoch."""
        self._drain(trainer, pl_module)

    def on_train_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Audit what was saved since."""
        self._drain(trainer, pl_module)
