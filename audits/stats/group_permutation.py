"""Do items of a group differ from those in no group, or groups from each other, by more than named by chance?

The permutation gives whole rows of memberships to other units of the stratum, a unit being the items of a cluster with
equal membership, so that what groups are named together, and what items of a cluster share, stays as it is. Its
statistics are divided by their standard errors, a group's own where it is larger than what units vary in common: exact
where membership means nothing, still near its level where groups differ in spread or size only, and not misled by a
small group that varies little by chance, as one without a single event. The p-value of the spread, largest minus
smallest gap, is that of the largest standardised difference between two groups.
"""

from dataclasses import dataclass
from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray
from scipy import sparse

from audits.stats.clustered import ROUNDING, cluster_sums

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]
Bools = NDArray[np.bool_]
Table: TypeAlias = NDArray[np.float64] | sparse.csr_array

# Numbers of a table of memberships above which it is kept sparse.
MOST_DENSE = 200_000


@dataclass(frozen=True, slots=True, eq=False)
class Items:
    """What is compared; n items, k columns, g groups.

    Attributes:
        y: Values, float64 [n, k].
        m: Memberships, bool [n, g].
        clusters: Numbers of clusters [n].
        stratum: Numbers of strata [n]; made consecutive.
    """

    y: Floats
    m: Bools
    clusters: Ints
    stratum: Ints

    def __post_init__(self) -> None:
        # Left-out strata must leave no gap in the numbers.
        object.__setattr__(self, "stratum", np.unique(self.stratum, return_inverse=True)[1])

    @property
    def others(self) -> Bools:
        """Which items are in no group, bool [n]."""
        return np.asarray(~self.m.any(axis=1), dtype=np.bool_)


@dataclass(frozen=True, slots=True, eq=False)
class _Units:
    """Units in the order of strata, and the places (numbers of units) that hold a row with any membership.

    Attributes:
        sums: Sums of values [U, k].
        sizes: Items [U].
        stratum: [U], sorted.
        places: Units with a membership [P].
        at: Whether a place lies in a stratum, 1 or 0, [S, P].
        rows: Membership of these, 1 or 0, [g, P].
        both: Which of these belong to both of two groups, 1 or 0, [pairs, P].
        pairs: The two groups [2, pairs].
        totals: Of every stratum: sum of values, of their squares, of value times size [3, S, k].
        counts: Of every stratum: sum of sizes and of their squares [2, S].
        common: Variance of a unit per squared size, around the means of strata [k].
    """

    sums: Floats
    sizes: Floats
    stratum: Ints
    places: Ints
    at: Floats
    rows: Table
    both: Table
    pairs: Ints
    totals: Floats
    counts: Floats
    common: Floats


def permuted_gaps(data: Items, kept: Bools, n_draws: int, seed: int) -> tuple[Floats, Floats]:
    """Permute memberships within strata.

    Args:
        data: What is compared; every stratum holds items in no group.
        kept: Groups that are compared, bool [g]; the others' items are in some group all the same.
        n_draws: Permutations P; p-values are (1 + as extreme ones) / (P + 1).
        seed: Seed.

    Returns:
        p-values of all gaps, two-sided, float64 [g, k], NaN unless kept; and of the spread [k], NaN below two groups.
    """
    units = _units(data, kept)
    rng = np.random.default_rng(seed)
    seen, seen_spread = _statistics(units, units.places)
    # Each stratum's first unit, its units, and how many of these have a membership.
    sizes, n_places = np.bincount(units.stratum), np.bincount(units.stratum[units.places], minlength=len(units.at))
    strata = list(zip((np.cumsum(sizes) - sizes).tolist(), sizes.tolist(), n_places.tolist(), strict=True))
    far, wide = np.zeros(seen.shape), np.zeros(seen_spread.shape)
    tolerance = 1e-9
    for _ in range(n_draws):
        # Which units take the memberships, in random order; the rest is in no group.
        taking = np.concatenate([start + rng.choice(size, m, replace=False) for start, size, m in strata])
        drawn, spread = _statistics(units, taking)
        far += np.abs(drawn) >= np.abs(seen) - tolerance
        wide += spread >= seen_spread - tolerance
    p_value = np.full((len(kept), data.y.shape[1]), np.nan)
    p_value[kept] = (1 + far) / (n_draws + 1)
    n_kept = int(kept.sum())
    p_spread = (1 + wide) / (n_draws + 1) if n_kept > 1 else np.full(data.y.shape[1], np.nan)
    return p_value, p_spread


def _units(data: Items, kept: Bools) -> _Units:
    """Put items together that must stay together."""
    # Memberships in groups that are too small to be compared still keep an item from being in no group.
    keys = np.column_stack([data.stratum, data.clusters, data.m])
    names, unit = np.unique(keys, axis=0, return_inverse=True)
    sums = cluster_sums(np.column_stack([data.y, np.ones(len(data.y))]), unit.ravel())
    values, sizes, stratum = sums[:, :-1], sums[:, -1], names[:, 0]
    member = names[:, 2:].astype(np.bool_)
    places = np.flatnonzero(member.any(axis=1))
    rows = member[places][:, kept].T
    pairs = np.stack(np.triu_indices(len(rows), 1))
    starts = np.flatnonzero(np.concatenate([[True], stratum[1:] != stratum[:-1]]))
    totals = np.stack([np.add.reduceat(v, starts) for v in (values, values**2, values * sizes[:, None])])
    counts = np.stack([np.add.reduceat(v, starts) for v in (sizes, sizes**2)])
    means = totals[0] / counts[0][:, None]
    common = ((values - sizes[:, None] * means[stratum]) ** 2).sum(axis=0) / (sizes**2).sum()
    own, both = _table(rows), _table(rows[pairs[0]] & rows[pairs[1]])
    at = (np.arange(len(starts))[:, None] == stratum[places]).astype(np.float64)
    return _Units(values, sizes, stratum, places, at, own, both, pairs, totals, counts, common)


def _table(rows: Bools) -> Table:
    """Keep a large table by its few ones: hardly any unit belongs to two of very many groups."""
    return sparse.csr_array(rows.astype(np.float64)) if rows.size > MOST_DENSE else rows.astype(np.float64)


def _statistics(units: _Units, drawn: Ints) -> tuple[Floats, Floats]:
    """Return standardised gaps [g, k] and their largest standardised difference [k], units `drawn` having the rows."""
    y, size, stratum = units.sums[drawn], units.sizes[drawn][:, None], units.stratum[units.places]
    at = units.at
    n_0, nn_0 = (units.counts - (at @ np.column_stack([size, size**2])).T)[:, :, None]
    y_0, yy_0, yn_0 = (own - at @ part for own, part in zip(units.totals, (y, y**2, y * size), strict=True))
    mean_0 = y_0 / n_0
    variance_0 = np.maximum(yy_0 - 2 * mean_0 * yn_0 + mean_0**2 * nn_0, 0.0) / n_0**2
    residual = y - size * mean_0[stratum]
    n = units.rows @ size
    gap = (units.rows @ residual) / n
    weight = (units.rows @ (at.T * size)) / n
    products = np.concatenate([residual**2, residual * size, size**2], axis=1)
    k = y.shape[1]

    def summed(rows: Table) -> tuple[Floats, Floats, Floats]:
        table = rows @ products
        return table[:, :k], table[:, k : 2 * k], table[:, 2 * k :]

    rr, rn, nn = summed(units.rows)
    spread = np.maximum(rr - 2 * gap * rn + gap**2 * nn, units.common * nn) / n**2
    alone = spread + weight**2 @ variance_0
    a, b = units.pairs
    rr, rn, nn = summed(units.both)
    shared = (rr - (gap[a] + gap[b]) * rn + gap[a] * gap[b] * nn) / (n[a] * n[b])
    between = spread[a] + spread[b] - 2 * shared + (weight[a] - weight[b]) ** 2 @ variance_0
    widest = np.abs(_over(gap[a] - gap[b], between)).max(axis=0, initial=0.0)
    return _over(gap, alone), widest


def _over(difference: Floats, variance: Floats) -> Floats:
    """Standardise differences; one that is nothing beside no variance is 0."""
    with np.errstate(divide="ignore", invalid="ignore"):
        found = difference / np.sqrt(np.maximum(variance, 0.0))
    return np.asarray(np.where(np.abs(difference) <= ROUNDING, 0.0, found), dtype=np.float64)
