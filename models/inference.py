"""How is a corpus scored, fast and in any batch size alike?"""

import contextlib
from collections.abc import Callable, Iterator

import numpy as np
import pyarrow as pa
import torch
from torch import nn

from datamodules.batching import pad, token_budget_batches
from models.precision import resolve_precision


@contextlib.contextmanager
def evaluation_mode(model: nn.Module) -> Iterator[None]:
    """Evaluate without leaving a trace: eval mode, no gradients, and all modes and random states put back after."""
    modes = [(module, module.training) for module in model.modules()]
    cuda_devices = [torch.cuda.current_device()] if torch.cuda.is_available() else []
    model.eval()
    try:
        with torch.random.fork_rng(devices=cuda_devices), torch.no_grad():
            yield
    finally:
        for module, training in modes:
            module.training = training


def score_tokens(
    model: nn.Module,
    input_ids: pa.ChunkedArray | list[list[int]],
    lengths: np.ndarray,
    pad_id: int,
    precision: str = "auto",
    token_budget: int = 2048,
    on_batch: Callable[[int], None] | None = None,
) -> np.ndarray:
    """Score token sequences in length order under a token budget.

    Args:
        model: Maps int64 ids and mask [batch, length] to logits [batch, n_labels]; scored on the device it is on.
        input_ids: Token ids of each text.
        lengths: Tokens of each text, int [n].
        pad_id: Id of the padding token.
        precision: `float32`, `bf16` (autocast) or `auto` (bf16 where the hardware has it). In float32 the result does
            not depend on the batches beyond 1e-5.
        token_budget: Padded tokens per batch.
        on_batch: Called with the number of texts after each batch, for a progress bar.

    Returns:
        Logits in input order, float32 [n, n_labels].
    """
    device = next(model.parameters()).device
    use_bf16 = resolve_precision(precision, device) == "bf16"
    logits: np.ndarray | None = None
    with evaluation_mode(model), torch.autocast(device.type, dtype=torch.bfloat16, enabled=use_bf16):
        for batch in token_budget_batches(lengths, token_budget):
            ids = [input_ids[int(i)] for i in batch]
            rows = [x.values.to_numpy() if isinstance(x, pa.Scalar) else x for x in ids]
            padded, mask = pad(rows, pad_id)
            scores = model(padded.to(device), mask.to(device)).float().cpu().numpy()
            if logits is None:
                logits = np.empty((len(lengths), scores.shape[1]), dtype=np.float32)
            logits[batch] = scores
            if on_batch is not None:
                on_batch(len(batch))
    if logits is None:
        raise ValueError("nothing to score")
    return logits
