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


def unanimous_p_value(differences: ArrayLike, n_clusters: ArrayLike) -> NDArray[np.float64]:
    """P-value of paired differences that are all the same, where no error can be seen.

    The exact sign-flip test: under the null hypothesis each cluster's differences are as likely with the other sign, so
    G clusters that all point one way have p = 2 / 2^G (1 for a single one). No difference at all gives 1.

    Args:
        differences: [n, k], finite.
        n_clusters: G per column [k].

    Returns:
        [k]; NaN where differences vary, or there are none.
    """
    d = np.asarray(differences, dtype=np.float64)
    p = np.full(d.shape[1], np.nan)
    if len(d):
        same = (d == d[0]).all(axis=0)
        flips = np.minimum(1.0, 2.0 ** (1.0 - np.asarray(n_clusters, dtype=np.float64)))
        p[same] = np.where(d[0] == 0, 1.0, flips)[same]
    return p
