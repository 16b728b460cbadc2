"""How far is the mean of items that belong to a group from that of items in no group, and do groups differ?

Items may belong to several groups, and so count for each. With strata s, a group's gap is

    delta_g = sum_s w_gs (mean of g in s - mean of items in no group in s),   w_gs = share of g's items that lie in s,

so that a stratum in which the group is frequent does not pass for the group. Strata without items in no group are left
out. With a covariate x, gaps are those of y - b x, where b is the slope within cells of equal stratum and membership.

Intervals come from the linearised influence of every item on delta_g, summed within clusters, each side of the
comparison with its own G / (G - 1), by t with Welch-Satterthwaite degrees of freedom of the effective numbers of
clusters. Where fewer than `FEW_CLUSTERS` clusters of either side differ from what is usual there, t promises more than
they hold: no interval, and the p-value is that of the permutation.

The p-values of rare gaps and of the spread are those of `audits.stats.group_permutation`.
"""

from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy import sparse, stats

from audits.stats.clustered import ROUNDING, cluster_sums, t_quantile
from audits.stats.group_permutation import Items, permuted_gaps

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]
Bools = NDArray[np.bool_]

FEWEST_ITEMS, FEWEST_CLUSTERS = 20, 10
# Of each side of a comparison that must differ from what is usual there.
FEW_CLUSTERS = 10
N_DRAWS = 999
# Draws as extreme as what was seen, itself among them, with which a p-value is only roughly known.
FEW_EXTREME = 10


@dataclass(frozen=True, slots=True, eq=False)
class GroupGaps:
    """Gaps of g groups in k columns, [g, k]; NaN where undefined.

    Attributes:
        estimate: Gaps.
        reference: What the gap is from: means of items in no group, in the group's mix of strata.
        std_error: Cluster-robust standard errors.
        ci_low: Lower ends of the 95% intervals.
        ci_high: Upper ends.
        p_value: Of each gap, two-sided.
        is_rare: Whether there is no interval because of few clusters that differ, bool.
        n: Items of the group that are compared, int64 [g].
        n_clusters: Their clusters, int64 [g].
        n_others: Items in no group.
        n_others_clusters: Their clusters.
        reasons: Why a group has no numbers, or empty, [g].
        spread: Largest minus smallest gap [k].
        p_spread: Its p-value [k].
        n_compared: Items of any group in the spread, or none.
        n_compared_clusters: Their clusters.
    """

    estimate: Floats
    reference: Floats
    std_error: Floats
    ci_low: Floats
    ci_high: Floats
    p_value: Floats
    is_rare: Bools
    n: Ints
    n_clusters: Ints
    n_others: int
    n_others_clusters: int
    reasons: tuple[str, ...]
    spread: Floats
    p_spread: Floats
    n_compared: int
    n_compared_clusters: int


def group_gaps(
    values: ArrayLike,
    member: ArrayLike,
    clusters: ArrayLike,
    strata: ArrayLike,
    covariate: ArrayLike | None = None,
    n_draws: int = N_DRAWS,
    n_fine: int = 0,
    seed: int = 0,
    permuted: bool = False,
) -> GroupGaps:
    """Compare the means of groups with that of items in no group.

    Args:
        values: [n, k], finite.
        member: Whether each item belongs to each group, bool [n, g].
        clusters: Cluster of each item [n].
        strata: Stratum of each item [n].
        covariate: x [n], finite; with it nothing is permuted: rare gaps and the spread have no p-value.
        n_draws: Permutations P; p-values are (1 + as extreme ones) / (P + 1).
        n_fine: Further permutations for rare gaps with an extreme p-value, which then is theirs alone.
        seed: Seed.
        permuted: Take the p-values of all gaps, not of rare ones alone, from the permutation: for values that are so
            skewed that t does not hold with few clusters. Without a covariate only.

    Returns:
        NaN for a group with fewer than FEWEST_ITEMS items or FEWEST_CLUSTERS clusters (`few-items`, `few-clusters`),
        and for all where so few items are in no group (`few-others`), or the covariate does not vary
        (`covariate-constant`). The spread needs two groups.

    Raises:
        ValueError: Shapes differ, or a value is not finite.
    """
    y, m = np.asarray(values, dtype=np.float64), np.asarray(member, dtype=np.bool_)
    labels = np.unique(np.asarray(clusters), return_inverse=True)[1]
    stratum = np.unique(np.asarray(strata), return_inverse=True)[1]
    x = None if covariate is None else np.asarray(covariate, dtype=np.float64)
    shapes = {labels.shape, stratum.shape, y.shape[:1], m.shape[:1]} | (set() if x is None else {x.shape})
    if y.ndim != 2 or m.ndim != 2 or len(shapes) > 1:
        raise ValueError("values [n, k], member [n, g] and clusters, strata and covariate [n] needed")
    if not np.isfinite(y).all() or (x is not None and not np.isfinite(x).all()):
        raise ValueError("values and covariate must be finite")
    others = ~m.any(axis=1)
    comparable = np.isin(stratum, stratum[others])
    data = Items(y[comparable], m[comparable], labels[comparable], stratum[comparable])
    found = _gaps(data, None if x is None else x[comparable])
    kept = np.array([not reason for reason in found.reasons], dtype=np.bool_)
    if x is not None or not kept.any():
        return found
    p_value, p_spread = permuted_gaps(data, kept, n_draws, seed)
    # Where hardly a draw was as extreme, more are made, of those columns alone; the first do not count again.
    fine = (found.is_rare & (p_value <= FEW_EXTREME / (n_draws + 1))).any(axis=0)
    if n_fine and fine.any():
        again, _ = permuted_gaps(replace(data, y=data.y[:, fine]), kept, n_fine, seed + 1)
        first = p_value[:, fine]
        p_value[:, fine] = np.where(first <= FEW_EXTREME / (n_draws + 1), again, first)
    from_draws = found.is_rare | permuted
    return replace(found, p_value=np.where(from_draws, p_value, found.p_value), p_spread=p_spread)


def _gaps(data: Items, x: Floats | None) -> GroupGaps:
    """Estimate all gaps, with intervals and the p-values of t."""
    n_groups, k = data.m.shape[1], data.y.shape[1]
    n = data.m.sum(axis=0)
    n_clusters = np.array([len(np.unique(data.clusters[own])) for own in data.m.T], dtype=np.int64)
    slope, of_slope = np.zeros(k), None
    constant = False
    if x is not None:
        slope, of_slope, constant = _slope(data, x)
    reasons = tuple(_reason(data, n[g], n_clusters[g], constant) for g in range(n_groups))
    columns = [np.full((n_groups, k), np.nan) for _ in range(6)]
    estimate, reference, error, low, high, p_value = columns
    is_rare = np.zeros((n_groups, k), dtype=np.bool_)
    usual_others = _unusual(data.y[data.others], data.clusters[data.others]) < FEW_CLUSTERS
    y = data.y if x is None or not len(x) else data.y - np.outer(x - x.mean(), slope)
    for g in np.flatnonzero([not reason for reason in reasons]):
        own = data.m[:, g]
        of_x = np.zeros(1) if x is None else _gap(data, x[:, None], own)[0]
        estimate[g], reference[g], influence = _gap(data, y, own)
        if of_slope is not None:
            influence = influence - of_slope * of_x
        is_rare[g] = usual_others | (_unusual(data.y[own], data.clusters[own]) < FEW_CLUSTERS)
        spread, df = _error(influence, own, data)
        seen = ~is_rare[g] & (spread > ROUNDING * np.abs(data.y).max(axis=0, initial=0.0))
        error[g] = np.where(seen, spread, np.nan)
        half = t_quantile(df + 1, 0.95) * error[g]
        low[g], high[g] = estimate[g] - half, estimate[g] + half
        p_value[g] = 2 * stats.t.sf(np.abs(estimate[g]) / error[g], df)
    kept = [g for g in range(n_groups) if not reasons[g]]
    width = np.ptp(estimate[kept], axis=0) if len(kept) > 1 else np.full(k, np.nan)
    inside = data.m[:, kept].any(axis=1)
    return GroupGaps(
        estimate=estimate,
        reference=reference,
        std_error=error,
        ci_low=low,
        ci_high=high,
        p_value=p_value,
        is_rare=is_rare,
        n=n.astype(np.int64),
        n_clusters=n_clusters,
        n_others=int(data.others.sum()),
        n_others_clusters=len(np.unique(data.clusters[data.others])),
        reasons=reasons,
        spread=width,
        p_spread=np.full(k, np.nan),
        n_compared=int(inside.sum()),
        n_compared_clusters=len(np.unique(data.clusters[inside])),
    )


def _reason(data: Items, n: int, n_clusters: int, constant: bool) -> str:
    """Say why a group is not compared, or nothing."""
    others = data.others
    if others.sum() < FEWEST_ITEMS or len(np.unique(data.clusters[others])) < FEWEST_CLUSTERS:
        return "few-others"
    if n < FEWEST_ITEMS:
        return "few-items"
    if n_clusters < FEWEST_CLUSTERS:
        return "few-clusters"
    return "covariate-constant" if constant else ""


def _gap(data: Items, y: Floats, own: Bools) -> tuple[Floats, Floats, Floats]:
    """Return the gap of a group [k], its reference [k] and the influence of every item on the gap [n, k]."""
    others, stratum = data.others, data.stratum
    n_strata = int(stratum.max()) + 1
    n_others = np.bincount(stratum[others], minlength=n_strata)
    at = sparse.csr_array((np.ones(len(y)), (stratum, np.arange(len(y)))), shape=(n_strata, len(y)))
    baseline = (at @ (y * others[:, None])) / n_others[:, None]
    residual = y - baseline[stratum]
    weight = np.bincount(stratum[own], minlength=n_strata) / own.sum()
    gap = residual[own].mean(axis=0)
    influence = np.where(own[:, None], (residual - gap) / own.sum(), 0.0)
    influence -= np.where(others[:, None], residual * (weight / n_others)[stratum][:, None], 0.0)
    return gap, weight @ baseline, influence


def _slope(data: Items, x: Floats) -> tuple[Floats, Floats, bool]:
    """Return the slope within cells of stratum and membership [k], each item's influence on it [n, k], if x is flat."""
    cell = np.unique(np.column_stack([data.stratum, data.m]), axis=0, return_inverse=True)[1].ravel()
    size = np.bincount(cell)
    own = x - (np.bincount(cell, x) / size)[cell]
    square = float(own @ own)
    if square <= len(x) * (ROUNDING * np.abs(x).max(initial=0.0)) ** 2:
        return np.zeros(data.y.shape[1]), np.zeros_like(data.y), True
    means = np.stack([np.bincount(cell, column) / size for column in data.y.T], axis=1)
    slope = own @ data.y / square
    residual = data.y - means[cell] - np.outer(own, slope)
    return slope, own[:, None] * residual / square, False


def _unusual(y: Floats, clusters: Ints) -> Ints:
    """Count the clusters [k] whose mean is not the median of clusters: of a yes-or-no column, those that deviate."""
    if not len(y):
        return np.zeros(y.shape[1], dtype=np.int64)
    sums = cluster_sums(np.column_stack([y, np.ones(len(y))]), clusters)
    means = sums[:, :-1] / sums[:, -1:]
    return np.asarray((np.abs(means - np.median(means, axis=0)) > ROUNDING).sum(axis=0), dtype=np.int64)


def _error(influence: Floats, own: Bools, data: Items) -> tuple[Floats, Floats]:
    """Return standard errors [k] and degrees of freedom [k] of a gap from the influence of every item."""
    # A cluster may hold items of both sides: what these share is in the square of its whole sum only.
    whole = (cluster_sums(influence, data.clusters) ** 2).sum(axis=0)
    variances, freedoms = [], []
    for side, counted in ((own, own), (~own, data.others)):
        square = (cluster_sums(influence[side], data.clusters[side]) ** 2).sum(axis=0)
        sizes = np.unique(data.clusters[counted], return_counts=True)[1].astype(np.float64)
        whole += square / (len(sizes) - 1)
        variances.append(len(sizes) / (len(sizes) - 1) * square)
        freedoms.append(max(sizes.sum() ** 2 / (sizes**2).sum() - 1, 0.5))
    with np.errstate(divide="ignore", invalid="ignore"):
        parts = variances[0] ** 2 / freedoms[0] + variances[1] ** 2 / freedoms[1]
        df = np.where(parts > 0, (variances[0] + variances[1]) ** 2 / parts, 1.0)
    return np.sqrt(whole), df
