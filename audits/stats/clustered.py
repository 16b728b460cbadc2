"""How sure is a mean when items share a prompt?

Items of one cluster (a prompt, a dialogue) are not independent. The interval here is the item-weighted, cluster-robust
one: with residuals e_i and cluster sums S_c of them, var(mean) = G / (G - 1) * sum_c S_c^2 / n^2, referred to a t
distribution with G - 1 degrees of freedom. It equals OLS on a constant with CR1 errors (statsmodels
`cov_type="cluster"`), and with clusters of one item each the textbook standard error.

An error that the data cannot show (one cluster, no items, no variation between clusters) is NaN, never 0.
"""

from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy import stats

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]

# Per item and relative to the largest value: variation below this is rounding.
ROUNDING = 1e-12


@dataclass(frozen=True, slots=True, eq=False)
class Estimate:
    """Estimates of k columns, each field of shape [k]; NaN where undefined.

    Attributes:
        estimate: Point estimates, float64.
        std_error: Cluster-robust standard errors, float64.
        ci_low: Lower ends of the intervals, float64.
        ci_high: Upper ends of the intervals, float64.
        p_value: Two-sided p-values of the hypothesis that the true value is 0, float64.
        n: Items behind each estimate, int64.
        n_clusters: Clusters behind each estimate, int64.
    """

    estimate: Floats
    std_error: Floats
    ci_low: Floats
    ci_high: Floats
    p_value: Floats
    n: Ints
    n_clusters: Ints

    def within(self, low: float, high: float) -> "Estimate":
        """Return the same estimates with intervals cut to what is possible, [low, high]; no coverage is lost."""
        return replace(self, ci_low=np.clip(self.ci_low, low, high), ci_high=np.clip(self.ci_high, low, high))


def clustered_mean(values: ArrayLike, clusters: ArrayLike, confidence: float = 0.95) -> Estimate:
    """Estimate the item mean of every column with cluster-robust errors.

    Args:
        values: [n, k]; NaN leaves an item out of its column (and out of `n`).
        clusters: Cluster of each item [n], any integers or strings.
        confidence: Level of the intervals.

    Returns:
        Means with t intervals. Where no variation between clusters is seen, or there is only one cluster, the error,
        interval and p-value are NaN: the data say nothing about the spread.

    Raises:
        ValueError: Shapes differ, or a value is infinite.
    """
    table = np.asarray(values, dtype=np.float64)
    present = ~np.isnan(table)
    return clustered_ratio(np.where(present, table, 0.0), present, clusters, confidence)


def clustered_ratio(
    numerators: ArrayLike, denominators: ArrayLike, clusters: ArrayLike, confidence: float = 0.95
) -> Estimate:
    """Estimate sum(numerators) / sum(denominators) of every column with cluster-robust errors.

    With an indicator as denominator (and numerators that are 0 outside it) this is the mean of a subset, the size of
    the subset counted as random, as it is. The variance is that of the linearised residuals y_i - ratio * x_i.

    Args:
        numerators: y [n, k], finite.
        denominators: x [n, k], finite; an item with x = 0 is outside and not counted in `n`.
        clusters: Cluster of each item [n].
        confidence: Level of the intervals.

    Raises:
        ValueError: Shapes differ, or a value is not finite.
    """
    y, x = np.asarray(numerators, dtype=np.float64), np.asarray(denominators, dtype=np.float64)
    labels = np.asarray(clusters)
    if y.ndim != 2 or x.shape != y.shape or labels.shape != y.shape[:1]:
        raise ValueError(f"values [n, k] and clusters [n] needed, got {y.shape}, {x.shape} and {labels.shape}")
    if not (np.isfinite(y).all() and np.isfinite(x).all()):
        raise ValueError("values must be finite (NaN marks a missing item only in clustered_mean)")
    inside = x != 0
    n, total = inside.sum(axis=0), x.sum(axis=0)
    with np.errstate(divide="ignore", invalid="ignore"):
        ratio = np.where(total != 0, y.sum(axis=0) / total, np.nan)
    residuals = np.where(inside, y - ratio * x, 0.0)
    sums = cluster_sums(np.concatenate([residuals, inside], axis=1), labels)
    k = y.shape[1]
    g = (sums[:, k:] > 0).sum(axis=0)
    with np.errstate(divide="ignore", invalid="ignore"):
        spread = np.sqrt(g / (g - 1) * (sums[:, :k] ** 2).sum(axis=0))
        seen = (g > 1) & (spread > ROUNDING * n * np.abs(y).max(axis=0, initial=0.0))
        error = np.where(seen, spread / np.abs(total), np.nan)
    half = t_quantile(g, confidence) * error
    p_value = 2 * stats.t.sf(np.abs(ratio) / error, np.maximum(g - 1, 1))
    return Estimate(ratio, error, ratio - half, ratio + half, p_value, n.astype(np.int64), g.astype(np.int64))


def clustered_rate(events: ArrayLike, clusters: ArrayLike, confidence: float = 0.95) -> Estimate:
    """Estimate the rate of a yes-or-no outcome in every column, with intervals that stay inside [0, 1].

    Point estimate and standard error are those of `clustered_mean`; the interval is Wilson's with the effective number
    of items rate * (1 - rate) / SE^2 (at most n) and the t quantile, which keeps its coverage for rare values, where
    rate +- t SE does not (Dean and Pagano 2015). A rate of exactly 0 or 1 has no standard error (NaN) but has an
    interval, with the number of clusters as effective number of items: the cautious end, as if clusters never mixed.

    Args:
        events: [n, k], 0 or 1 (or bool); NaN leaves an item out.
        clusters: Cluster of each item [n].
        confidence: Level of the intervals.

    Returns:
        Rates; `p_value` is NaN: a rate has no null hypothesis.

    Raises:
        ValueError: Shapes differ, or a value is neither 0, 1 nor NaN.
    """
    table = np.asarray(events, dtype=np.float64)
    if not np.isin(table[~np.isnan(table)], (0.0, 1.0)).all():
        raise ValueError("a rate needs values of 0 and 1")
    mean = clustered_mean(table, clusters, confidence)
    rate, g = mean.estimate, mean.n_clusters
    with np.errstate(divide="ignore", invalid="ignore"):
        effective = np.minimum(rate * (1 - rate) / mean.std_error**2, mean.n)
        effective = np.where(((rate == 0) | (rate == 1)) & (g > 1), g, effective)
        z = t_quantile(g, confidence)
        centre = (rate + z**2 / (2 * effective)) / (1 + z**2 / effective)
        half = z / (1 + z**2 / effective) * np.sqrt(rate * (1 - rate) / effective + (z / (2 * effective)) ** 2)
    # At 0 and 1 one end is the rate itself; rounding must not push it past.
    low, high = np.where(rate == 0, rate, centre - half), np.where(rate == 1, rate, centre + half)
    low, high = (np.where(np.isnan(half), np.nan, end) for end in (low, high))
    return Estimate(rate, mean.std_error, low, high, np.full_like(rate, np.nan), mean.n, g)


def t_quantile(n_clusters: ArrayLike, confidence: float) -> Floats:
    """Return the two-sided t quantile with G - 1 degrees of freedom, NaN below two clusters; same shape as input."""
    g = np.asarray(n_clusters)
    quantile = stats.t.ppf((1 + confidence) / 2, np.maximum(g - 1, 1))
    return np.where(g > 1, quantile, np.nan)


def cluster_sums(values: Floats, clusters: NDArray[np.generic]) -> Floats:
    """Sum the rows of values [n, k] within each cluster, in sorted order of the clusters: [G, k]."""
    if not len(clusters):
        return np.zeros((0, values.shape[1]))
    order = np.argsort(clusters, kind="stable")
    ordered = clusters[order]
    starts = np.flatnonzero(np.concatenate([[True], ordered[1:] != ordered[:-1]]))
    return np.asarray(np.add.reduceat(values[order], starts, axis=0), dtype=np.float64)
