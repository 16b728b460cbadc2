"""Which groups of people do the prompts of preference pairs name?

The prompt is everything before the last response, of both speakers: what an earlier answer said of a group is a part of
what is answered. The prompt of a pair is that of its first side.
"""

from collections.abc import Callable

import numpy as np

from datamodules.dialogue import said_before
from datamodules.identity_terms import identity_terms
from datamodules.preference_data import PreferenceData

# Pairs between two calls of a progress hook.
PAIRS_AT_ONCE = 500


def named_terms(data: PreferenceData, advance: Callable[[int], None] | None = None) -> np.ndarray:
    """Look for identity terms in the prompts of pairs; reads the pairs once and holds none of them.

    Args:
        data: The pairs.
        advance: Called with a number of pairs that were looked at, for a progress bar.

    Returns:
        Whether a prompt holds a term, in the order of `identity_terms().terms`, bool [n_pairs, n_terms].
    """
    term_list = identity_terms()
    found = np.zeros((len(data.index), len(term_list.terms)), dtype=np.bool_)
    n_told = 0
    for i, pair in enumerate(data.read()):
        found[i, list(term_list.find(said_before(pair.first)))] = True
        if advance is not None and (i + 1) % PAIRS_AT_ONCE == 0:
            advance(PAIRS_AT_ONCE)
            n_told = i + 1
    if advance is not None:
        advance(len(found) - n_told)
    return found
