"""How does an encoder read a text that is longer than one window?

In windows that know nothing of each other: every one is a text of its own to the encoder, with its own special tokens
(`datamodules.tokenise` lays them out behind one another). What it makes of all of them stands side by side, and
pooling reads that as it reads a short text.
"""

import torch
from torch import nn
from torch.nn import functional


def token_states(
    encoder: nn.Module, input_ids: torch.Tensor, attention_mask: torch.Tensor, window: int | None
) -> torch.Tensor:
    """Encode texts.

    Args:
        encoder: A transformers encoder.
        input_ids: int64 [batch, length], padded on the right; window k of a text begins at k * window.
        attention_mask: int64 [batch, length].
        window: Tokens that the encoder reads at a time; None for all.

    Returns:
        Token states [batch, length, hidden]; 0 in windows that are all padding.
    """
    batch, length = input_ids.shape
    if window is None or length <= window:
        states: torch.Tensor = encoder(input_ids=input_ids, attention_mask=attention_mask).last_hidden_state
        return states
    missing = -length % window
    # Filled up with whatever token 0 is: the mask hides it.
    ids, mask = (functional.pad(each, (0, missing)).view(-1, window) for each in (input_ids, attention_mask))
    sizes = mask.sum(dim=1)
    joined: torch.Tensor | None = None
    # Last windows apart: filled up to whole ones they would cost as much.
    for rows in (sizes == window, (sizes > 0) & (sizes < window)):
        if not bool(rows.any()):
            continue
        longest = int(sizes[rows].max())
        states = encoder(input_ids=ids[rows, :longest], attention_mask=mask[rows, :longest]).last_hidden_state
        if joined is None:
            joined = states.new_zeros(*ids.shape, states.shape[-1])
        joined[rows, :longest] = states
    if joined is None:
        raise ValueError("texts without a token")
    return joined.view(batch, length + missing, -1)[:, :length]
