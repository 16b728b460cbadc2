"""How is a pretrained encoder fine-tuned, whatever its head?"""

import math
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, ClassVar, Self, TypeVar

import numpy as np
import pytorch_lightning as pl
import torch
from torch import nn

from datamodules.errors import InputError
from datamodules.tokenise import Tokeniser
from datamodules.views import ViewRequest
from models.checkpoint_file import CheckpointKind, check_progress, check_weights, read_checkpoint_file
from models.encoder import Pooling, PretrainedEncoder, build_encoder


@dataclass(frozen=True, slots=True)
class Optimisation:
    """How the weights are moved.

    Attributes:
        lr_encoder: Peak learning rate of the encoder.
        lr_head: Peak learning rate of pooling and head.
        weight_decay: AdamW weight decay; biases and normalisation weights get none.
        warmup_fraction: Share of all steps in which the rate rises linearly from 0.
        schedule: What follows: `linear` (to 0), `cosine` (to 0) or `constant`.
        total_steps: Optimiser steps of the whole run.
        seed: Seed of dropout, together with epoch and batch.
    """

    lr_encoder: float
    lr_head: float
    weight_decay: float
    warmup_fraction: float
    schedule: str
    total_steps: int
    seed: int

    def __post_init__(self) -> None:
        if not 0 <= self.warmup_fraction < 1:
            raise InputError(f"warmup_fraction {self.warmup_fraction}", "a share in [0, 1)", "--optim.warmup_fraction")
        if self.schedule not in ("linear", "cosine", "constant"):
            raise InputError(f"schedule {self.schedule!r}", "linear, cosine or constant", "--optim.schedule")

    def factor(self, step: int) -> float:
        """Share of the peak rate at an optimiser step (0-based)."""
        warmup = math.ceil(self.warmup_fraction * self.total_steps)
        if step < warmup:
            return (step + 1) / (warmup + 1)
        progress = min(1.0, (step - warmup) / max(1, self.total_steps - warmup))
        match self.schedule:
            case "linear":
                return 1.0 - progress
            case "cosine":
                return 0.5 * (1.0 + math.cos(math.pi * progress))
            case _:
                return 1.0


class FineTunedEncoder(pl.LightningModule):
    """Encoder, pooling, dropout and a linear head, with all that moves their weights; a subclass has the loss.

    Pretrained weights and the optimisation come in after construction: `from_pretrained`, `optimisation`. The arguments
    of a subclass are plain values that it saves as hyper-parameters, so that a checkpoint holds all that rebuilds it
    (also the tokenizer) and loads under `weights_only=True`.

    Args:
        encoder_config: transformers configuration of the encoder.
        tokeniser: Its tokeniser.
        view: What is read, and how it is cut.
        pooling: `mean`, `cls` or `attention`.
        dropout: Dropout rate before the head.
        encoder_dropout: New rate for the encoder's own dropout layers; None keeps the configured ones.
        n_outputs: Width of the head.
        head_bias: Whether the head has a bias.
    """

    KIND: ClassVar[CheckpointKind]

    def __init__(
        self,
        encoder_config: dict[str, Any],
        tokeniser: Tokeniser,
        view: ViewRequest,
        pooling: str,
        dropout: float,
        encoder_dropout: float | None,
        n_outputs: int,
        head_bias: bool = True,
    ) -> None:
        super().__init__()
        self.view = view
        self.tokeniser = tokeniser
        self.encoder = build_encoder(encoder_config, encoder_dropout)
        hidden_size = int(self.encoder.config.hidden_size)  # type: ignore[union-attr,arg-type]
        self.pooling = Pooling(pooling, hidden_size)
        self.dropout = nn.Dropout(dropout)
        self.head = nn.Linear(hidden_size, n_outputs, bias=head_bias)
        self.optimisation: Optimisation | None = None

    @classmethod
    def from_encoder(cls, encoder: PretrainedEncoder, view: ViewRequest, **options: Any) -> Self:
        """Build a model on a pretrained encoder; `options` are the remaining arguments of the subclass."""
        arguments: dict[str, Any] = {
            "encoder_name": encoder.name,
            "encoder_config": encoder.config,
            "tokenizer_json": encoder.tokenizer_json,
            "pad_id": encoder.pad_id,
            "max_positions": encoder.max_positions,
            "view": asdict(view),
        }
        model = cls(**arguments, **options)
        model.encoder.load_state_dict(encoder.weights)
        return model

    def forward(self, input_ids: torch.Tensor, attention_mask: torch.Tensor) -> torch.Tensor:
        """Score texts: int64 ids and mask [batch, length] to float32 outputs of the head [batch, n_outputs]."""
        states = self.encoder(input_ids=input_ids, attention_mask=attention_mask).last_hidden_state
        pooled = self.dropout(self.pooling(states, attention_mask))
        # The head stays in float32 under autocast: it is tiny, and its rounding would flip decisions.
        with torch.autocast(pooled.device.type, enabled=False):
            outputs: torch.Tensor = self.head(pooled)
        return outputs

    def require_finite(self, outputs: torch.Tensor) -> None:
        """Raise InputError when training has diverged."""
        if not bool(torch.isfinite(outputs).all()):
            found = f"scores that are not finite after step {self.trainer.global_step}: training has diverged"
            raise InputError(found, "finite scores", "lower --optim.lr_encoder and --optim.lr_head")

    def log_validation(self, metrics: dict[str, float]) -> None:
        """Log metrics of the validation split, named `val/...`."""
        self.log_dict({f"val/{name}": value for name, value in metrics.items()})
        # Lightning would log validation one step below the checkpoint that is saved with it; this name sets the step.
        self.log("step", float(self.trainer.global_step))

    def on_train_epoch_start(self) -> None:
        """Put every module into training mode.

        transformers returns a pretrained encoder in eval mode and Lightning keeps modes: without this call the encoder
        could train without dropout.
        """
        self.train()

    def on_train_batch_start(self, batch: Any, batch_idx: int) -> None:
        """Seed dropout by (seed, epoch, batch).

        A run resumed at an epoch boundary then repeats the unbroken one, and nothing that draws random numbers between
        two steps (an audit, a data loader) changes the weights.
        """
        if self.optimisation is None:
            raise RuntimeError("set `optimisation` before fitting")
        sequence = np.random.SeedSequence([self.optimisation.seed, self.current_epoch, batch_idx])
        torch.manual_seed(int(sequence.generate_state(1)[0]))

    def configure_optimizers(self) -> Any:
        """AdamW with one rate for the encoder and one for the head, stepped once per optimiser step."""
        if self.optimisation is None:
            raise RuntimeError("set `optimisation` before fitting")
        # Fused: on a CPU the loop over single tensors takes a quarter of the step of a small encoder.
        optimizer = torch.optim.AdamW(self._parameter_groups(self.optimisation), fused=True)
        scheduler = torch.optim.lr_scheduler.LambdaLR(optimizer, self.optimisation.factor)
        return {"optimizer": optimizer, "lr_scheduler": {"scheduler": scheduler, "interval": "step"}}

    def configure_gradient_clipping(
        self,
        optimizer: torch.optim.Optimizer,
        gradient_clip_val: float | None = None,
        gradient_clip_algorithm: str | None = None,
    ) -> None:
        """Clip the gradient norm; Lightning refuses to with a fused optimiser, for the sake of loss scalers.

        bf16 has float32's range and uses no scaler.
        """
        if gradient_clip_val:
            torch.nn.utils.clip_grad_norm_(self.parameters(), gradient_clip_val)

    def _parameter_groups(self, optimisation: Optimisation) -> list[dict[str, Any]]:
        """Four groups: encoder and head, each with and without weight decay."""
        groups = []
        for is_encoder, lr in ((True, optimisation.lr_encoder), (False, optimisation.lr_head)):
            named = [(n, p) for n, p in self.named_parameters() if n.startswith("encoder.") == is_encoder]
            for decayed in (True, False):
                # One-dimensional parameters are biases and normalisation weights.
                parameters = [p for _, p in named if (p.ndim > 1) == decayed]
                decay = optimisation.weight_decay if decayed else 0.0
                groups.append({"params": parameters, "lr": lr, "weight_decay": decay})
        return groups

    def on_train_start(self) -> None:
        """Put the configured rates back: restoring a checkpoint's optimiser would silently bring the old ones."""
        if self.optimisation is None:
            raise RuntimeError("set `optimisation` before fitting")
        scheduler = self.lr_schedulers()
        fresh = self._parameter_groups(self.optimisation)
        scheduler.base_lrs = [group["lr"] for group in fresh]  # type: ignore[union-attr]
        factor = self.optimisation.factor(scheduler.last_epoch)  # type: ignore[union-attr]
        for group, configured in zip(self.optimizers().param_groups, fresh, strict=True):  # type: ignore[union-attr]
            group["initial_lr"] = configured["lr"]
            group["lr"] = configured["lr"] * factor
            group["weight_decay"] = configured["weight_decay"]


Model = TypeVar("Model", bound=FineTunedEncoder)


def read_resumable(kind: type[Model], path: Path, fix: str) -> dict[str, Any]:
    """Read a checkpoint that training is to go on from, on the CPU, and check all of it without building its weights.

    Args:
        kind: Class of the model.
        path: The file.
        fix: The setting that names the file; becomes the `fix` of the error.

    Raises:
        InputError: As `load_model`, or no optimiser state that fits the weights.
    """
    checkpoint = read_checkpoint_file(path, fix, kind.KIND)
    with torch.device("meta"):
        model = _built(kind, checkpoint, path, fix)
    check_weights(checkpoint["state_dict"], model.state_dict(), path, fix, kind.KIND)
    any_rates = Optimisation(0.0, 0.0, 0.0, 0.0, "constant", 1, 0)
    groups = model._parameter_groups(any_rates)
    check_progress(checkpoint, [parameter for group in groups for parameter in group["params"]], path, fix)
    return checkpoint


def load_model(kind: type[Model], path: Path, fix: str) -> Model:
    """Load the model of a checkpoint, in eval mode, on the CPU.

    Args:
        kind: Class of the model.
        path: The file.
        fix: The setting that names the file; becomes the `fix` of the error.

    Raises:
        InputError: As `read_checkpoint_file`, arguments of another version, or weights that do not fit them or are not
            finite.
    """
    checkpoint = read_checkpoint_file(path, fix, kind.KIND)
    model = _built(kind, checkpoint, path, fix)
    check_weights(checkpoint["state_dict"], model.state_dict(), path, fix, kind.KIND)
    model.load_state_dict(checkpoint["state_dict"])
    return model.eval()


def _built(kind: type[Model], checkpoint: dict[str, Any], path: Path, fix: str) -> Model:
    try:
        return kind(**checkpoint["hyper_parameters"])
    except Exception as error:  # transformers and tokenizers raise many kinds for arguments they do not know
        said = error.found if isinstance(error, InputError) else " ".join(str(error).split())
        found = f"{path}, a checkpoint of another version or an edited one ({said[:160]})"
        raise InputError(found, kind.KIND.needed, fix) from error
