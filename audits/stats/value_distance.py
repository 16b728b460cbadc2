"""How far is a value vector from the one that is wished for?

A target says of each value how much of it is wished for, in [-1, 1]; NaN where it says nothing of a value, which then
counts in no distance. L1, L2 and cosine are the textbook ones. BaseAlign's (arXiv 2311.10766) is

    sum_k |v_k - t_k| * 1[|v_k| > 0.3] * |t_k|

A value that is hardly expressed costs nothing there and a value that is expressed a little costs much, so that moving
towards the target can cost more: a vector of zeros is at distance 0 of every target. `smooth_distance` has no mask:

    sqrt(sum_k w_k (v_k - t_k)^2 / sum_k w_k)

the root mean square gap, in units of v. Moving any one value towards the target never makes it larger, and makes it
smaller where the weight is positive; it has a gradient everywhere but at the target itself.
"""

import numpy as np
from numpy.typing import ArrayLike, NDArray

Floats = NDArray[np.float64]

BASEALIGN_MASK = 0.3
# Slugs of the distances, and whether they are as somebody published them or our correction.
MODES = {
    "l1": "as_published",
    "l2": "as_published",
    "basealign": "as_published",
    "basealign-unmasked": "corrected",
    "cosine": "corrected",
    "smooth": "corrected",
}


def l1_distance(vectors: ArrayLike, target: ArrayLike) -> Floats:
    """Return sum_k |v_k - t_k| of vectors [n, K] to a target [K], float64 [n]."""
    v, t = _checked(vectors, target)
    return np.asarray(np.abs(v - t).sum(axis=1))


def l2_distance(vectors: ArrayLike, target: ArrayLike) -> Floats:
    """Return sqrt(sum_k (v_k - t_k)^2) of vectors [n, K] to a target [K], float64 [n]."""
    v, t = _checked(vectors, target)
    return np.asarray(np.sqrt(((v - t) ** 2).sum(axis=1)))


def cosine_distance(vectors: ArrayLike, target: ArrayLike) -> Floats:
    """Return 1 - cos(v, t) in [0, 2] of vectors [n, K] to a target [K], float64 [n]; NaN where either is 0."""
    v, t = _checked(vectors, target)
    norms = np.sqrt((v**2).sum(axis=1)) * np.sqrt((t**2).sum())
    with np.errstate(invalid="ignore", divide="ignore"):
        cosine = np.where(norms > 0, v @ t / norms, np.nan)
    return np.asarray(1 - np.clip(cosine, -1, 1))


def basealign_distance(vectors: ArrayLike, target: ArrayLike, mask: float | None = BASEALIGN_MASK) -> Floats:
    """Return BaseAlign's distance of vectors [n, K] to a target [K], as published, float64 [n].

    Args:
        vectors: Value vectors.
        target: What is wished for.
        mask: Values of at most this size cost nothing; None leaves the mask out.
    """
    v, t = _checked(vectors, target)
    gaps = np.abs(v - t) * np.abs(t)
    return np.asarray((gaps if mask is None else gaps * (np.abs(v) > mask)).sum(axis=1))


def smooth_distance(vectors: ArrayLike, target: ArrayLike, weights: ArrayLike | None = None) -> Floats:
    """Return the weighted root mean square gap of vectors [n, K] to a target [K], float64 [n].

    Args:
        vectors: Value vectors.
        target: What is wished for.
        weights: How much each value counts [K], not negative and not all 0; alike when left out.

    Raises:
        ValueError: Shapes differ, a value is not finite, or bad weights.
    """
    v, t = _checked(vectors, target)
    w = np.ones(len(np.atleast_1d(target))) if weights is None else np.asarray(weights, dtype=np.float64)
    if w.shape != np.shape(target):
        raise ValueError(f"weights {w.shape} do not fit the target {np.shape(target)}")
    w = w[~np.isnan(np.asarray(target, dtype=np.float64))]
    if not (np.isfinite(w).all() and (w >= 0).all() and w.sum() > 0):
        raise ValueError("weights must be finite, not negative and not all 0")
    return np.asarray(np.sqrt((v - t) ** 2 @ (w / w.sum())))


def value_distances(vectors: ArrayLike, target: ArrayLike, weights: ArrayLike | None = None) -> dict[str, Floats]:
    """Return every distance of `MODES` of vectors [n, K] to a target [K], by slug, each float64 [n].

    The weights count in `smooth` alone: the others are defined without.
    """
    return {
        "l1": l1_distance(vectors, target),
        "l2": l2_distance(vectors, target),
        "basealign": basealign_distance(vectors, target),
        "basealign-unmasked": basealign_distance(vectors, target, mask=None),
        "cosine": cosine_distance(vectors, target),
        "smooth": smooth_distance(vectors, target, weights),
    }


def _checked(vectors: ArrayLike, target: ArrayLike) -> tuple[Floats, Floats]:
    """Return vectors and target as far as the target says something."""
    v, t = np.asarray(vectors, dtype=np.float64), np.asarray(target, dtype=np.float64)
    if v.ndim != 2 or t.shape != v.shape[1:]:
        raise ValueError(f"vectors [n, K] and a target [K] needed, got {v.shape} and {t.shape}")
    stated = ~np.isnan(t)
    if not stated.any() or not np.isfinite(t[stated]).all():
        raise ValueError("a target needs a finite number for at least one value")
    if not np.isfinite(v).all():
        raise ValueError("value vectors must be finite")
    return v[:, stated], t[stated]
