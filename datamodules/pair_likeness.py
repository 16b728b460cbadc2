"""How alike are the two sides of a pair, and which pairs say the same, or the opposite?

Inside a pair, likeness is Jaccard's: shared words of all distinct words, case folded (Broder's resemblance of sets of
single words). Order, repeats and punctuation do not count. Across pairs, dialogues are compared by a digest of their
normalised text, so a repeat that differs in one word is not found there: that would take a comparison of all pairs.
"""

import math

import numpy as np
from numpy.typing import NDArray

from datamodules.text_features import words_of

# Sides that share nine of ten distinct words are near-identical.
NEAR = 0.9

Keys = NDArray[np.uint64]
Bools = NDArray[np.bool_]


def likeness(first: str, second: str) -> float:
    """Return the share of the distinct words of two texts that both have, in [0, 1]; NaN where neither has any."""
    one, other = ({word.casefold() for word in words_of(text)} for text in (first, second))
    n_words = len(one | other)
    return len(one & other) / n_words if n_words else math.nan


def repeats(keys: NDArray[np.uint64]) -> Bools:
    """Mark what an earlier row has said.

    Args:
        keys: Digests [n] or [n, k]; rows are equal where all of their digests are.

    Returns:
        bool [n].
    """
    _, first = np.unique(keys, axis=0, return_index=True)
    marks = np.ones(len(keys), dtype=np.bool_)
    marks[first] = False
    return marks


def swapped(keys: Keys) -> Bools:
    """Mark pairs whose two texts are, the other way round, another pair's.

    Args:
        keys: Digests of both sides [n, 2]. A pair of equal sides has no other way round.

    Returns:
        bool [n]; both pairs are marked.
    """
    n = len(keys)
    _, code = np.unique(np.concatenate([keys, keys[:, ::-1]]), axis=0, return_inverse=True)
    code = code.reshape(-1)
    return np.asarray(np.isin(code[n:], code[:n]) & (keys[:, 0] != keys[:, 1]), dtype=np.bool_)


def chosen_and_rejected(keys: Keys, is_tie: Bools) -> Bools:
    """Mark sides that are chosen in one pair and rejected in another one, under the same prompt.

    Args:
        keys: Digests of both sides with their prompts [n, 2].
        is_tie: Pairs without a preference [n]; they, and pairs of equal sides, neither mark nor are marked.

    Returns:
        bool [n, 2]. In rankings of more than two responses, those between the best and the worst are marked: there it
        is no contradiction.
    """
    decided = ~is_tie & (keys[:, 0] != keys[:, 1])
    both_ways = np.intersect1d(keys[decided, 0], keys[decided, 1])
    return np.asarray(np.isin(keys, both_ways) & decided[:, None], dtype=np.bool_)
