"""How sure is a rate when prompts share wording, and do groups differ by more than such prompts do by luck?

A rate's interval redraws whole clusters. Homogeneity is tested two ways: by chi-squared on the counts, which takes
every completion for independent and so finds differences that are none, and by permuting the groups of whole prompts
among the prompts of one template, which keeps what a template asks, and the completions of a prompt, together.

Why no mixed model (random effects of template and prompt, fixed ones of groups)? The questions are of rates: what share
of completions is refused, and whether groups differ in it. Redrawing templates answers the first whatever correlation
is inside them, and the permutation answers the second exactly, however answers to one prompt go together. A logistic
mixed model answers another question, the odds ratio given a template's effect, which is not the ratio of the rates, and
adds assumptions that these data break: effects that are normal on the logit scale, where many templates are refused
always or never, and an approximate fit. statsmodels' `BinomialBayesMixedGLM` is variational, so that its errors are too
small by construction: on 60 data sets as this module's tests draw them, without a difference between groups, it called
one of the five contrasts significant in 37 (at 5% after Bonferroni), the permutation the spread in 2.
"""

import functools
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy import stats

from audits.stats.clustered import cluster_sums, clustered_rate

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]
Bools = NDArray[np.bool_]

N_DRAWS = 2_000
# Fewer clusters with, or without, an event are too few to redraw.
FEW_CLUSTERS = 10
# Numbers held at once while drawing.
BLOCK = 2_000_000


@dataclass(frozen=True, slots=True)
class RateInterval:
    """A rate, its standard error and 95% interval over redrawn clusters; NaN where undefined.

    Attributes:
        n: Items, the denominator of the rate.
        n_clusters: Clusters that were redrawn.
    """

    estimate: float
    std_error: float
    ci_low: float
    ci_high: float
    n: int
    n_clusters: int


@dataclass(frozen=True, slots=True)
class Homogeneity:
    """Whether the rates of k groups differ, on the items that can be compared; NaN for a group that cannot be.

    Attributes:
        spread: Largest minus smallest rate.
        p_spread: p-value of a spread as large, by permutation.
        p_groups: p-value of each group's distance from all others together, two-sided, by permutation, float64 [k].
        differences: Rate of each group minus that of all others, float64 [k].
        chi2: Pearson's chi-squared of the counts (naive).
        df: Its degrees of freedom.
        p_chi2: Its p-value; NaN where all or no items are events.
        n: Items that are compared.
        n_groups: Of each group, int64 [k].
        n_strata: Strata in which groups meet.
        n_draws: Permutations.
    """

    spread: float
    p_spread: float
    p_groups: Floats
    differences: Floats
    chi2: float
    df: int
    p_chi2: float
    n: int
    n_groups: Ints
    n_strata: int
    n_draws: int


def bootstrap_rate(events: ArrayLike, clusters: ArrayLike, n_draws: int = N_DRAWS, seed: int = 0) -> RateInterval:
    """Estimate a rate with a percentile interval over redrawn clusters.

    Where fewer than FEW_CLUSTERS clusters hold an event, or as few hold none, draws repeat what little was seen: the
    interval is then Wilson's of `clustered_rate`. Of a rate of exactly 0 or 1 the standard error is NaN.

    Args:
        events: 0 or 1 (or bool) [n].
        clusters: Cluster of each item [n], any integers or strings.
        n_draws: Draws.
        seed: Seed of the draws.

    Returns:
        NaN without items; error and interval are NaN with a single cluster.
    """
    y, labels = np.asarray(events, dtype=np.float64), np.asarray(clusters)
    sums = cluster_sums(np.column_stack([y, np.ones(len(y))]), labels)
    g, n = len(sums), len(y)
    if n == 0:
        return RateInterval(np.nan, np.nan, np.nan, np.nan, 0, 0)
    rate = float(y.mean())
    if g == 1:
        return RateInterval(rate, np.nan, np.nan, np.nan, n, g)
    if min((sums[:, 0] > 0).sum(), (sums[:, 0] < sums[:, 1]).sum()) < FEW_CLUSTERS:
        wilson = clustered_rate(y[:, None], labels)
        error, low, high = (float(column[0]) for column in (wilson.std_error, wilson.ci_low, wilson.ci_high))
        return RateInterval(rate, error, low, high, n, g)
    drawn = redrawn(g, n_draws, seed) @ sums
    rates = drawn[:, 0] / drawn[:, 1]
    low, high = np.percentile(rates, [2.5, 97.5])
    return RateInterval(rate, float(rates.std(ddof=1)), float(low), float(high), n, g)


@functools.lru_cache(maxsize=16)
def redrawn(n_clusters: int, n_draws: int, seed: int) -> Floats:
    """How often each cluster is in each draw [n_draws, n_clusters]; the same for all rates on as many clusters."""
    drawn = np.random.default_rng(seed).multinomial(n_clusters, np.full(n_clusters, 1 / n_clusters), n_draws)
    return np.asarray(drawn, dtype=np.float64)


def homogeneity(
    events: ArrayLike,
    groups: ArrayLike,
    strata: ArrayLike,
    units: ArrayLike,
    n_draws: int = N_DRAWS,
    seed: int = 0,
    fewest_units: int = 1,
) -> Homogeneity:
    """Test whether groups have one rate, naively and by permuting groups of units within strata.

    Under the hypothesis that the group makes no difference to an answer, the units (prompts) of one stratum (template)
    could as well have been any group's; all items of a unit keep together. Strata must tell nothing about rates: they
    may differ from each other in every way. A stratum of one group alone says nothing of a difference, and is left out.

    Args:
        events: 0 or 1 (or bool) [n].
        groups: Group of each item [n].
        strata: Template of each item [n].
        units: Prompt of each item [n]; a unit lies in one stratum and one group.
        n_draws: Permutations P; p-values are (1 + as extreme ones) / (P + 1).
        seed: Seed.
        fewest_units: A group with fewer units in shared strata is left out.

    Returns:
        NaN where fewer than two groups can be compared.

    Raises:
        ValueError: Shapes differ, or a unit lies in several groups or strata.
    """
    y = np.asarray(events, dtype=np.float64)
    names, group = np.unique(np.asarray(groups), return_inverse=True)
    _, stratum = np.unique(np.asarray(strata), return_inverse=True)
    _, first, unit = np.unique(np.asarray(units), return_index=True, return_inverse=True)
    if not y.shape == group.shape == stratum.shape == unit.shape:
        raise ValueError("events, groups, strata and units must have one shape [n]")
    if (group != group[first][unit]).any() or (stratum != stratum[first][unit]).any():
        raise ValueError("a unit must lie in one group and one stratum")
    kept = _comparable(group, stratum, unit, fewest_units)
    compared, own = np.unique(group[kept], return_inverse=True)
    n_groups = np.bincount(group[kept], minlength=len(names)).astype(np.int64)
    differences, p_groups = np.full(len(names), np.nan), np.full(len(names), np.nan)
    k, n = len(compared), int(kept.sum())
    if k < 2:
        return Homogeneity(np.nan, np.nan, p_groups, differences, np.nan, 0, np.nan, n, n_groups, 0, n_draws)
    _, first, unit = np.unique(unit[kept], return_index=True, return_inverse=True)
    _, stratum = np.unique(stratum[kept], return_inverse=True)
    y = y[kept]
    sums = np.column_stack([np.bincount(unit, y), np.bincount(unit)]).astype(np.float64)
    of_unit, in_stratum = own[first], stratum[first]
    spread, found = _contrasts(sums, of_unit[None, :], k)
    differences[compared] = found[0]
    p_spread, p_groups[compared] = _permuted(sums, of_unit, in_stratum, k, spread[0], found[0], n_draws, seed)
    counts = np.stack([np.bincount(own, y, k), np.bincount(own, 1 - y, k)])
    chi2, p_chi2 = np.nan, np.nan
    if (counts.sum(axis=1) > 0).all():
        naive = stats.chi2_contingency(counts, correction=False)
        chi2, p_chi2 = float(naive.statistic), float(naive.pvalue)
    n_strata = int(stratum.max()) + 1
    tests = (float(spread[0]), p_spread, p_groups, differences, chi2, k - 1, p_chi2)
    return Homogeneity(*tests, n, n_groups, n_strata, n_draws)


def _comparable(group: Ints, stratum: Ints, unit: Ints, fewest_units: int) -> Bools:
    """Mark the items in strata that several groups share, of groups with enough units there, bool [n]."""
    kept = np.ones(len(group), dtype=np.bool_)
    while kept.any():
        met = np.unique(np.column_stack([stratum, group])[kept], axis=0)
        is_shared = np.bincount(met[:, 0], minlength=stratum.max() + 1) > 1
        units = np.unique(np.column_stack([group, unit])[kept & is_shared[stratum]], axis=0)
        is_enough = np.bincount(units[:, 0], minlength=group.max() + 1) >= fewest_units
        # A group that is left out may leave another one alone in a stratum.
        again = kept & is_shared[stratum] & is_enough[group]
        if again.sum() == kept.sum():
            break
        kept = again
    return kept


def _permuted(
    sums: Floats, of_unit: Ints, in_stratum: Ints, k: int, spread: float, differences: Floats, n_draws: int, seed: int
) -> tuple[float, Floats]:
    """Permute groups within strata; the p-value of the spread, and of each group's difference [k]."""
    rng = np.random.default_rng(seed)
    order = np.argsort(in_stratum, kind="stable")
    ordered, slots = of_unit[order], in_stratum[order]
    tolerance = 1e-9
    above, far = 0, np.zeros(k)
    block = max(1, BLOCK // len(of_unit))
    for start in range(0, n_draws, block):
        n = min(block, n_draws - start)
        # Random keys sorted within each stratum put its units in a random order.
        shuffled = np.argsort(slots + rng.random((n, len(slots))), axis=1)
        drawn, moved = _contrasts(sums[order], ordered[shuffled], k)
        above += int((drawn >= spread - tolerance).sum())
        far += (np.abs(moved) >= np.abs(differences) - tolerance).sum(axis=0)
    return (1 + above) / (n_draws + 1), (1 + far) / (n_draws + 1)


def _contrasts(sums: Floats, groups: Ints, k: int) -> tuple[Floats, Floats]:
    """Spread of the rates [draws], and each group's rate minus that of the others [draws, k], for groups of units."""
    n_draws = len(groups)
    cells = (groups + k * np.arange(n_draws)[:, None]).ravel()
    totals = np.stack([np.bincount(cells, np.tile(own, n_draws), n_draws * k).reshape(n_draws, k) for own in sums.T])
    rates = totals[0] / totals[1]
    whole = totals.sum(axis=2, keepdims=True)
    others = (whole[0] - totals[0]) / (whole[1] - totals[1])
    return rates.max(axis=1) - rates.min(axis=1), rates - others
