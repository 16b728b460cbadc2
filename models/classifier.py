"""What is trained: a text encoder with a head that scores every value."""

import math
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytorch_lightning as pl
import torch
from torch import nn

from datamodules.annotation_datamodule import Batch
from datamodules.errors import InputError
from datamodules.taxonomy import Taxonomy
from datamodules.tokenise import Tokeniser
from datamodules.views import ViewRequest
from models.encoder import Pooling, PretrainedEncoder, build_encoder
from models.evaluation import validation_metrics
from models.losses import LOSSES, compute_loss

CHECKPOINT_NEEDED = "a checkpoint written by `imprint fit`"


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


class ValueClassifier(pl.LightningModule):
    """A multi-label value classifier: encoder, pooling, dropout, linear head.

    Its arguments are plain values, so that a checkpoint holds all that rebuilds it (also the tokenizer) and loads
    under `weights_only=True`. Pretrained weights and the optimisation come in after construction.

    Args:
        encoder_name: The name that the user gave the encoder; kept for the record.
        encoder_config: transformers configuration of the encoder.
        tokenizer_json: Serialised fast tokenizer.
        pad_id: Id of the padding token.
        max_positions: Longest sequence the encoder reads.
        taxonomy: `Taxonomy.to_dict()`; its labels are the outputs, in order.
        view: `ViewRequest` fields: what part of an annotated text is read.
        loss: `bce`, `wan` (both with a sigmoid per label) or `softmax` (one choice among all).
        class_weights: Weight per label, see `losses.class_weights`; None for all ones.
        pooling: `mean`, `cls` or `attention`.
        dropout: Dropout rate before the head.
        encoder_dropout: New rate for the encoder's own dropout layers; None keeps the configured ones.
    """

    def __init__(
        self,
        encoder_name: str,
        encoder_config: dict[str, Any],
        tokenizer_json: str,
        pad_id: int,
        max_positions: int,
        taxonomy: dict[str, Any],
        view: dict[str, Any],
        loss: str = "bce",
        class_weights: list[float] | None = None,
        pooling: str = "mean",
        dropout: float = 0.1,
        encoder_dropout: float | None = None,
    ) -> None:
        super().__init__()
        self.save_hyperparameters(logger=False)
        if loss not in LOSSES:
            raise InputError(f"loss {loss!r}", f"one of {', '.join(LOSSES)}", "--model.loss")
        self.taxonomy = Taxonomy.from_dict(taxonomy)
        if loss != "bce" and len(self.taxonomy.labels) < 2:
            raise InputError(f"loss {loss} with one value", "two values or more", "--model.loss bce")
        self.view = ViewRequest(**view)
        self.tokeniser = Tokeniser(tokenizer_json, pad_id, max_positions)
        self.loss_name = loss
        self.encoder = build_encoder(encoder_config, encoder_dropout)
        hidden_size = int(self.encoder.config.hidden_size)  # type: ignore[union-attr,arg-type]
        self.pooling = Pooling(pooling, hidden_size)
        self.dropout = nn.Dropout(dropout)
        self.head = nn.Linear(hidden_size, len(self.taxonomy.labels))
        weights = torch.ones(len(self.taxonomy.labels)) if class_weights is None else torch.tensor(class_weights)
        # Not persistent: they shape the loss, not the function, so they stay out of the weights digest.
        self.class_weights: torch.Tensor
        self.register_buffer("class_weights", weights, persistent=False)
        self.optimisation: Optimisation | None = None
        self._validation: list[tuple[torch.Tensor, torch.Tensor, torch.Tensor]] = []

    @classmethod
    def from_pretrained(
        cls, encoder: PretrainedEncoder, taxonomy: Taxonomy, view: ViewRequest, **options: Any
    ) -> "ValueClassifier":
        """Build a classifier on a pretrained encoder; `options` are the remaining constructor arguments."""
        model = cls(
            encoder_name=encoder.name,
            encoder_config=encoder.config,
            tokenizer_json=encoder.tokenizer_json,
            pad_id=encoder.pad_id,
            max_positions=encoder.max_positions,
            taxonomy=taxonomy.to_dict(),
            view=asdict(view),
            **options,
        )
        model.encoder.load_state_dict(encoder.weights)
        return model

    @property
    def labels(self) -> tuple[str, ...]:
        """Names of the outputs, in order."""
        return self.taxonomy.labels

    @property
    def softmax(self) -> bool:
        """Whether the head is one choice among all values."""
        return self.loss_name == "softmax"

    @property
    def chance_thresholds(self) -> list[float] | None:
        """Probability per label that means "p above 1/L", where it is not the default.

        A WAN head whose positive term has weight w puts s = w/(1+w) there (`losses.weak_assume_negative`). A softmax
        trained with class weights w puts w/sum(w) there: what it says of a text whose values are all equally likely.
        """
        weights = self.class_weights.tolist()
        match self.loss_name:
            case "wan":
                return [weight / (1 + weight) for weight in weights]
            case "softmax":
                return [weight / sum(weights) for weight in weights]
            case _:
                return None

    def forward(self, input_ids: torch.Tensor, attention_mask: torch.Tensor) -> torch.Tensor:
        """Score texts: int64 ids and mask [batch, length] to float32 logits [batch, n_labels]."""
        states = self.encoder(input_ids=input_ids, attention_mask=attention_mask).last_hidden_state
        pooled = self.dropout(self.pooling(states, attention_mask))
        # The head stays in float32 under autocast: it is tiny, and its rounding would flip decisions.
        with torch.autocast(pooled.device.type, enabled=False):
            logits: torch.Tensor = self.head(pooled)
        return logits

    def _loss(self, logits: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
        with torch.autocast(logits.device.type, enabled=False):
            return compute_loss(self.loss_name, logits, targets, self.class_weights)

    def on_train_epoch_start(self) -> None:
        """Put every module into training mode.

        transformers returns a pretrained encoder in eval mode and Lightning keeps modes: without this call the encoder
        could train without dropout.
        """
        self.train()

    def on_train_batch_start(self, batch: Batch, batch_idx: int) -> None:
        """Seed dropout by (seed, epoch, batch).

        A run resumed at an epoch boundary then repeats the unbroken one, and nothing that draws random numbers between
        two steps (an audit, a data loader) changes the weights.
        """
        if self.optimisation is None:
            raise RuntimeError("set `optimisation` before fitting")
        sequence = np.random.SeedSequence([self.optimisation.seed, self.current_epoch, batch_idx])
        torch.manual_seed(int(sequence.generate_state(1)[0]))

    def training_step(self, batch: Batch, batch_idx: int) -> torch.Tensor:
        """Return the loss of a batch."""
        loss = self._loss(self(batch.input_ids, batch.attention_mask), batch.targets)
        self.log("train/loss", loss.detach(), batch_size=len(batch.targets), on_step=True, on_epoch=False)
        return loss

    def validation_step(self, batch: Batch, batch_idx: int) -> None:
        """Keep the logits of a batch for the metrics of the whole split."""
        logits = self(batch.input_ids, batch.attention_mask)
        self._validation.append((logits.float().cpu(), batch.targets.cpu(), batch.groups.cpu()))

    def on_validation_epoch_end(self) -> None:
        """Log per-value and averaged metrics of the validation split."""
        logits, targets, groups = (torch.cat(part) for part in zip(*self._validation, strict=True))
        self._validation.clear()
        if self.trainer.sanity_checking:
            return
        if not bool(torch.isfinite(logits).all()):
            found = f"scores that are not finite after step {self.trainer.global_step}: training has diverged"
            raise InputError(found, "finite scores", "lower --optim.lr_encoder and --optim.lr_head")
        loss = self._loss(logits.to(self.device), targets.to(self.device))
        metrics = validation_metrics(
            logits.numpy(), targets.numpy(), groups.numpy(), self.taxonomy, self.softmax, self.chance_thresholds
        )
        self.log_dict({"val/loss": float(loss)} | {f"val/{name}": value for name, value in metrics.items()})
        # Lightning would log validation one step below the checkpoint that is saved with it; this name sets the step.
        self.log("step", float(self.trainer.global_step))

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


def read_checkpoint(path: Path, fix: str = "--checkpoint") -> dict[str, Any]:
    """Read a classifier checkpoint under `weights_only=True`, on the CPU.

    Args:
        path: The file.
        fix: The setting that names the file; becomes the `fix` of the error.

    Raises:
        InputError: No such file, not a readable checkpoint, or not a checkpoint of a value classifier.
    """
    if not path.is_file():
        raise InputError(f"no file at {path}", CHECKPOINT_NEEDED, fix)
    try:
        checkpoint = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # torch.load raises many kinds for a corrupt file
        first_line = str(error).strip().split("\n")[0][:200]
        found = f"{path}, which is not a readable checkpoint ({first_line})"
        raise InputError(found, CHECKPOINT_NEEDED, fix) from error
    parameters = checkpoint.get("hyper_parameters", {}) if isinstance(checkpoint, dict) else {}
    if "taxonomy" not in parameters or "encoder_config" not in parameters:
        raise InputError(f"{path}, a checkpoint of something else", CHECKPOINT_NEEDED, fix)
    return dict(checkpoint)


def load_classifier(path: Path, fix: str = "--checkpoint") -> ValueClassifier:
    """Load the classifier of a checkpoint, in eval mode, on the CPU.

    Raises:
        InputError: As `read_checkpoint`, or weights or arguments of another version.
    """
    checkpoint = read_checkpoint(path, fix)
    try:
        model = ValueClassifier(**checkpoint["hyper_parameters"])
        model.load_state_dict(checkpoint["state_dict"])
    except (KeyError, TypeError, RuntimeError) as error:
        first_line = str(error).strip().split("\n")[0][:200]
        found = f"{path}, a checkpoint of another version ({first_line})"
        raise InputError(found, CHECKPOINT_NEEDED, fix) from error
    return model.eval()
