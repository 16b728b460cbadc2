"""How do token states become one score per output?

A `linear` or `mlp` head scores the one vector that pooling makes of a text. `label-attention` pools anew for every
label (Mullenbach et al. 2018, "Explainable prediction of medical codes from clinical text").
"""

import math
from collections.abc import Sequence

import torch
from torch import nn
from torch.nn import functional

from datamodules.batching import pad
from datamodules.errors import InputError
from datamodules.taxonomy import Taxonomy
from datamodules.tokenise import Tokeniser
from models.encoder import Pooling
from models.inference import evaluation_mode

HEADS = ("linear", "mlp", "label-attention")
# Width of the hidden layer of `mlp` where none is given.
MLP_WIDTH = 256
SIGNS = ("in favour of", "against")
# How much a query prefers, at first, a token that points where it does to one at a right angle to it, as a difference
# of logits. As embedded, queries of all-MiniLM-L6-v2 are so short that every token gets nearly the same.
SHARPNESS = 10.0
# Definitions that are read at once.
_TEXTS_AT_ONCE = 32


class LabelAttention(nn.Module):
    """One query per label: it attends over the token states of a text, and what it pools there is scored.

    Queries are zero until `set_queries` and then attend evenly to all tokens.

    Args:
        hidden_size: Width of the token states.
        n_outputs: Number of labels.
        dropout: Dropout rate of the pooled vectors.
    """

    def __init__(self, hidden_size: int, n_outputs: int, dropout: float) -> None:
        super().__init__()
        self.query = nn.Parameter(torch.zeros(n_outputs, hidden_size))
        self.dropout = nn.Dropout(dropout)
        self.score = nn.Linear(hidden_size, n_outputs)

    def set_queries(self, queries: torch.Tensor) -> None:
        """Begin with these queries, float [n_outputs, hidden_size]."""
        with torch.no_grad():
            self.query.copy_(queries)

    def attention(self, states: torch.Tensor, attention_mask: torch.Tensor) -> torch.Tensor:
        """Return the share of each token in the vector of each label, float32 [batch, n_outputs, length]."""
        scores = self.query @ states.float().transpose(1, 2) / math.sqrt(states.shape[-1])
        masked = scores.masked_fill(attention_mask.unsqueeze(1) == 0, torch.finfo(torch.float32).min)
        shares: torch.Tensor = torch.softmax(masked, dim=-1)
        return shares

    def forward(self, states: torch.Tensor, attention_mask: torch.Tensor) -> torch.Tensor:
        """Score token states [batch, length, hidden] under a mask [batch, length] to float32 [batch, n_outputs]."""
        pooled = self.dropout(self.attention(states, attention_mask) @ states.float())
        scores: torch.Tensor = (pooled * self.score.weight).sum(dim=-1) + self.score.bias
        return scores


def build_head(
    kind: str, hidden_size: int, n_outputs: int, width: int | None, dropout: float, bias: bool = True
) -> nn.Module:
    """Build a head with random weights.

    Args:
        kind: `linear` or `mlp`, which take pooled vectors [batch, hidden], or `label-attention`, which takes token
            states and their mask.
        hidden_size: Width of the token states.
        n_outputs: Number of scores.
        width: Width of the hidden layer (`mlp` only).
        dropout: Dropout rate inside the head.
        bias: Whether the scores have a bias (not for `label-attention`, which always has).

    Raises:
        InputError: An unknown kind, or a width that does not suit it.
    """
    if kind not in HEADS:
        raise InputError(f"head {kind!r}", f"one of {', '.join(HEADS)}", "--model.head")
    if (kind == "mlp") != (width is not None and width >= 1):
        raise InputError(f"head {kind} with a hidden layer of width {width}", "a width for mlp only", "--model.head")
    match kind:
        case "mlp":
            assert width is not None
            hidden, scores = nn.Linear(hidden_size, width), nn.Linear(width, n_outputs, bias)
            return nn.Sequential(hidden, nn.GELU(), nn.Dropout(dropout), scores)
        case "label-attention":
            return LabelAttention(hidden_size, n_outputs, dropout)
        case _:
            return nn.Linear(hidden_size, n_outputs, bias)


def label_texts(taxonomy: Taxonomy) -> list[str]:
    """Say in words what each label means, in label order: name and definition, after a sign where there are signs."""
    described = [f"{value.name}: {value.definition}" if value.definition else value.name for value in taxonomy.values]
    if not taxonomy.signed:
        return described
    return [f"{sign} {text}" for text in described for sign in SIGNS]


def definition_queries(encoder: nn.Module, tokeniser: Tokeniser, texts: Sequence[str]) -> torch.Tensor:
    """Return queries for `LabelAttention` that look for what sets a text apart, by the encoder's mean token states.

    Args:
        encoder: The encoder, which is left as it was.
        tokeniser: Its tokeniser.
        texts: What each label means; one longer than the encoder reads at a time is cut.

    Returns:
        float32 [n_texts, hidden], as long as makes their logits `SHARPNESS` times the cosine with a usual token state.
    """
    ids = tokeniser.encode([("", text) for text in texts], tokeniser.window or tokeniser.max_positions).ids
    device = next(encoder.parameters()).device
    means, lengths = [], []
    with evaluation_mode(encoder):
        for start in range(0, len(ids), _TEXTS_AT_ONCE):
            padded, mask = (x.to(device) for x in pad(ids[start : start + _TEXTS_AT_ONCE], tokeniser.pad_id))
            states = encoder(input_ids=padded, attention_mask=mask).last_hidden_state
            means.append(Pooling("mean", states.shape[-1])(states, mask))
            lengths.append(states.float().norm(dim=-1)[mask == 1])
    embedded = torch.cat(means)
    if len(texts) > 1:
        # What all definitions have in common points at punctuation and special tokens.
        embedded = embedded - embedded.mean(dim=0)
    embedded = functional.normalize(embedded, dim=-1)
    return embedded * SHARPNESS * math.sqrt(embedded.shape[-1]) / torch.cat(lengths).mean()
