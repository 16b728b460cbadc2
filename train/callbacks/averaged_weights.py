"""Which weights are validated and saved where weights are averaged? The average, wherever no batch is being trained."""

from typing import Any

import pytorch_lightning as pl
import torch
from torch.optim.swa_utils import get_ema_multi_avg_fn

from models.checkpoint_file import AVERAGING

# Decay where none is given.
EMA_DECAY = 0.99


class AveragedWeights(pl.Callback):
    """Exponential moving average of the weights that are trained, updated after every optimiser step.

    From a validation to the next batch the average is in the model, so that metrics, files and audits are all of the
    average, and training goes on from its own weights. (Lightning's WeightAveraging takes the average out before
    `ModelCheckpoint` saves. It also averages what is not trained, which for a head on a frozen encoder takes longer
    than the step, and buffers such as position numbers, which it rounds.)

    Args:
        decay: Weight of the average so far in each update, see `decay_at`.
    """

    def __init__(self, decay: float) -> None:
        self._decay = decay
        self._trained: dict[str, torch.nn.Parameter] = {}
        # Of the weights that are trained and their average, those that are not in the model.
        self._hidden: dict[str, torch.Tensor] = {}
        self._is_shown = False
        self._n_updates = 0
        self._last_step = 0

    def on_train_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Begin with the weights as they are, or go on from those of a checkpoint."""
        self._trained = {name: own for name, own in pl_module.named_parameters() if own.requires_grad}
        self._hidden = {
            name: self._hidden.get(name, own).detach().to(own.device, copy=True) for name, own in self._trained.items()
        }

    def on_train_batch_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule, *_: Any) -> None:
        """Train on."""
        self._show(averaged=False)

    def on_train_batch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule, *_: Any) -> None:
        """Update the average after an optimiser step."""
        if trainer.global_step > self._last_step:
            self._last_step = trainer.global_step
            update = get_ema_multi_avg_fn(decay_at(self._n_updates, self._decay))  # type: ignore[no-untyped-call]
            update(list(self._hidden.values()), [own.detach() for own in self._trained.values()], None)
            self._n_updates += 1

    def on_validation_epoch_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Validate the average, and save it."""
        self._show(averaged=True)

    def on_train_epoch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Save the average at the end of an epoch, also without a validation there."""
        self._show(averaged=True)

    def on_save_checkpoint(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, checkpoint: dict[str, Any]
    ) -> None:
        """Put the average into `state_dict`, and what training goes on from beside it."""
        trained = self._hidden
        if not self._is_shown:
            state = checkpoint["state_dict"]
            trained = {name: state[name] for name in self._hidden}
            checkpoint["state_dict"] = state | self._hidden
        checkpoint[AVERAGING] = {"trained": trained, "n_updates": self._n_updates, "last_step": self._last_step}

    def on_load_checkpoint(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, checkpoint: dict[str, Any]
    ) -> None:
        """Go on where the file was saved, whose `state_dict` is in the model."""
        stored = checkpoint[AVERAGING]
        self._hidden, self._is_shown = stored["trained"], True
        self._n_updates, self._last_step = stored["n_updates"], stored["last_step"]

    @torch.no_grad()
    def _show(self, averaged: bool) -> None:
        """Have the average in the model, or the weights that are trained."""
        if self._is_shown != averaged:
            for name, own in self._trained.items():
                shown = own.clone()
                own.copy_(self._hidden[name])
                self._hidden[name].copy_(shown)
            self._is_shown = averaged


def decay_at(n_updates: int, decay: float) -> float:
    """Return d of the update average += (1 - d) (weights - average): 0 at first, then min(decay, (1 + n) / (10 + n)).

    So early on the average follows the weights: with a constant rate, the first steps would weigh most in a run of
    fewer than about 1 / (1 - decay) steps.

    Args:
        n_updates: n, how many updates there were.
        decay: Where it ends.
    """
    return min(decay, (1 + n_updates) / (10 + n_updates)) if n_updates else 0.0
