"""Do measures of values lie on the circle that theory puts them on?

In Schwartz's circle neighbouring values are compatible and opposite ones conflict, so the correlation of two measures
over texts should fall with their distance around the circle. Two statistics say how far it does:

* the correspondence index of Hubert and Arabie (1987): of all comparisons of a closer pair of values with a farther
  one, the share in which the closer pair correlates more, minus the share in which it correlates less: 1 is a perfect
  circle, 0 none. Its p-value is that of their randomisation test, over all orders of the values around the circle;
* Pearson's and Spearman's correlation of the correlations with the distances, -1 at best, with the p-value over the
  same orders (Mantel's test).

All p-values are one-sided, in the direction of the circle. Intervals redraw whole clusters of texts. A value that does
not vary correlates with nothing: it is left out and named, and the others keep their places.
"""

import functools
import itertools
import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy import stats

from audits.stats.clustered import cluster_sums
from audits.stats.rank_correlation import redrawn_clusters

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]
Bools = NDArray[np.bool_]

N_DRAWS = 500
# Up to so many distinct orders all are tried; of more, so many random ones.
MOST_ORDERS = 200_000
RANDOM_ORDERS = 20_000
FEWEST_VALUES = 4
STATISTICS = ("correspondence", "pearson", "spearman")
# Distances and correlations are whole or rounded far above this.
TOLERANCE = 1e-9
ORDERS_AT_ONCE = 20_000


@dataclass(frozen=True, slots=True)
class Statistic:
    """One statistic of the circle; NaN where undefined.

    Attributes:
        estimate: Its value.
        std_error: Standard deviation over redrawn clusters.
        ci_low: 2.5% quantile over redrawn clusters.
        ci_high: 97.5% quantile.
        p_value: Share of orders of the circle that fit as well, one-sided.
    """

    estimate: float
    std_error: float
    ci_low: float
    ci_high: float
    p_value: float


@dataclass(frozen=True, slots=True, eq=False)
class CircumplexFit:
    """How measures of K values over texts fit a circle.

    Attributes:
        correlations: Of the measures over texts, float64 [K, K]; NaN for a value that does not vary.
        distances: Around the circle, in places, float64 [K, K].
        varying: Which values vary, bool [K].
        statistics: By name, of `STATISTICS`.
        n_orders: Orders behind the p-values.
        exact: Whether these are all distinct ones.
        n: Texts.
        n_clusters: Clusters.
        n_draws: Draws in which every varying value still varies.
        reason: Why the statistics are undefined, or empty.
    """

    correlations: Floats
    distances: Floats
    varying: Bools
    statistics: dict[str, Statistic]
    n_orders: int
    exact: bool
    n: int
    n_clusters: int
    n_draws: int
    reason: str = ""


def circumplex_fit(
    scores: ArrayLike,
    places: ArrayLike,
    circumference: float,
    clusters: ArrayLike,
    n_draws: int = N_DRAWS,
    seed: int = 0,
) -> CircumplexFit:
    """Test whether the correlations of measures over texts fall with their distance around a circle.

    Args:
        scores: Measure of each value in each text [n, K], finite.
        places: Where each value stands [K], in [0, circumference); two may share a place.
        circumference: Of the circle, in the same unit.
        clusters: Cluster of each text [n].
        n_draws: Bootstrap draws.
        seed: Seed of draws and of random orders.

    Returns:
        NaN statistics, with the reason, where fewer than `FEWEST_VALUES` values vary.

    Raises:
        ValueError: Shapes differ, or a score is not finite.
    """
    x, at, labels = np.asarray(scores, dtype=np.float64), np.asarray(places, dtype=np.float64), np.asarray(clusters)
    if x.ndim != 2 or at.shape != x.shape[1:] or labels.shape != x.shape[:1]:
        raise ValueError(f"scores [n, K], places [K] and clusters [n] needed: {x.shape}, {at.shape}, {labels.shape}")
    if not np.isfinite(x).all():
        raise ValueError("scores must be finite")
    n, k = x.shape
    distances = circular_distances(at, circumference)
    x = x - x.mean(axis=0) if n else x
    varying = np.ptp(x, axis=0) > TOLERANCE if n else np.zeros(k, dtype=np.bool_)
    n_clusters = len(np.unique(labels))
    kept = np.flatnonzero(varying)
    correlations = np.full((k, k), np.nan)
    if len(kept):
        correlations[np.ix_(kept, kept)] = np.atleast_2d(np.corrcoef(x[:, kept], rowvar=False))
    pairs = np.triu_indices(len(kept), 1)
    d = distances[np.ix_(kept, kept)][pairs]
    if len(kept) < FEWEST_VALUES or np.ptp(d) < TOLERANCE:
        reason = f"{len(kept)} values vary, which are too few for a circle"
        none = dict.fromkeys(STATISTICS, Statistic(*[math.nan] * 5))
        return CircumplexFit(correlations, distances, varying, none, 0, False, n, n_clusters, 0, reason)
    r = correlations[np.ix_(kept, kept)][pairs]
    orders, exact = circle_orders(tuple(at[kept].tolist()), circumference, seed)
    p_values = _randomised(r, d, orders, exact)
    drawn = _redrawn(x[:, kept], labels, pairs, d, n_draws, seed) if n_clusters > 1 else np.empty((0, 3))
    observed = _statistics(r[None], d)[0]
    found = {name: _statistic(observed[j], drawn[:, j], p_values[j]) for j, name in enumerate(STATISTICS)}
    return CircumplexFit(correlations, distances, varying, found, len(orders), exact, n, n_clusters, len(drawn))


def circular_distances(places: ArrayLike, circumference: float) -> Floats:
    """Return the shorter way around the circle between all places [K], float64 [K, K]."""
    at = np.asarray(places, dtype=np.float64)
    ahead = np.mod(at[:, None] - at[None, :], circumference)
    return np.asarray(np.minimum(ahead, circumference - ahead))


@functools.lru_cache(maxsize=8)
def circle_orders(places: tuple[float, ...], circumference: float, seed: int = 0) -> tuple[NDArray[np.int8], bool]:
    """Return the orders in which values can be dealt to places, as rows of value -> place number, int8 [orders, m].

    Where the places divide the circle evenly, turning and mirroring an order gives none that is new: the first value
    stays, and of two mirror images one is left. Otherwise all orders are tried where they are few.

    Returns:
        The orders, and whether they are all; else `RANDOM_ORDERS` random ones.
    """
    m = len(places)
    steps = np.diff([*sorted(places), min(places) + circumference])
    if np.ptp(steps) < TOLERANCE and math.factorial(m - 1) // 2 <= MOST_ORDERS:
        by_place = np.argsort(places)
        rest = np.array(list(itertools.permutations(range(1, m))), dtype=np.int8)
        rest = rest[rest[:, 0] < rest[:, 1]]
        around = np.column_stack([np.zeros(len(rest), dtype=np.int8), rest])
        return by_place[around].astype(np.int8), True
    if math.factorial(m) <= MOST_ORDERS:
        return np.array(list(itertools.permutations(range(m))), dtype=np.int8), True
    rng = np.random.default_rng(seed)
    return rng.permuted(np.tile(np.arange(m, dtype=np.int8), (RANDOM_ORDERS, 1)), axis=1), False


def correspondence(correlations: Floats, distances: Floats) -> Floats:
    """Return the correspondence index of every draw [B], of correlations [B, pairs] with distances [pairs]."""
    first, second = np.nonzero(distances[:, None] < distances[None, :] - TOLERANCE)
    signs = np.zeros(len(correlations))
    for start in range(0, len(first), 100):
        block = slice(start, start + 100)
        signs += np.sign(correlations[:, first[block]] - correlations[:, second[block]]).sum(axis=1)
    return signs / len(first)


def _statistics(r: Floats, d: Floats) -> Floats:
    """The three statistics of every draw [B, 3], of correlations [B, pairs] with distances [pairs]."""
    ranks = stats.rankdata(r, axis=1)
    return np.column_stack([correspondence(r, d), _pearson(r, d), _pearson(ranks, stats.rankdata(d))])


def _pearson(rows: Floats, d: Floats) -> Floats:
    """Pearson's correlation of every row [B, pairs] with d [pairs]; NaN where a row does not vary."""
    centred, own = rows - rows.mean(axis=1, keepdims=True), d - d.mean()
    scale = np.sqrt((centred**2).sum(axis=1) * (own**2).sum())
    with np.errstate(invalid="ignore", divide="ignore"):
        return np.where(scale > TOLERANCE, centred @ own / scale, np.nan)


def _randomised(r: Floats, d: Floats, orders: NDArray[np.int8], exact: bool) -> list[float]:
    """One-sided p-values of the three statistics over orders of the values [orders, m].

    Dealing values to other places permutes the distances of the pairs, so that of the correlations only sums of
    products change, and of the index only which comparison is which.
    """
    m = orders.shape[1]
    i, j = np.triu_indices(m, 1)
    pair_of = np.zeros((m, m), dtype=np.int64)
    pair_of[i, j] = pair_of[j, i] = np.arange(len(i))
    levels, level = np.unique(np.round(d, 9), return_inverse=True)
    rank_r, rank_d = stats.rankdata(r), stats.rankdata(d)
    signs = np.sign(r[:, None] - r[None, :]).astype(np.float32)
    observed = np.array([_agreement(level[None], signs, len(levels))[0], d @ r, rank_d @ rank_r])
    as_good = np.zeros(3)
    for start in range(0, len(orders), ORDERS_AT_ONCE):
        own = orders[start : start + ORDERS_AT_ONCE].astype(np.int64)
        pairs = pair_of[own[:, i], own[:, j]]
        agreed = _agreement(level[pairs], signs, len(levels))
        as_good[0] += (agreed >= observed[0] - 0.5).sum()
        as_good[1] += (d[pairs] @ r <= observed[1] + TOLERANCE).sum()
        as_good[2] += (rank_d[pairs] @ rank_r <= observed[2] + TOLERANCE).sum()
    # Among all orders is the one that was observed; among random ones it is counted besides.
    extra = 0 if exact else 1
    return [float(p) for p in (as_good + extra) / (len(orders) + extra)]


def _agreement(level: Ints, signs: NDArray[np.float32], n_levels: int) -> Floats:
    """Agreements minus violations of every order [B], of levels of distance [B, pairs]."""
    total = np.zeros(len(level))
    for rank in range(n_levels - 1):
        closer, farther = (level == rank).astype(np.float32), (level > rank).astype(np.float32)
        total += ((closer @ signs) * farther).sum(axis=1)
    return total


def _redrawn(
    x: Floats, labels: NDArray[np.generic], pairs: tuple[Ints, ...], d: Floats, n_draws: int, seed: int
) -> Floats:
    """The three statistics of every draw of clusters [draws, 3]; draws in which a value does not vary are left out."""
    k = x.shape[1]
    i, j = np.triu_indices(k)
    sums = cluster_sums(np.column_stack([np.ones(len(x)), x, x[:, i] * x[:, j]]), labels)
    found = []
    for weights in redrawn_clusters(len(sums), len(sums), n_draws, seed):
        drawn = weights @ sums
        means = drawn[:, 1 : 1 + k] / drawn[:, :1]
        covariances = np.empty((len(drawn), k, k))
        covariances[:, i, j] = drawn[:, 1 + k :] / drawn[:, :1] - means[:, i] * means[:, j]
        spread = np.sqrt(np.maximum(covariances[:, np.arange(k), np.arange(k)], 0.0))
        varies = (spread > TOLERANCE).all(axis=1)
        scale = spread[varies][:, pairs[0]] * spread[varies][:, pairs[1]]
        found.append(_statistics(covariances[varies][:, pairs[0], pairs[1]] / scale, d))
    return np.concatenate(found)


def _statistic(estimate: float, drawn: Floats, p_value: float) -> Statistic:
    known = drawn[~np.isnan(drawn)]
    if len(known) < 2 or np.isnan(estimate):
        return Statistic(float(estimate), math.nan, math.nan, math.nan, p_value if np.isfinite(estimate) else math.nan)
    low, high = np.percentile(known, [2.5, 97.5])
    return Statistic(float(estimate), float(known.std(ddof=1)), float(low), float(high), p_value)
