"""What does a cut after the first n tokens hide from a reader of preference pairs?

Value Imprint reads the first 128 tokens of each whole dialogue. Where the sides of a pair agree so far, no model can
tell them apart. GPT-2's pre-tokens (Radford et al. 2019) bound how often that happens without any vocabulary: no BPE
token spans two of them, so n tokens never reach beyond n pre-tokens, and the true shares are at least these.
"""

from collections.abc import Sequence
from dataclasses import dataclass

from tokenizers.pre_tokenizers import ByteLevel


@dataclass(frozen=True, slots=True)
class TruncationBound:
    """Lower bounds on what the cut hides, of `n_pairs` pairs."""

    n_pairs: int
    n_identical: int
    """Pairs whose sides are the same within the cut."""
    n_answer_lost: int
    """Pairs whose prompt fills the cut, so that nothing of the final answer is left."""


def truncation_bound(
    texts_chosen: Sequence[str], texts_rejected: Sequence[str], prompts: Sequence[str], n: int
) -> TruncationBound:
    """Count pairs that a cut after the first `n` GPT-2 pre-tokens makes identical or robs of their final answer.

    For a model with two special tokens and a window of 128, n is 126. White space in front of a text counts, as it does
    for a byte-level tokenizer: hh-rlhf as published starts with a blank line, two pre-tokens that the canonical text
    lacks.

    Args:
        texts_chosen: Whole dialogues, one a pair.
        texts_rejected: The other sides, in the same order.
        prompts: What comes before the final answer of a pair, without its role marker.
        n: Length of the cut in pre-tokens, at least 1.

    Raises:
        ValueError: The three sequences differ in length, or `n` is below 1.
    """
    if n < 1:
        raise ValueError(f"n is {n}, needs to be at least 1")
    splitter = ByteLevel(add_prefix_space=False)

    def cut(text: str) -> list[str]:
        return [token for token, _ in splitter.pre_tokenize_str(text)[:n]]

    pairs = list(zip(texts_chosen, texts_rejected, prompts, strict=True))
    return TruncationBound(
        n_pairs=len(pairs),
        n_identical=sum(cut(chosen) == cut(rejected) for chosen, rejected, _ in pairs),
        n_answer_lost=sum(len(cut(prompt)) == n for _, _, prompt in pairs),
    )
