"""What share of texts carries a value, when people have labelled a random sample of them?

PPI++ (Angelopoulos et al. 2023), item-weighted and cluster-robust, for any sampling design:

    theta = lam * mean_pool(f) + mean_gold(y - lam * f)

with the mean of the scores f over all texts (the pool, weights u) and the mean of what they miss over the labelled ones
(weights g = 1 / chance of being drawn, normalised by their sum: Hajek). Each cluster has the influence

    psi_c = lam * sqrt(G_U / (G_U - 1)) * sum_pool u (f - mean_pool f) / sum u
              + sqrt(G_L / (G_L - 1)) * sum_gold g (y - lam f - mean_gold(y - lam f)) / sum g

and var(theta) = sum_c psi_c^2, with t on G_L - 1 degrees of freedom (G_U, G_L: clusters in the pool, with labels). The
labelled texts may be part of the pool or not, and share clusters with it or not: what they share is in the sum. Without
sharing it is var_U + var_L of `clustered_mean`. lam in [0, 1] makes that variance least: 0 leaves the labelled sample
alone, and a classifier that says nothing costs nothing. The estimate is right whatever the classifier's errors, if the
sample was drawn with the chances that it says.

The variance knows only what was labelled. Where a rare value is over-sampled where the classifier sees it, the texts in
which it is missed hide among few labels of large weight: often none of them is drawn, and the t interval then ends
below the truth (it held 77 to 84% of simulated shares of 2 and 3%). So where fewer than FEW_EVENTS clusters differ from
the commonest label, each counted as much as its weights by the largest one, interval and p-value also allow for one
more labelled cluster, as heavy as the heaviest, that lies at either end of what is possible.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy import stats

from audits.stats.clustered import ROUNDING, cluster_sums, t_quantile
from audits.stats.prevalence import Bools, Floats, Ints, Prevalence, first_reasons

# With fewer labelled clusters, a variance that is estimated from them cannot carry an interval.
MIN_GOLD_CLUSTERS = 20
# Of a share with fewer than 5 labelled clusters of the rarer kind not even the relative error is known (the usual
# np >= 5); a difference of which fewer than 5 clusters are not 0 is the same case.
MIN_GOLD_EVENTS = 5
# Clusters with the rarer label, at the largest weight, from which on t intervals cover what they promise.
FEW_EVENTS = 20


def ppi_mean(
    y: ArrayLike,
    f: ArrayLike,
    gold_weight: ArrayLike,
    pool_weight: ArrayLike,
    clusters: ArrayLike,
    *,
    low: float = 0.0,
    high: float = 1.0,
    lam: ArrayLike | None = None,
    confidence: float = 0.95,
    min_clusters: int = MIN_GOLD_CLUSTERS,
    min_events: int = MIN_GOLD_EVENTS,
) -> Prevalence:
    """Estimate the mean of each column of y, known for a sample, with the help of f, known for all.

    For chosen minus rejected pass the differences of labels and of scores, with `low=-1`.

    Args:
        y: True values [n, k]; read where `gold_weight` is positive.
        f: Scores [n, k], finite; the closer to y, the shorter the interval.
        gold_weight: 1 / chance of being drawn for labelling [n]; 0 where there are no labels.
        pool_weight: Weight in the mean of the scores [n]; 1 for every item of the audited set, 0 outside it.
        clusters: Cluster of each item [n], any integers or strings.
        low: Least possible mean.
        high: Largest possible mean.
        lam: Weight of the scores [k] or one for all; chosen per column where left out.
        confidence: Level of the intervals.
        min_clusters: Clusters with labels below which everything is refused.
        min_events: Clusters with a label other than the commonest one, below which a column is refused.

    Returns:
        Estimates with t intervals, both cut to [low, high], wider than by t where events are few (see above); `n` and
        `n_clusters` count labelled items. NaN errors where the labels do not vary.

    Raises:
        ValueError: Shapes differ, a weight is negative or not finite, the pool is empty, or a value that is read is not
            finite.
    """
    scores, labels = np.asarray(f, dtype=np.float64), np.asarray(clusters)
    g, u = np.asarray(gold_weight, dtype=np.float64), np.asarray(pool_weight, dtype=np.float64)
    truth = np.asarray(y, dtype=np.float64)
    _check(truth, scores, g, u, labels)
    k = scores.shape[1]
    gold = np.flatnonzero(g > 0)
    truth, weight = truth[gold], g[gold]
    distinct, codes = np.unique(labels, return_inverse=True)
    sample = _Sample(truth, scores[gold], weight, codes[gold])
    n_gold_clusters = len(np.unique(sample.codes))
    others = _others(truth)
    reasons = _thin(others, sample.codes, n_gold_clusters, min_clusters, min_events)
    in_pool = np.flatnonzero(u > 0)
    pool = _influence(scores[in_pool], u[in_pool], codes[in_pool], len(distinct))
    theta, error, given = _estimated(sample, *pool, None if lam is None else np.broadcast_to(lam, k).astype(np.float64))
    scale = max(np.abs(truth).max(initial=0.0), np.abs(scores).max(initial=0.0))
    seen = np.array([not reason for reason in reasons], dtype=np.bool_)
    error = np.where(seen & (error > ROUNDING * scale), error, np.nan)
    clusters_behind = np.full(k, n_gold_clusters, dtype=np.int64)
    t, df = t_quantile(clusters_behind, confidence), max(n_gold_clusters - 1, 1)
    bottom, top = theta - t * error, theta + t * error
    p_value = 2 * stats.t.sf(np.abs(theta) / error, df)
    few = seen & (_heavy_events(others, sample) < FEW_EVENTS) if seen.any() else seen
    for extreme in (end for end in (low, high) if few.any() and np.isfinite(end)):
        mean, spread, _ = _estimated(_one_more(sample, extreme, len(distinct)), *_padded(*pool), given)
        spread = np.where(few, spread, np.nan)
        bottom = np.where(few, np.minimum(bottom, mean - t * spread), bottom)
        top = np.where(few, np.maximum(top, mean + t * spread), top)
        p_value = np.where(few, np.maximum(p_value, 2 * stats.t.sf(np.abs(mean) / spread, df)), p_value)
    return Prevalence(
        "ppi++",
        np.where(seen, np.clip(theta, low, high), np.nan),
        error,
        np.clip(bottom, low, high),
        np.clip(top, low, high),
        p_value,
        np.full(k, len(gold), dtype=np.int64),
        clusters_behind,
        seen & ((theta < low) | (theta > high)),
        reasons,
    )


@dataclass(frozen=True, slots=True, eq=False)
class _Sample:
    """Labelled items: true values and scores [n, k], weights and numbers of the clusters [n]."""

    truth: Floats
    scores: Floats
    weight: Floats
    codes: NDArray[np.integer]


def _estimated(
    sample: _Sample, mean_pool: Floats, from_pool: Floats, lam: Floats | None
) -> tuple[Floats, Floats, Floats]:
    """Return theta, its error and the weight of the scores [k]; `from_pool` is [n_codes, k], the pool's influence."""
    # Influence of each cluster on the mean of y, on that of f in the sample, and on that of f in the pool.
    mean_y, from_y = _influence(sample.truth, sample.weight, sample.codes, len(from_pool))
    mean_f, from_f = _influence(sample.scores, sample.weight, sample.codes, len(from_pool))
    given = _least_variance(from_y, from_f - from_pool) if lam is None else lam
    theta = mean_y + np.where(given == 0, 0.0, given * (mean_pool - mean_f))
    psi = from_y + np.where(given == 0, 0.0, given * (from_pool - from_f))
    return theta, np.sqrt((psi**2).sum(axis=0)), given


def _one_more(sample: _Sample, truth: float, code: int) -> _Sample:
    """Add a cluster of the largest weight, with this true value and scores like those of the sample."""
    mean_f = sample.weight @ sample.scores / sample.weight.sum()
    return _Sample(
        np.vstack([sample.truth, np.full(len(mean_f), truth)]),
        np.vstack([sample.scores, mean_f]),
        np.append(sample.weight, _heaviest(sample)),
        np.append(sample.codes, code),
    )


def _padded(mean: Floats, influence: Floats) -> tuple[Floats, Floats]:
    """Add a cluster that is not in the pool."""
    return mean, np.vstack([influence, np.zeros((1, influence.shape[1]))])


def _heaviest(sample: _Sample) -> float:
    """Largest weight of a labelled cluster."""
    return float(np.bincount(sample.codes, weights=sample.weight).max())


def _heavy_events(others: Bools, sample: _Sample) -> Floats:
    """Count the clusters with a label other than the commonest one [k], each as much as its weight by the largest."""
    order = np.argsort(sample.codes, kind="stable")
    starts = np.flatnonzero(np.diff(sample.codes[order], prepend=-1))
    of_others = np.where(others, sample.weight[:, None], 0.0)[order]
    return np.asarray(np.maximum.reduceat(of_others, starts, axis=0).sum(axis=0) / sample.weight.max())


def _influence(values: Floats, weights: Floats, codes: NDArray[np.integer], n_codes: int) -> tuple[Floats, Floats]:
    """Return the weighted mean [k] and each cluster's influence on it [n_codes, k], 0 for clusters outside."""
    influence = np.zeros((n_codes, values.shape[1]))
    if not len(values):
        return np.full(values.shape[1], np.nan), influence
    total = weights.sum()
    mean = weights @ values / total
    present = np.unique(codes)
    g = len(present)
    growth = np.sqrt(g / (g - 1)) if g > 1 else np.nan
    influence[present] = growth * cluster_sums(weights[:, None] * (values - mean), codes) / total
    return np.asarray(mean, dtype=np.float64), influence


def _least_variance(from_y: Floats, from_rest: Floats) -> Floats:
    """Weight of the scores [k], in [0, 1], at which sum (from_y - lam * from_rest)^2 is least; 0 where any is."""
    spread = (from_rest**2).sum(axis=0)
    with np.errstate(divide="ignore", invalid="ignore"):
        best = (from_y * from_rest).sum(axis=0) / spread
    return np.where(spread > ROUNDING**2, np.clip(best, 0.0, 1.0), 0.0)


def _others(truth: Floats) -> Bools:
    """Mark the labels that differ from the commonest of their column, bool [n, k]."""
    if not len(truth):
        return np.zeros(truth.shape, dtype=np.bool_)
    values = np.unique(truth)
    commonest = values[np.array([(truth == value).sum(axis=0) for value in values]).argmax(axis=0)]
    return np.asarray(truth != commonest, dtype=np.bool_)


def _thin(
    others: Bools, codes: NDArray[np.integer], n_clusters: int, min_clusters: int, min_events: int
) -> tuple[str, ...]:
    """Say which columns have too few labels to carry an interval; `others` differ from the commonest, bool [n, k]."""
    few: Bools = np.full(others.shape[1], n_clusters < max(min_clusters, 1))
    n_others: Ints = (cluster_sums(others.astype(np.float64), codes) > 0).sum(axis=0)
    return first_reasons(
        [
            (few, lambda _: f"gold labels in {n_clusters} clusters, fewer than {min_clusters}"),
            (
                n_others < min_events,
                lambda j: f"gold labels differ from the commonest in {n_others[j]} clusters, fewer than {min_events}",
            ),
        ],
        others.shape[1],
    )


def _check(y: Floats, f: Floats, g: Floats, u: Floats, clusters: NDArray[np.generic]) -> None:
    """Raise ValueError for inputs that have no answer."""
    if f.ndim != 2 or y.shape != f.shape or any(a.shape != f.shape[:1] for a in (g, u, clusters)):
        shapes = ", ".join(str(a.shape) for a in (y, f, g, u, clusters))
        raise ValueError(f"y and f [n, k], weights and clusters [n] needed, got {shapes}")
    if not all(np.isfinite(w).all() and (w >= 0).all() for w in (g, u)):
        raise ValueError("weights must be finite and not negative")
    if not (u > 0).any():
        raise ValueError("no item makes up the population: all pool weights are 0")
    if not (np.isfinite(f).all() and np.isfinite(y[g > 0]).all()):
        raise ValueError("scores, and true values of labelled items, must be finite")
