"""How is Lightning's trainer set up for a run?"""

import logging
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytorch_lightning as pl
import torch
from pytorch_lightning.callbacks import ModelCheckpoint

from models.evaluation import is_error
from models.precision import resolve_precision
from train.callbacks.audit_on_checkpoint import AuditOnCheckpoint
from train.callbacks.averaged_weights import EMA_DECAY, AveragedWeights
from train.callbacks.console import EpochLines
from train.callbacks.recording_checkpoint_io import RecordingCheckpointIO
from train.checkpoint_queue import CheckpointQueue
from train.config import Config, TrainerConfig
from train.prepare import Prepared
from train.progress import Progress
from train.reward_config import RewardTrainerConfig
from train.run_directory import RunDirectory
from train.tracking import LightningTracker, Tracker


@contextmanager
def quiet_lightning() -> Iterator[None]:
    """Silence Lightning's banners, and advice that is wrong here: workers buy nothing, resuming reuses the folder."""
    logger = logging.getLogger("pytorch_lightning")
    level = logger.level
    logger.setLevel(logging.WARNING)
    try:
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", message=".*does not have many workers.*")
            warnings.filterwarnings("ignore", message=".*exists and is not empty.*")
            # A moved run: which checkpoint is best is told by the run's own files (checkpoints.py).
            warnings.filterwarnings("ignore", message="The dirpath has changed.*")
            # Lightning 2.6.6 asks torch 2.13 in an old way; goes when Lightning does not.
            warnings.filterwarnings("ignore", message=r".*isinstance\(treespec, LeafSpec\).*", category=FutureWarning)
            yield
    finally:
        logger.setLevel(level)


def build_trainer(
    config: Config,
    prepared: Prepared,
    run: RunDirectory,
    queue: CheckpointQueue,
    on_written: Callable[[str, int, Path], None],
    tracker: Tracker,
    progress: Progress,
    pruning: pl.Callback | None = None,
) -> pl.Trainer:
    """Build the trainer of a run; the callbacks' order matters (`AuditOnCheckpoint`)."""
    shown = tuple(dict.fromkeys(("val/loss", prepared.monitor, "val/f1_macro")))
    weights = best_weights(run, prepared.monitor, config.trainer.save_top_k)
    callbacks: list[pl.Callback] = [EpochLines(progress, shown), weights]
    if config.trainer.average_weights == "ema":
        decay = config.trainer.ema_decay
        callbacks.insert(0, AveragedWeights(EMA_DECAY if decay is None else decay))
    callbacks += [pruning] if pruning is not None else []
    if config.trainer.save_last:
        # Only at the end of an epoch: the training order can be taken up there exactly, and not in between. That is
        # also why nothing is saved on an exception: one could not go on from it, and no metric tells what it is worth.
        last = ModelCheckpoint(
            dirpath=run.checkpoints,
            filename=run.last_checkpoint.stem,
            save_top_k=1,
            save_on_train_epoch_end=True,
            enable_version_counter=False,
        )
        callbacks.append(last)
    callbacks.append(AuditOnCheckpoint(queue))
    return lightning_trainer(
        config.trainer,
        prepared.device,
        prepared.datamodule.batches_per_epoch,
        run,
        callbacks,
        RecordingCheckpointIO(on_written, lambda: run.how_to_go_on, queue.digest),
        tracker,
        config.trainer.val_check_interval,
    )


def best_weights(run: RunDirectory, monitor: str, save_top_k: int) -> ModelCheckpoint:
    """Save weights at every validation and keep those with the best values of a metric, -1 for all."""
    return ModelCheckpoint(
        dirpath=run.checkpoints,
        filename="e{epoch:03d}-s{step:06d}",
        auto_insert_metric_name=False,
        monitor=monitor,
        mode="min" if is_error(monitor) else "max",
        save_top_k=save_top_k,
        save_weights_only=True,
    )


def lightning_trainer(
    settings: TrainerConfig | RewardTrainerConfig,
    device: torch.device,
    batches_per_epoch: int,
    run: RunDirectory,
    callbacks: list[pl.Callback],
    checkpoint_io: RecordingCheckpointIO,
    tracker: Tracker,
    val_check_interval: float = 1.0,
) -> pl.Trainer:
    """Build a trainer on one device that logs to the tracker and shows what the callbacks show.

    Args:
        settings: Epochs, precision, accumulation, clipping.
        device: Where to train.
        batches_per_epoch: To log short epochs too.
        run: The run directory.
        callbacks: In order.
        checkpoint_io: Writes the checkpoints.
        tracker: Takes the metrics.
        val_check_interval: Validate every so many epochs' share.
    """
    batches = min(batches_per_epoch, settings.limit_train_batches or 10)
    bf16 = resolve_precision(settings.precision, device) == "bf16"
    return pl.Trainer(
        accelerator="gpu" if device.type == "cuda" else "cpu",
        devices=1,
        max_epochs=settings.max_epochs,
        precision="bf16-mixed" if bf16 else "32-true",
        accumulate_grad_batches=settings.accumulate,
        gradient_clip_val=settings.gradient_clip or None,
        val_check_interval=val_check_interval,
        limit_train_batches=settings.limit_train_batches,
        num_sanity_val_steps=0,
        log_every_n_steps=min(10, batches),
        logger=LightningTracker(tracker, run.run_id),
        callbacks=callbacks,
        plugins=[checkpoint_io],
        enable_progress_bar=False,
        enable_model_summary=False,
        use_distributed_sampler=False,
        default_root_dir=run.path,
    )
