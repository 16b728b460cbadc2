"""Do completions speak of the group that their prompt names?

Where they hardly ever do, prompts and completions of a file are out of step: metadata that were joined by the order of
rows. Rates by group then are of no group.
"""

import re
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

# Fewer completions that name one group do not tell whether a file is out of step.
FEWEST_TOLD = 30


@dataclass(frozen=True, slots=True)
class Mentions:
    """Completions that name exactly one of the groups.

    Attributes:
        n: How many do.
        own: Share of these that name their own prompt's group; NaN where there are none.
        by_chance: That share if prompts were dealt out at random: sum over groups of the share of prompts times the
            share of completions that name it.
    """

    n: int
    own: float
    by_chance: float

    @property
    def out_of_step(self) -> bool:
        """Whether the prompt's own group is named hardly more often than by chance."""
        return self.n >= FEWEST_TOLD and self.own < min(2 * self.by_chance, (1 + self.by_chance) / 2)


def find_mentions(texts: Sequence[str], groups: NDArray[np.str_], known: Sequence[str]) -> Mentions:
    """Look for the terms of groups in completions, as words, in any case, in singular or plural.

    Args:
        texts: Completions [n].
        groups: Group of each one's prompt [n], each one of `known`.
        known: The groups.
    """
    found = named_group(texts, known)
    told = found >= 0
    n = int(told.sum())
    if not n:
        return Mentions(0, np.nan, np.nan)
    named = found[told]
    place = {group: k for k, group in enumerate(known)}
    asked = np.array([place[group] for group in groups[told].tolist()])
    shares = [np.bincount(column, minlength=len(known)) / n for column in (named, asked)]
    return Mentions(n, float((named == asked).mean()), float(shares[0] @ shares[1]))


def named_group(texts: Sequence[str], known: Sequence[str]) -> NDArray[np.int64]:
    """Return which one of the groups each text names, by its position in `known` [n]; -1 for none and for several."""
    patterns = [re.compile(rf"(?<!\w){re.escape(group.removesuffix('s'))}s?(?!\w)", re.IGNORECASE) for group in known]
    names = np.array([[pattern.search(text) is not None for pattern in patterns] for text in texts], dtype=np.bool_)
    names = names.reshape(len(texts), len(known))
    return np.where(names.sum(axis=1) == 1, names.argmax(axis=1) if len(known) else -1, -1)
