"""Did two judgements of the same items differ?"""

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy import stats


def exact_mcnemar(b: ArrayLike, c: ArrayLike) -> NDArray[np.float64]:
    """Test exactly whether items changed in one direction as often as in the other (McNemar).

    p = min(1, 2 * P(X <= min(b, c))) with X ~ Binomial(b + c, 1/2); 1 when nothing changed. Valid only when items are
    independent: with several items per prompt use the paired difference of `clustered_mean`.

    Args:
        b: Items that changed one way, integers of any shape.
        c: Items that changed the other way, same shape.

    Returns:
        Two-sided p-values of that shape (a 0-d array for two numbers).

    Raises:
        ValueError: A count is negative or not whole.
    """
    first, second = np.asarray(b), np.asarray(c)
    for counts in (first, second):
        if (counts < 0).any() or (counts != np.floor(counts)).any():
            raise ValueError("counts must be whole and not negative")
    p_value = 2 * stats.binom.cdf(np.minimum(first, second), first + second, 0.5)
    return np.minimum(np.asarray(p_value, dtype=np.float64), 1.0)
