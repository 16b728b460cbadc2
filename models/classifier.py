"""What is trained: a text encoder with a head that scores every value."""

from pathlib import Path
from typing import Any

import torch

from datamodules.annotation_datamodule import Batch
from datamodules.feature_batches import FeatureBatch
from datamodules.joint_splits import asked
from datamodules.taxonomy import Taxonomy
from datamodules.tokenise import Tokeniser
from datamodules.views import ViewRequest
from models.checkpoint_file import CLASSIFIER
from models.checkpoint_model import load_model, read_resumable
from models.encoder import PretrainedEncoder
from models.fine_tuning import FineTunedEncoder
from models.heads import LabelAttention, definition_queries, label_texts
from models.optimisation import Optimisation
from models.tasks import Task, build_tasks, joint_loss, joint_metrics, task_loss

__all__ = ["Optimisation", "ValueClassifier", "load_classifier", "read_checkpoint"]


class ValueClassifier(FineTunedEncoder):
    """A multi-label value classifier: encoder, pooling, dropout, head.

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
        loss: `bce`, `wan`, `an-ls`, `asl` (all with a sigmoid per label) or `softmax` (one choice among all).
        class_weights: Weight per label, see `class_weights.class_weights`; None for all ones.
        pooling: `mean`, `cls` or `attention`.
        dropout: Dropout rate before the head.
        encoder_dropout: New rate for the encoder's own dropout layers; None keeps the configured ones.
        max_false_negative_rate: The bound that thresholds keep; None where they maximise F1.
        head: `linear`, `mlp` or `label-attention`.
        head_width: Width of the hidden layer of `mlp`; None for the others.
        encoder_training: `full`, `frozen` or `lora`.
        lora: Fields of `models.adapters.Lora`; None without adapters.
        loss_settings: Fields of `losses.LossSettings` that act under this loss; None where none does.
        window: Tokens that the encoder reads at a time, see `Tokeniser`; None for all.
        further: Further taxonomies, each with a head of its own whose outputs come behind: `taxonomy`, `loss`,
            `class_weights` and `loss_settings` as above, and `weight`, see `Task`. None for none.
    """

    KIND = CLASSIFIER

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
        max_false_negative_rate: float | None = None,
        head: str = "linear",
        head_width: int | None = None,
        encoder_training: str = "full",
        lora: dict[str, Any] | None = None,
        loss_settings: dict[str, Any] | None = None,
        window: int | None = None,
        further: list[dict[str, Any]] | None = None,
    ) -> None:
        main = {"taxonomy": taxonomy, "loss": loss, "class_weights": class_weights, "loss_settings": loss_settings}
        tasks = build_tasks([main, *(further or ())], max_false_negative_rate)
        n_outputs, *further_outputs = (len(task.labels) for task in tasks)
        tokeniser = Tokeniser(tokenizer_json, pad_id, max_positions, window)
        super().__init__(
            encoder_config,
            tokeniser,
            ViewRequest(**view),
            pooling,
            dropout,
            encoder_dropout,
            n_outputs,
            head=head,
            head_width=head_width,
            encoder_training=encoder_training,
            lora=lora,
            further_outputs=further_outputs,
        )
        self.save_hyperparameters(logger=False)
        self.tasks = tasks
        self.taxonomy = tasks[0].taxonomy
        self.loss_name = loss
        self.loss_settings = tasks[0].loss_settings
        self.max_false_negative_rate = max_false_negative_rate
        weights = torch.tensor([weight for task in tasks for weight in task.class_weights])
        # Not persistent: they shape the loss, not the function, so they stay out of the weights digest.
        self.class_weights: torch.Tensor
        self.register_buffer("class_weights", weights, persistent=False)
        self._validation: list[tuple[torch.Tensor, torch.Tensor, torch.Tensor]] = []

    @classmethod
    def from_pretrained(
        cls, encoder: PretrainedEncoder, taxonomy: Taxonomy, view: ViewRequest, **options: Any
    ) -> "ValueClassifier":
        """Build a classifier on a pretrained encoder; `options` are the remaining constructor arguments.

        Label attention begins with what the encoder itself makes of the value's name and definition.
        """
        model = cls.from_encoder(encoder, view, taxonomy=taxonomy.to_dict(), **options)
        for head, task in zip((model.head, *model.further_heads), model.tasks, strict=True):
            if isinstance(head, LabelAttention):
                head.set_queries(definition_queries(model.encoder, model.tokeniser, label_texts(task.taxonomy)))
        return model

    @property
    def labels(self) -> tuple[str, ...]:
        """Names of the outputs, in order; of several taxonomies, those of the main one, which come first."""
        return self.taxonomy.labels

    @property
    def further(self) -> tuple[Task, ...]:
        """Further taxonomies, whose outputs come behind those of the main one."""
        return self.tasks[1:]

    @property
    def softmax(self) -> bool:
        """Whether the head is one choice among all values."""
        return self.loss_name == "softmax"

    @property
    def chance_thresholds(self) -> list[float]:
        """Score of each label that means "p above 1/L", NaN where none does; see `chance.chance_thresholds`."""
        return self.tasks[0].chance_thresholds

    def _loss(self, logits: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
        with torch.autocast(logits.device.type, enabled=False):
            if len(self.tasks) > 1:
                return joint_loss(self.tasks, logits, targets, self.class_weights)
            return task_loss(self.tasks[0], logits, targets, self.class_weights)

    def _logits(self, batch: Batch | FeatureBatch) -> torch.Tensor:
        if isinstance(batch, FeatureBatch):
            return self.score_features(batch.features)
        logits: torch.Tensor = self(batch.input_ids, batch.attention_mask)
        return logits

    def training_step(self, batch: Batch | FeatureBatch, batch_idx: int) -> torch.Tensor:
        """Return the loss of a batch."""
        loss = self._loss(self._logits(batch), batch.targets)
        # Lightning passes on no other steps, and takes longer to note a value than for a step of a small head.
        every: int = self.trainer.log_every_n_steps  # type: ignore[attr-defined]
        if every and (self.trainer.global_step + 1) % every == 0:
            self.log("train/loss", loss.detach(), batch_size=len(batch.targets), on_step=True, on_epoch=False)
        return loss

    def validation_step(self, batch: Batch | FeatureBatch, batch_idx: int) -> None:
        """Keep the logits of a batch for the metrics of the whole split."""
        logits = self._logits(batch)
        self._validation.append((logits.float().cpu(), batch.targets.cpu(), batch.groups.cpu()))

    def on_validation_epoch_end(self) -> None:
        """Log per-value and averaged metrics of the validation split."""
        logits, targets, groups = (torch.cat(part) for part in zip(*self._validation, strict=True))
        self._validation.clear()
        if self.trainer.sanity_checking:
            return
        self.require_finite(logits)
        losses = {}
        for task in self.tasks:
            rows = torch.from_numpy(asked(targets.numpy(), task.columns))
            own, known = (part[rows][:, task.columns].to(self.device) for part in (logits, targets))
            loss = task_loss(task, own, known, self.class_weights[task.columns])
            losses[task.qualified("loss")] = float(loss)
        self.log_validation(losses | joint_metrics(self.tasks, logits.numpy(), targets.numpy(), groups.numpy()))


def read_checkpoint(path: Path, fix: str) -> dict[str, Any]:
    """Read a classifier's checkpoint that training is to go on from; see `read_resumable`."""
    return read_resumable(ValueClassifier, path, fix)


def load_classifier(path: Path, fix: str = "--checkpoint") -> ValueClassifier:
    """Load the classifier of a checkpoint, in eval mode, on the CPU; see `load_model`."""
    return load_model(ValueClassifier, path, fix)
