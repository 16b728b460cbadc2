"""How are p-values read when many values are tested at once?

All three leave a p-value that is not finite as NaN and out of the family's size m: it was no test.
"""

from collections.abc import Callable

import numpy as np
from numpy.typing import ArrayLike, NDArray

Floats = NDArray[np.float64]


def holm(p_values: ArrayLike) -> Floats:
    """Adjust p-values [m] by Holm's step-down: controls the chance of any false finding, never above Bonferroni."""
    return _over_finite(p_values, _holm)


def bonferroni(p_values: ArrayLike) -> Floats:
    """Adjust p-values [m] by Bonferroni: m * p, at most 1 (what SEAL published)."""
    return _over_finite(p_values, lambda p: np.minimum(p * len(p), 1.0))


def benjamini_hochberg(p_values: ArrayLike) -> Floats:
    """Adjust p-values [m] by Benjamini and Hochberg: q-values, the expected share of false findings."""
    return _over_finite(p_values, _benjamini_hochberg)


def _holm(p: Floats) -> Floats:
    order = np.argsort(p, kind="stable")
    m = len(p)
    adjusted = np.empty(m)
    adjusted[order] = np.minimum(np.maximum.accumulate(p[order] * np.arange(m, 0, -1)), 1.0)
    return adjusted


def _benjamini_hochberg(p: Floats) -> Floats:
    order = np.argsort(p, kind="stable")
    m = len(p)
    adjusted = np.empty(m)
    adjusted[order] = np.minimum(np.minimum.accumulate((p[order] * m / np.arange(1, m + 1))[::-1])[::-1], 1.0)
    return adjusted


def _over_finite(p_values: ArrayLike, adjust: Callable[[Floats], Floats]) -> Floats:
    """Apply `adjust` to the finite p-values and leave the rest NaN; a p-value outside [0, 1] raises ValueError."""
    p = np.asarray(p_values, dtype=np.float64)
    finite = np.isfinite(p)
    if p.ndim != 1 or (p[finite] < 0).any() or (p[finite] > 1).any():
        raise ValueError("a one-dimensional array of p-values in [0, 1] is needed")
    adjusted = np.full(p.shape, np.nan)
    adjusted[finite] = adjust(p[finite])
    return adjusted
