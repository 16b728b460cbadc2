"""Do two measures order items alike, and how sure is that when items share a prompt?

Spearman's rho with midranks; the interval redraws whole clusters and ranks anew in every draw.
"""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]

N_DRAWS = 1_000
# Numbers held at once while drawing.
BLOCK = 4_000_000


@dataclass(frozen=True, slots=True)
class RankCorrelation:
    """Spearman's rho; NaN where undefined.

    Attributes:
        estimate: Rho; NaN where a measure does not vary.
        std_error: Standard deviation of the draws.
        ci_low: 2.5% quantile of the draws.
        ci_high: 97.5% quantile.
        n: Items.
        n_clusters: Clusters.
        n_draws: Draws in which both measures vary.
    """

    estimate: float
    std_error: float
    ci_low: float
    ci_high: float
    n: int
    n_clusters: int
    n_draws: int


def clustered_spearman(
    first: ArrayLike, second: ArrayLike, clusters: ArrayLike, n_draws: int = N_DRAWS, seed: int = 0
) -> RankCorrelation:
    """Correlate the ranks of two measures with a percentile interval over redrawn clusters.

    Args:
        first: One measure [n]; an item for which a measure is NaN is left out.
        second: The other [n].
        clusters: Cluster of each item [n].
        n_draws: Draws.
        seed: Seed of the draws.

    Returns:
        Without an interval where there is one cluster.

    Raises:
        ValueError: Shapes differ.
    """
    x, y, labels = np.asarray(first, dtype=np.float64), np.asarray(second, dtype=np.float64), np.asarray(clusters)
    if x.ndim != 1 or not x.shape == y.shape == labels.shape:
        raise ValueError(f"two measures and clusters [n] needed, got {x.shape}, {y.shape} and {labels.shape}")
    known = ~(np.isnan(x) | np.isnan(y))
    x, y = x[known], y[known]
    names, cluster = np.unique(labels[known], return_inverse=True)
    n, g = len(x), len(names)
    nan = float("nan")
    if not n:
        return RankCorrelation(nan, nan, nan, nan, 0, 0, 0)
    estimate = float(_spearman(x, y, np.ones((1, n)))[0])
    if g == 1 or np.isnan(estimate):
        return RankCorrelation(estimate, nan, nan, nan, n, g, 0)
    drawn = np.concatenate([_spearman(x, y, block[:, cluster]) for block in redrawn_clusters(g, n, n_draws, seed)])
    drawn = drawn[~np.isnan(drawn)]
    low, high = np.percentile(drawn, [2.5, 97.5])
    return RankCorrelation(estimate, float(drawn.std(ddof=1)), float(low), float(high), n, g, len(drawn))


def redrawn_clusters(n_clusters: int, n_items: int, n_draws: int, seed: int) -> Iterator[Floats]:
    """Yield how often each cluster is in each draw, [draws, n_clusters], as many draws at a time as memory bears.

    Args:
        n_clusters: Clusters to draw from, and as many to draw.
        n_items: Items that a draw will be spread over.
        n_draws: Draws in all.
        seed: Seed.
    """
    rng = np.random.default_rng(seed)
    at_once = max(1, BLOCK // max(n_items, n_clusters))
    for start in range(0, n_draws, at_once):
        size = min(at_once, n_draws - start)
        yield rng.multinomial(n_clusters, np.full(n_clusters, 1 / n_clusters), size).astype(np.float64)


def _spearman(x: Floats, y: Floats, weights: Floats) -> Floats:
    """Rho of every draw [B] for measures [n] and how often each item is in the draw [B, n]."""
    a, b = _midranks(x, weights), _midranks(y, weights)
    total = weights.sum(axis=1, keepdims=True)
    a, b = a - (weights * a).sum(axis=1, keepdims=True) / total, b - (weights * b).sum(axis=1, keepdims=True) / total
    both, own_a, own_b = ((weights * p).sum(axis=1) for p in (a * b, a * a, b * b))
    scale = np.sqrt(own_a * own_b)
    # Ranks differ by halves at least: below that a measure does not vary.
    with np.errstate(invalid="ignore", divide="ignore"):
        return np.where((own_a > 0.1) & (own_b > 0.1), both / scale, np.nan)


def _midranks(values: Floats, weights: Floats) -> Floats:
    """Midrank of every item in every draw [B, n], items counted `weights` [B, n] times."""
    order = np.argsort(values, kind="stable")
    ordered = values[order]
    starts = np.flatnonzero(np.concatenate([[True], ordered[1:] != ordered[:-1]]))
    counts = np.add.reduceat(weights[:, order], starts, axis=1)
    ranks = np.cumsum(counts, axis=1) - (counts - 1) / 2
    place = np.empty(len(values), dtype=np.int64)
    place[order] = np.repeat(np.arange(len(starts)), np.diff(np.append(starts, len(values))))
    return np.asarray(ranks[:, place])
