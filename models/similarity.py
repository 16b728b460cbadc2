"""Does a rewrite still mean what the original means?

The cosine of two sentence embeddings says so, roughly: token states of a pretrained encoder, averaged and normalised to
length 1 (all-MiniLM-L6-v2 was trained for exactly this). A long text is not cut: it is read in windows, and its
embedding is the mean over the tokens of all of them, so that a change near its end counts. A cosine near 1 is no proof:
a dropped "not" moves it little.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from tokenizers import Tokenizer
from torch import nn

from datamodules.errors import InputError
from models.encoder import Pooling, PretrainedEncoder, build_encoder
from models.inference import score_tokens

# all-MiniLM-L6-v2 reads 256 word pieces as published.
WINDOW = 256


@dataclass(frozen=True, slots=True, eq=False)
class Gate:
    """Which rewrites mean what their originals mean, by a threshold.

    Attributes:
        threshold: Lowest similarity that is let through.
        is_kept: Whether the rewrite is let through, bool [n].
        n_below: Rewrites with a similarity below the threshold.
        n_undefined: Rewrites without a similarity; they are not let through.
    """

    threshold: float
    is_kept: np.ndarray
    n_below: int
    n_undefined: int


def gate(similarity: np.ndarray, threshold: float, fix: str) -> Gate:
    """Let rewrites through whose similarity is at least the threshold.

    Args:
        similarity: float64 [n], NaN where undefined.
        threshold: In [-1, 1].
        fix: The setting that names the threshold; becomes the `fix` of the error.

    Raises:
        InputError: A threshold outside [-1, 1].
    """
    if not -1 <= threshold <= 1:
        raise InputError(f"a similarity threshold of {threshold}", "a number from -1 to 1", fix)
    is_undefined = np.isnan(similarity)
    is_kept = similarity >= threshold
    return Gate(threshold, is_kept, int((~is_kept & ~is_undefined).sum()), int(is_undefined.sum()))


def similarities(
    originals: Sequence[str],
    rewrites: Sequence[str],
    encoder: PretrainedEncoder,
    *,
    window: int | None = None,
    device: torch.device | None = None,
    token_budget: int = 2048,
    on_batch: Callable[[int], None] | None = None,
) -> np.ndarray:
    """Return the cosine similarity of each original and its rewrite; equal texts are read once.

    Args:
        originals: Texts.
        rewrites: As many texts.
        encoder: A sentence encoder with mean pooling, such as the bundled one.
        window: Tokens read at once, special tokens included; `WINDOW`, or all that the encoder reads where that is
            less, where none is given.
        device: Where it computes; the CPU where none is given.
        token_budget: Padded tokens per batch.
        on_batch: Called with the number of windows after each batch, for a progress bar.

    Returns:
        Cosines in [-1, 1], float64 [n]; NaN where either text is blank.

    Raises:
        InputError: A window that is longer than the encoder can read, or too short for a text.
        ValueError: The two sequences differ in length.
    """
    if len(originals) != len(rewrites):
        raise ValueError(f"{len(originals)} originals and {len(rewrites)} rewrites")
    distinct = dict.fromkeys(text for text in (*originals, *rewrites) if text.strip())
    place = {text: i for i, text in enumerate(distinct)}
    if not place:
        return np.full(len(originals), np.nan)
    vectors = embeddings(
        list(place), encoder, window=window, device=device, token_budget=token_budget, on_batch=on_batch
    )
    pairs = [(place.get(a, -1), place.get(b, -1)) for a, b in zip(originals, rewrites, strict=True)]
    left, right = np.array(pairs, dtype=np.int64).T
    cosines = np.clip(np.einsum("nd,nd->n", vectors[left], vectors[right]), -1.0, 1.0)
    return np.where((left < 0) | (right < 0), np.nan, cosines)


def embeddings(
    texts: Sequence[str],
    encoder: PretrainedEncoder,
    *,
    window: int | None = None,
    device: torch.device | None = None,
    token_budget: int = 2048,
    on_batch: Callable[[int], None] | None = None,
) -> np.ndarray:
    """Return sentence embeddings of length 1, float64 [n, hidden], computed in float32.

    Args:
        texts: At least one; none is blank.
        encoder: A sentence encoder with mean pooling.
        window: As `similarities`.
        device: Where it computes; the CPU where none is given.
        token_budget: Padded tokens per batch.
        on_batch: Called with the number of windows after each batch.

    Raises:
        InputError: As `similarities`.
    """
    ids, owners = _windows(texts, encoder, min(WINDOW, encoder.max_positions) if window is None else window)
    lengths = np.array([len(row) for row in ids], dtype=np.int64)
    model = _SentenceEncoder(encoder).to(device or torch.device("cpu"))
    means = score_tokens(model, ids, lengths, encoder.pad_id, "float32", token_budget, on_batch).astype(np.float64)
    sums = np.zeros((len(texts), means.shape[1]))
    np.add.at(sums, owners, means * lengths[:, None])
    normalised: np.ndarray = sums / np.linalg.norm(sums, axis=1, keepdims=True)
    return normalised


def _windows(texts: Sequence[str], encoder: PretrainedEncoder, window: int) -> tuple[list[list[int]], np.ndarray]:
    """Cut token ids into windows that do not overlap; return them and the text that each belongs to, int64."""
    tokenizer = Tokenizer.from_str(encoder.tokenizer_json)
    shortest = tokenizer.num_special_tokens_to_add(is_pair=False) + 1
    if not shortest <= window <= encoder.max_positions:
        needed = f"{shortest} to {encoder.max_positions} tokens"
        raise InputError(f"a similarity window of {window} tokens", needed, "the window setting")
    tokenizer.no_padding()
    tokenizer.enable_truncation(window, stride=0)
    pieces = [
        (i, piece.ids)
        for i, first in enumerate(tokenizer.encode_batch(list(texts)))
        for piece in (first, *first.overflowing)
    ]
    return [ids for _, ids in pieces], np.array([i for i, _ in pieces], dtype=np.int64)


class _SentenceEncoder(nn.Module):
    """Maps token ids and mask, int64 [batch, length], to the mean token state, float32 [batch, hidden]."""

    def __init__(self, encoder: PretrainedEncoder) -> None:
        super().__init__()
        self.encoder = build_encoder(encoder.config)
        self.encoder.load_state_dict(encoder.weights)
        hidden_size = int(self.encoder.config.hidden_size)  # type: ignore[union-attr,arg-type]
        self.pooling = Pooling("mean", hidden_size)

    def forward(self, input_ids: torch.Tensor, attention_mask: torch.Tensor) -> torch.Tensor:
        states = self.encoder(input_ids=input_ids, attention_mask=attention_mask).last_hidden_state
        means: torch.Tensor = self.pooling(states, attention_mask)
        return means
