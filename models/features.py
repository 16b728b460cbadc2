"""What does a frozen encoder make of texts? One pooled vector each, which no training of the head changes."""

from collections.abc import Callable
from typing import Any

import numpy as np
import pyarrow as pa
import torch
from torch import nn

from datamodules.files import digest_of
from models.digest import frozen_digest
from models.fine_tuning import FineTunedEncoder
from models.inference import evaluation_mode, score_tokens

# Rows that a head scores together: a matrix of some megabytes.
ROWS_AT_ONCE = 4096
# Where an encoder came from, which its output does not depend on.
_ORIGIN = ("dtype", "_name_or_path", "architectures", "transformers_version")


class _Pooled(nn.Module):
    """Encoder and pooling of a model, without its head."""

    def __init__(self, model: FineTunedEncoder) -> None:
        super().__init__()
        self.model = model

    def forward(self, input_ids: torch.Tensor, attention_mask: torch.Tensor) -> torch.Tensor:
        return self.model.features(input_ids, attention_mask)


def encoder_digest(model: FineTunedEncoder) -> str:
    """Return a digest of all in a model that its pooled vectors depend on: weights, architecture, pooling, window."""
    weights = frozen_digest(model).of_encoder(model.state_dict())
    config: dict[str, Any] = {name: value for name, value in model.encoder_config.items() if name not in _ORIGIN}
    return digest_of([weights, config, model.pooling.kind, model.pooling.window])


def arithmetic(device: torch.device, precision: str) -> list[str]:
    """Say what rounding the vectors depend on besides the texts: number format, kind of device, matrix products."""
    return [precision, device.type, torch.get_float32_matmul_precision()]


def pooled_features(
    model: FineTunedEncoder,
    input_ids: pa.ChunkedArray | list[list[int]],
    lengths: np.ndarray,
    precision: str = "float32",
    token_budget: int = 2048,
    on_batch: Callable[[int], None] | None = None,
) -> np.ndarray:
    """Pool token sequences into vectors, without dropout; arguments as `score_tokens`.

    Returns:
        float32 [n, hidden], in input order.
    """
    return score_tokens(_Pooled(model), input_ids, lengths, model.tokeniser.pad_id, precision, token_budget, on_batch)


def score_pooled(model: FineTunedEncoder, features: np.ndarray, rows: np.ndarray | None = None) -> np.ndarray:
    """Score pooled vectors with the head alone, in float32, on the device that the model is on.

    Args:
        model: The model whose encoder they come from.
        features: float32 [n_features, hidden], perhaps memory-mapped.
        rows: Which of them, int [n]; all when left out.

    Returns:
        Logits, float32 [n, n_outputs].
    """
    n = len(features) if rows is None else len(rows)
    if not n:
        raise ValueError("nothing to score")
    device = next(model.parameters()).device
    blocks = []
    with evaluation_mode(model):
        for start in range(0, n, ROWS_AT_ONCE):
            block = slice(start, start + ROWS_AT_ONCE)
            values = np.array(features[block if rows is None else rows[block]])
            blocks.append(model.score_features(torch.from_numpy(values).to(device)).float().cpu().numpy())
    return np.concatenate(blocks)
