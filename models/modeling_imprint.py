"""Which probability has each value in a text?

This file is copied as it stands into every folder that `imprint export` writes (Apache-2.0). It needs torch and
transformers alone, which import it when such a folder is loaded with `trust_remote_code=True`. What it computes is
what `models.fine_tuning` computes; it may import nothing of imprint, so both stand written out.
"""
# mypy: disable-error-code="no-untyped-call, no-any-return, arg-type"

import math
from typing import Any

import torch
from torch import nn
from transformers import AutoConfig, AutoModel, PretrainedConfig, PreTrainedModel
from transformers.modeling_outputs import SequenceClassifierOutput


class ImprintConfig(PretrainedConfig):
    """Settings of a value classifier.

    Args:
        encoder: transformers configuration of the encoder, with its model_type.
        pooling: `mean`, `cls` or `attention`.
        head: `linear`, `mlp` or `label-attention`.
        head_width: Width of the hidden layer of `mlp`.
        settings: Everything else, among it `id2label`, `problem_type` and `thresholds`.
    """

    model_type = "imprint-classifier"

    def __init__(
        self,
        encoder: dict[str, Any] | None = None,
        pooling: str = "mean",
        head: str = "linear",
        head_width: int | None = None,
        **settings: Any,
    ) -> None:
        self.encoder = encoder or {"model_type": "bert"}
        self.pooling = pooling
        self.head = head
        self.head_width = head_width
        super().__init__(**settings)


class Pooling(nn.Module):
    """Token states [batch, length, hidden] and mask [batch, length, 1] to one vector a text [batch, hidden]."""

    def __init__(self, kind: str, hidden_size: int) -> None:
        super().__init__()
        self.kind = kind
        self.query = nn.Linear(hidden_size, 1) if kind == "attention" else None

    def forward(self, states: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
        """Pool."""
        if self.kind == "cls":
            return states[:, 0]
        if self.query is None:
            return (states * (mask / mask.sum(dim=1, keepdim=True))).sum(dim=1)
        scores = self.query(states).masked_fill(mask == 0, torch.finfo(states.dtype).min)
        return (states * scores.softmax(dim=1)).sum(dim=1)


class LabelAttention(nn.Module):
    """Token states and mask, as above, to one score a label [batch, labels], each label with a pooling of its own."""

    def __init__(self, hidden_size: int, n_labels: int) -> None:
        super().__init__()
        self.query = nn.Parameter(torch.zeros(n_labels, hidden_size))
        self.score = nn.Linear(hidden_size, n_labels)

    def forward(self, states: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
        """Score."""
        scores = self.query @ states.transpose(1, 2) / math.sqrt(states.shape[-1])
        attention = scores.masked_fill(mask.transpose(1, 2) == 0, torch.finfo(states.dtype).min).softmax(dim=-1)
        return ((attention @ states) * self.score.weight).sum(dim=-1) + self.score.bias


class ImprintForSequenceClassification(PreTrainedModel):
    """Encoder, pooling and head. The sigmoid (or softmax, see `problem_type`) of its logits is calibrated.

    Args:
        config: The settings.
    """

    config_class = ImprintConfig
    base_model_prefix = "backbone"
    main_input_name = "input_ids"
    # The encoder itself tells which of these it has.
    _supports_sdpa = True
    _supports_flash_attn = True
    _supports_flex_attn = True

    def __init__(self, config: ImprintConfig) -> None:
        attention = config._attn_implementation  # before transformers fills in what this class would take
        super().__init__(config)
        encoder_config = AutoConfig.for_model(**config.encoder)
        self.backbone = AutoModel.from_config(encoder_config, attn_implementation=attention)
        # It was trained without; weights that nothing reads would only be missing.
        if getattr(self.backbone, "pooler", None) is not None:
            self.backbone.pooler = None
        hidden, n_labels = encoder_config.hidden_size, config.num_labels
        self.pooling = Pooling(config.pooling, hidden)
        self.head: nn.Module
        if config.head == "label-attention":
            self.head = LabelAttention(hidden, n_labels)
        elif config.head == "mlp":
            width = config.head_width or hidden
            # The third is where training has its dropout: the numbers name the weights.
            self.head = nn.Sequential(nn.Linear(hidden, width), nn.GELU(), nn.Identity(), nn.Linear(width, n_labels))
        else:
            self.head = nn.Linear(hidden, n_labels)
        # Also where the rest is loaded in half precision: they are tiny, and their rounding would flip decisions.
        self._keep_in_fp32_modules_strict = {"pooling", "head"}
        self.post_init()

    def forward(
        self,
        input_ids: torch.Tensor,
        attention_mask: torch.Tensor | None = None,
        labels: torch.Tensor | None = None,
        **unused: Any,
    ) -> SequenceClassifierOutput:
        """Score texts.

        Args:
            input_ids: int64 [batch, length].
            attention_mask: 1 for tokens, 0 for padding [batch, length]; all ones when left out.
            labels: [batch, labels] of 0 and 1, or class numbers [batch] of a single-label model; adds a loss.
            unused: What else a tokenizer or a pipeline passes on; nothing of it is read.
        """
        if attention_mask is None:
            attention_mask = torch.ones_like(input_ids)
        states = self.backbone(input_ids=input_ids, attention_mask=attention_mask).last_hidden_state
        states = states.to(next(self.head.parameters()).dtype)
        mask = attention_mask.unsqueeze(-1).to(states.dtype)
        attends = isinstance(self.head, LabelAttention)
        logits = self.head(states, mask) if attends else self.head(self.pooling(states, mask))
        loss = None
        if labels is not None and self.config.problem_type == "single_label_classification":
            loss = nn.functional.cross_entropy(logits, labels)
        elif labels is not None:
            loss = nn.functional.binary_cross_entropy_with_logits(logits, labels.to(logits.dtype))
        return SequenceClassifierOutput(loss=loss, logits=logits)
