"""Which weights are validated and saved where weights are averaged? The average, wherever no batch is being trained."""

from collections.abc import Callable
from typing import Any

import pytorch_lightning as pl
import torch
from pytorch_lightning.callbacks import WeightAveraging
from torch.optim.swa_utils import get_ema_multi_avg_fn

Average = Callable[[Any, Any, Any], None]


class AveragedWeights(WeightAveraging):
    """Exponential moving average of the weights, updated after every optimiser step.

    Lightning takes the average out of the model right after validation, before `ModelCheckpoint` saves there, and puts
    it into files with optimiser state only: files without would hold weights that were never validated. Here it stays
    in the model until the next batch, so that files, metrics and audits are all of the average, and training goes on
    from its own weights.

    Args:
        decay: Weight of the average so far in each update, see `moving_average`.
        device: Where the average is kept. Lightning would take where the model is before it is moved to train.
    """

    def __init__(self, decay: float, device: torch.device) -> None:
        # Averaging buffers would round integer ones down, such as position numbers.
        super().__init__(device, use_buffers=False, multi_avg_fn=moving_average(decay))
        self._is_swapped = False

    def _show(self, pl_module: pl.LightningModule, averaged: bool) -> None:
        """Have the average in the model, or the weights that are trained."""
        if self._is_swapped != averaged:
            self._swap_models(pl_module)
            self._is_swapped = averaged

    def on_train_batch_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule, *_: Any) -> None:
        """Train on."""
        self._show(pl_module, averaged=False)

    def on_validation_epoch_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Validate the average."""
        self._show(pl_module, averaged=True)

    def on_validation_epoch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Keep the average in the model for what is saved and audited now."""

    def on_train_epoch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Save the average at the end of an epoch, also without a validation there."""
        self._show(pl_module, averaged=True)

    def on_train_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Leave the average in the model."""
        self._show(pl_module, averaged=True)

    def on_save_checkpoint(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, checkpoint: dict[str, Any]
    ) -> None:
        """Put the average into `state_dict` and the weights that are trained into `current_model_state`."""
        super().on_save_checkpoint(trainer, pl_module, checkpoint)
        if self._is_swapped:
            shown = checkpoint["current_model_state"]
            checkpoint["current_model_state"], checkpoint["state_dict"] = checkpoint["state_dict"], shown


def moving_average(decay: float) -> Average:
    """Return the update average += (1 - d) (weights - average), with d = min(decay, (1 + n) / (10 + n)) at update n.

    So early on the average follows the weights: with a constant rate, the first steps would weigh most in a run of
    fewer than about 1 / (1 - decay) steps. Weights that do not move stay exactly as they are.
    """

    def update(averaged: Any, current: Any, n_averaged: torch.Tensor) -> None:
        n = int(n_averaged)
        step = get_ema_multi_avg_fn(min(decay, (1 + n) / (10 + n)))  # type: ignore[no-untyped-call]
        step(averaged, current, n_averaged)

    return update
