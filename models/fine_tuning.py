"""How is a pretrained encoder fine-tuned, whatever its head?"""

from collections.abc import Sequence
from dataclasses import asdict
from typing import Any, ClassVar, Self

import numpy as np
import pytorch_lightning as pl
import torch
from torch import nn

from datamodules.errors import InputError
from datamodules.tokenise import Tokeniser
from datamodules.views import ViewRequest
from models.adapters import Lora, add_adapters, load_base_weights, merged_weights
from models.checkpoint_file import CheckpointKind
from models.encoder import Pooling, PretrainedEncoder, build_encoder
from models.heads import LabelAttention, build_head
from models.optimisation import Optimisation, parameter_groups
from models.windows import token_states

TRAININGS = ("full", "frozen", "lora")


class FineTunedEncoder(pl.LightningModule):
    """Encoder, pooling, dropout and a head, with all that moves their weights; a subclass has the loss.

    Pretrained weights and the optimisation come in after construction: `from_pretrained`, `optimisation`. The arguments
    of a subclass are plain values that it saves as hyper-parameters, so that a checkpoint holds all that rebuilds it
    (also the tokenizer) and loads under `weights_only=True`.

    Args:
        encoder_config: transformers configuration of the encoder.
        tokeniser: Its tokeniser; its window is what the encoder reads at a time.
        view: What is read, and how it is cut.
        pooling: `mean`, `cls` or `attention`.
        dropout: Dropout rate before the head.
        encoder_dropout: New rate for the encoder's own dropout layers; None keeps the configured ones.
        n_outputs: Width of the head.
        head_bias: Whether the head has a bias.
        head: `linear`, `mlp` or `label-attention`, see `models.heads`.
        head_width: Width of the hidden layer of `mlp`; None for the others.
        encoder_training: `full`, `frozen` (the encoder is a fixed function of its tokens) or `lora` (adapters alone).
        lora: Fields of `Lora`, targets given; None without adapters.
        further_outputs: Widths of further heads of the same kind, whose outputs come behind those of the first.

    Raises:
        InputError: An unknown name, or two settings of which one leaves the other nothing to do.
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
        head: str = "linear",
        head_width: int | None = None,
        encoder_training: str = "full",
        lora: dict[str, Any] | None = None,
        further_outputs: Sequence[int] = (),
    ) -> None:
        super().__init__()
        _check_architecture(head, pooling, encoder_training, lora, encoder_dropout)
        self.encoder_config = encoder_config
        self.encoder_training = encoder_training
        self.view = view
        self.tokeniser = tokeniser
        self.encoder = build_encoder(encoder_config, encoder_dropout)
        hidden_size = int(self.encoder.config.hidden_size)  # type: ignore[union-attr,arg-type]
        if encoder_training == "frozen":
            self.encoder.requires_grad_(False)
        elif lora is not None:
            add_adapters(self.encoder, Lora.from_dict(lora))
        self.pooling = Pooling(pooling, hidden_size, tokeniser.window)
        self.dropout = nn.Dropout(dropout)
        self.head = build_head(head, hidden_size, n_outputs, head_width, dropout, head_bias)
        # Behind it: the first head begins as it does without them.
        self.further_heads = nn.ModuleList(
            build_head(head, hidden_size, n, head_width, dropout, head_bias) for n in further_outputs
        )
        self.optimisation: Optimisation | None = None
        self._trained: list[nn.Parameter] = []

    @classmethod
    def from_encoder(cls, encoder: PretrainedEncoder, view: ViewRequest, **options: Any) -> Self:
        """Build a model on a pretrained encoder.

        Args:
            encoder: The encoder.
            view: What is read, and how it is cut.
            options: The remaining arguments of the subclass; what `lora` leaves out has its default.
        """
        if options.get("lora") is not None:
            lora = Lora.from_dict(options["lora"])
            options["lora"] = lora.with_defaults(encoder.config["model_type"]).to_dict()
        arguments: dict[str, Any] = {
            "encoder_name": encoder.name,
            "encoder_config": encoder.config,
            "tokenizer_json": encoder.tokenizer_json,
            "pad_id": encoder.pad_id,
            "max_positions": encoder.max_positions,
            "view": asdict(view),
        }
        model = cls(**arguments, **options)
        load_base_weights(model.encoder, encoder.weights)
        return model

    @property
    def has_vector_features(self) -> bool:
        """Whether pooling has no weights of its own, so that `features` are one vector a text."""
        return self.pooling.kind != "attention" and not isinstance(self.head, LabelAttention)

    def forward(self, input_ids: torch.Tensor, attention_mask: torch.Tensor) -> torch.Tensor:
        """Score texts: int64 ids and mask [batch, length] to float32 outputs of the head [batch, n_outputs]."""
        return self.score_features(self.features(input_ids, attention_mask), attention_mask)

    def features(self, input_ids: torch.Tensor, attention_mask: torch.Tensor) -> torch.Tensor:
        """Return what trained weights behind the encoder read; of a frozen encoder a pure function of the tokens.

        Args:
            input_ids: int64 [batch, length].
            attention_mask: int64 [batch, length].

        Returns:
            float32: pooled vectors [batch, hidden], or token states [batch, length, hidden] where pooling is learnt.
        """
        states = token_states(self.encoder, input_ids, attention_mask, self.tokeniser.window)
        return self.pooling(states, attention_mask) if self.has_vector_features else states.float()

    def score_features(self, features: torch.Tensor, attention_mask: torch.Tensor | None = None) -> torch.Tensor:
        """Score what `features` returned; the mask is needed for token states. Returns float32 [batch, n_outputs]."""
        # The head stays in float32 under autocast: it is tiny, and its rounding would flip decisions.
        with torch.autocast(features.device.type, enabled=False):
            if isinstance(self.head, LabelAttention):
                return self._outputs(features, attention_mask)
            pooled = features if self.has_vector_features else self.pooling(features, attention_mask)
            return self._outputs(self.dropout(pooled))

    def _outputs(self, *read: torch.Tensor | None) -> torch.Tensor:
        outputs: torch.Tensor = self.head(*read)
        if not len(self.further_heads):
            return outputs
        return torch.cat([outputs, *(head(*read) for head in self.further_heads)], dim=-1)

    def train(self, mode: bool = True) -> Self:
        """Set the mode of every module; a frozen encoder stays in eval mode."""
        super().train(mode)
        if self.encoder_training == "frozen":
            self.encoder.eval()
        return self

    def merged(self) -> nn.Module:
        """Return a plain transformers encoder of its own, in eval mode, that computes what the trained one does."""
        encoder = build_encoder(self.encoder_config)
        encoder.load_state_dict(merged_weights(self.encoder))
        return encoder.to(self.device).eval()

    def parameter_counts(self) -> dict[str, int]:
        """Return the numbers of `trainable` and `total` parameters."""
        counts = [(parameter.numel(), parameter.requires_grad) for parameter in self.parameters()]
        return {"trainable": sum(n for n, trained in counts if trained), "total": sum(n for n, _ in counts)}

    def require_finite(self, outputs: torch.Tensor) -> None:
        """Raise InputError when training has diverged."""
        if not bool(torch.isfinite(outputs).all()):
            found = f"scores that are not finite after step {self.trainer.global_step}: training has diverged"
            raise InputError(found, "finite scores", "lower --optim.lr_encoder and --optim.lr_head")

    def log_validation(self, metrics: dict[str, float]) -> None:
        """Log metrics of the validation split, named `val/...`.

        All go to the loggers, at the step of the checkpoint that is saved with them (Lightning would log them one step
        below). To callbacks go averages and what a checkpoint is picked by: Lightning takes milliseconds for each, and
        for all values of a large taxonomy longer than training a head.
        """
        named = {f"val/{name}": value for name, value in metrics.items()}
        picked = {getattr(callback, "monitor", None) for callback in self.trainer.checkpoint_callbacks}
        step = self.trainer.global_step
        shown = {name: value for name, value in named.items() if name.count("/") == 1 or name in picked}
        self.log_dict({**shown, "step": float(step)}, logger=False)
        for logger in self.trainer.loggers:
            logger.log_metrics(named, step)

    def on_train_epoch_start(self) -> None:
        """Put every module into training mode, but for a frozen encoder.

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
        seed = int(sequence.generate_state(1)[0])
        # As torch.manual_seed, which takes a stack trace for every kind of device that is not in use.
        torch.default_generator.manual_seed(seed)
        if torch.cuda.is_available():
            torch.cuda.manual_seed_all(seed)

    def configure_optimizers(self) -> Any:
        """AdamW with one rate for the encoder and one for the head, stepped once per optimiser step."""
        if self.optimisation is None:
            raise RuntimeError("set `optimisation` before fitting")
        # Found once: to walk through all modules takes longer than a step of a head on cached vectors.
        self._trained = [parameter for parameter in self.parameters() if parameter.requires_grad]
        # Fused: on a CPU the loop over single tensors takes a quarter of the step of a small encoder.
        optimizer = torch.optim.AdamW(parameter_groups(self, self.optimisation), fused=True)
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
            torch.nn.utils.clip_grad_norm_(self._trained, gradient_clip_val)

    def on_train_start(self) -> None:
        """Put the configured rates back: restoring a checkpoint's optimiser would silently bring the old ones."""
        if self.optimisation is None:
            raise RuntimeError("set `optimisation` before fitting")
        scheduler = self.lr_schedulers()
        fresh = parameter_groups(self, self.optimisation)
        scheduler.base_lrs = [group["lr"] for group in fresh]  # type: ignore[union-attr]
        factor = self.optimisation.factor(scheduler.last_epoch)  # type: ignore[union-attr]
        for group, configured in zip(self.optimizers().param_groups, fresh, strict=True):  # type: ignore[union-attr]
            group["initial_lr"] = configured["lr"]
            group["lr"] = configured["lr"] * factor
            group["weight_decay"] = configured["weight_decay"]


def _check_architecture(
    head: str, pooling: str, encoder_training: str, lora: dict[str, Any] | None, encoder_dropout: float | None
) -> None:
    """Check names, and that no setting would act nowhere."""
    if encoder_training not in TRAININGS:
        needed = f"one of {', '.join(TRAININGS)}"
        raise InputError(f"encoder_training {encoder_training!r}", needed, "--model.encoder_training")
    if (encoder_training == "lora") != (lora is not None):
        found = f"encoder_training {encoder_training} {'without' if lora is None else 'with'} adapters"
        raise InputError(found, "adapters for lora only", "--model.encoder_training")
    if encoder_training == "frozen" and encoder_dropout is not None:
        found = f"encoder_dropout {encoder_dropout} in a frozen encoder, which always computes the same"
        raise InputError(found, "an encoder that is trained", "leave --model.encoder_dropout out")
    if head == "label-attention" and pooling != "mean":
        found = f"pooling {pooling} with head label-attention, which pools by itself"
        raise InputError(found, "another head, or no pooling", "leave --model.pooling out")
