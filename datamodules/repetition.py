"""Does a text only repeat itself, as models do that have lost the thread?"""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from datamodules.text_features import words_of

RUN = 4
# None of 900 responses of GPT-4 and Llama 2 to XSTest repeats this much, 0.1% to 0.6% of GPT-2's do.
MOST_REPEATED = 0.3


def repeated_share(text: str) -> float:
    """Return the share of runs of four words that occurred before (Welleck et al. 2020, seq-rep-4), case folded.

    Returns:
        In [0, 1); NaN with fewer than four words.
    """
    words = [word.casefold() for word in words_of(text)]
    runs = list(zip(*(words[k:] for k in range(RUN)), strict=False))
    return 1 - len(set(runs)) / len(runs) if runs else np.nan


def is_repetitive(texts: Sequence[str]) -> NDArray[np.bool_]:
    """Tell which texts repeat at least `MOST_REPEATED` of their runs of words, bool [n]; short ones do not."""
    return np.array([repeated_share(text) >= MOST_REPEATED for text in texts], dtype=np.bool_)
