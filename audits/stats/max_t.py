"""Which of many estimates from the same clusters differ from 0, when the chance of any false alarm is held?

Estimates of values, slices and looks share their items, so their errors go together, and Bonferroni over all of them
gives power away. Here every cluster's contribution to all estimates is given one random sign per draw (multiplier
bootstrap, Rademacher signs), each estimate of a draw is divided by its own standard error in that draw, and the largest
|t| of a draw is what chance alone can do.

p-values and critical values never go below those of a single t test. A column with so few clusters that signs have too
few patterns is tested by Bonferroni, by that t test, at its share of the level, and is in no maximum: a slice of three
prompts can neither raise a false alarm nor drown what moved elsewhere.

What counts is how many clusters inform a column, not how many there are: of a hundred prompts three may hold most of
the items, or all that varies of a rare value. Neither t with G - 1 degrees of freedom nor a draw's standard error
around an unweighted mean know that (with three prompts of 40 pairs beside 30 of two, 20% of families at 5% raised a
false alarm), so callers give the effective number of clusters, see `effective_clusters`.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy import stats

Floats = NDArray[np.float64]
Singles = NDArray[np.float32]
Ints = NDArray[np.int64]

N_DRAWS = 9_999
# Signs held at once, as float32: 64 MiB.
BLOCK_SIGNS = 1 << 24
# Of sums of squares near 1, in float32.
ROUNDING = 1e-5
# Clusters must have this many patterns of signs per pattern that the level allows, or the tail is not resolved: 9
# clusters at 5%, 13 at 0.25%.
MIN_PATTERNS = 10
# Degrees of freedom where hardly more than one cluster informs a column.
MIN_DF = 0.5
# Byte -> its eight bits as signs.
SIGNS: Singles = np.unpackbits(np.arange(256, dtype=np.uint8)[:, None], axis=1).astype(np.float32) * 2 - 1


@dataclass(frozen=True, slots=True, eq=False)
class Simultaneous:
    """Inference on m estimates at once; every field is float64 [m], NaN where undefined.

    Attributes:
        std_error: Cluster-robust standard errors.
        t: estimate / std_error.
        p_value: Two-sided p-values of each estimate alone.
        p_adjusted: p-values adjusted for all estimates of the family (and all planned looks).
        ci_low: Lower ends of the simultaneous intervals: all of a family hold at once with the confidence.
        ci_high: Upper ends.
        critical: The |t| above which p_adjusted is significant, and the intervals' half width in standard errors.
    """

    std_error: Floats
    t: Floats
    p_value: Floats
    p_adjusted: Floats
    ci_low: Floats
    ci_high: Floats
    critical: Floats


def max_t(
    estimates: ArrayLike,
    influence: ArrayLike,
    n_clusters: ArrayLike | None = None,
    *,
    effective: ArrayLike | None = None,
    confidence: float = 0.95,
    n_draws: int = N_DRAWS,
    seed: int = 0,
) -> Simultaneous:
    """Judge all estimates as one family: the chance of any false alarm is at most 1 - confidence.

    Args:
        estimates: [m]; NaN marks one that is undefined.
        influence: [G, m], finite: sums over each cluster of the items' centred influence on each estimate, scaled so
            that its variance is G / (G - 1) * sum of squares; float32 is not copied. A cluster without items of a
            column is 0 there.
        n_clusters: Clusters behind each column, int [m]; all G where not given.
        effective: How many of them inform each column, [m], see `effective_clusters`; t has one degree of freedom
            less. All of them where not given.
        confidence: Level of the intervals.
        n_draws: Draws B; adjusted p-values are (1 + draws with a larger maximum) / (B + 1).
        seed: Seed of the signs, which are the same for all columns.

    Returns:
        Intervals and adjusted p-values, which agree: an interval leaves out 0 where p_adjusted <= 1 - confidence. An
        estimate without variation is NaN throughout and in no maximum; if it is exactly 0, its p-values are 1.

    Raises:
        ValueError: Shapes differ, influence is not finite, or the draws are too few for the confidence.
    """
    b = np.asarray(estimates, dtype=np.float64)
    families = np.zeros(b.shape, dtype=np.int64)
    return _judge(b, influence, n_clusters, effective, families, 1, confidence, n_draws, seed)


def effective_clusters(influence: ArrayLike, shares: ArrayLike) -> Floats:
    """Count the clusters that inform each column, from 1 to G.

    A draw's residuals are e_c psi_c - h_c S with signs e_c, their sum S and the cluster's share h_c of the items, so
    that its sum of squares is Q - 2 S sum h_c e_c psi_c + S^2 sum h_c^2, which given S is about Q - S^2 / G* with
    1 / G* = 2 sum h_c psi_c^2 / Q - sum h_c^2. Of clusters of one size G* is G.

    Args:
        influence: [G, m]; see `max_t`.
        shares: Share of each cluster in what a column rests on, [G, 1] or [G, m]; each column sums to 1.

    Returns:
        float64 [m]; G where a column does not vary.
    """
    squares, h = np.asarray(influence, dtype=np.float64) ** 2, np.asarray(shares, dtype=np.float64)
    n = len(squares)
    with np.errstate(divide="ignore", invalid="ignore"):
        one_by = 2 * (h * squares).sum(axis=0) / squares.sum(axis=0) - (h**2).sum(axis=0)
        return np.where(one_by > 1 / n, np.maximum(1 / one_by, 1.0), float(n))


def spending(
    estimates: ArrayLike,
    influence: ArrayLike,
    looks: ArrayLike,
    planned_looks: int,
    n_clusters: ArrayLike | None = None,
    *,
    effective: ArrayLike | None = None,
    confidence: float = 0.95,
    n_draws: int = N_DRAWS,
    seed: int = 0,
) -> Simultaneous:
    """Judge the estimates of each look as a family of its own at (1 - confidence) / planned_looks.

    What a look says does not change when later looks come, so a run may be stopped at the first alarm. The price is
    Bonferroni over the planned looks.

    Args:
        estimates: [m].
        influence: [G, m]; see `max_t`.
        looks: Number of the look that each column belongs to, int [m].
        planned_looks: How many looks there will be at most.
        n_clusters: See `max_t`.
        effective: See `max_t`.
        confidence: Level of all looks together.
        n_draws: Draws; see `max_t`.
        seed: Seed of the signs.

    Raises:
        ValueError: As `max_t`, or there are more looks than planned.
    """
    families = np.asarray(looks, dtype=np.int64)
    if (n := len(np.unique(families))) > planned_looks:
        raise ValueError(f"{n} looks are more than the {planned_looks} that were planned")
    b = np.asarray(estimates, dtype=np.float64)
    return _judge(b, influence, n_clusters, effective, families, planned_looks, confidence, n_draws, seed)


def _judge(
    estimates: Floats,
    influence: ArrayLike,
    n_clusters: ArrayLike | None,
    effective: ArrayLike | None,
    families: Ints,
    planned: int,
    confidence: float,
    n_draws: int,
    seed: int,
) -> Simultaneous:
    """Judge each family of columns at (1 - confidence) / planned."""
    psi = np.asarray(influence)
    g = np.broadcast_to(len(psi) if n_clusters is None else np.asarray(n_clusters, dtype=np.int64), estimates.shape)
    if psi.ndim != 2 or estimates.shape != psi.shape[1:] or families.shape != estimates.shape:
        raise ValueError(f"estimates [m] and influence [G, m] needed, got {estimates.shape} and {psi.shape}")
    squares = np.einsum("gm,gm->m", psi, psi, dtype=np.float64)
    if not np.isfinite(squares).all():
        raise ValueError("influence must be finite")
    seen = np.isfinite(estimates) & (squares > 0) & (g > 1)
    others = np.maximum(g - 1, 1)
    error = np.where(seen, np.sqrt((others + 1) / others * squares), np.nan)
    t = estimates / error
    df = others.astype(np.float64)
    if effective is not None:
        df = np.clip(np.asarray(effective, dtype=np.float64) - 1, MIN_DF, df)
    p_value = 2 * stats.t.sf(np.abs(t), df)
    level = (1 - confidence) / planned
    few = df * np.log(2) < np.log(MIN_PATTERNS / level)
    drawn = _maxima(psi, squares, df, np.where(seen & ~few, families, -1), n_draws, seed)
    adjusted, critical = np.full(t.shape, np.nan), np.full(t.shape, np.nan)
    for family in np.unique(families[seen]).tolist():
        own = seen & (families == family)
        rare, m = own & few, int(own.sum())
        adjusted[rare], critical[rare] = m * p_value[rare], stats.t.isf(level / m / 2, df[rare])
        if family in drawn:
            signed, share = own & ~few, 1 - rare.sum() / m
            chance, least = _from_maxima(drawn[family], np.abs(t[signed]), level * share)
            adjusted[signed] = np.maximum(chance, p_value[signed]) / share
            critical[signed] = np.maximum(least, stats.t.isf(level * share / 2, df[signed]))
    unmoved = (squares == 0) & (estimates == 0)
    half = critical * error
    return Simultaneous(
        std_error=error,
        t=t,
        p_value=np.where(unmoved, 1.0, p_value),
        p_adjusted=np.where(unmoved, 1.0, np.minimum(planned * adjusted, 1.0)),
        ci_low=estimates - half,
        ci_high=estimates + half,
        critical=critical,
    )


def _from_maxima(drawn: Floats, t: Floats, level: float) -> tuple[Floats, float]:
    """Return the chance of a maximum as large as each |t|, and the |t| above which that chance is at most `level`."""
    n = len(drawn)
    rank = int(level * (n + 1) + 1e-9)
    if rank < 1:
        raise ValueError(f"{n} draws are too few for a level of {level:g}, {int(np.ceil(1 / level))} are needed")
    ordered = np.sort(drawn)
    return (1 + n - np.searchsorted(ordered, t)) / (n + 1), float(ordered[n - rank])


def _maxima(
    psi: NDArray[np.floating], squares: Floats, df: Floats, families: Ints, n_draws: int, seed: int
) -> dict[int, Floats]:
    """Draw the largest |t| of each family, [n_draws] each; columns of family -1 are left out.

    A draw gives column j the sum S_j of its signed cluster sums. Signs do not change squares, so its standard error in
    the draw, around its own mean, has sum of squares Q_j - S_j^2 / G, and r = S_j / sqrt(Q_j) is all that is needed:
    t^2 = (G - 1) r^2 / (G - r^2), with the effective number of clusters in place of G.
    """
    order = np.argsort(families, kind="stable")
    order = order[families[order] >= 0]
    if not len(order):
        return {}
    names, starts = np.unique(families[order], return_index=True)
    unchanged = len(order) == psi.shape[1] and bool((np.diff(order) > 0).all())
    columns = np.asarray(psi if unchanged else psi[:, order], dtype=np.float32)
    scale = (1 / np.sqrt(squares[order])).astype(np.float32)
    degrees = df[order].astype(np.float32)
    rng = np.random.default_rng(seed)
    n_bytes = -(-len(psi) // 8)
    block = max(1, BLOCK_SIGNS // (8 * n_bytes))
    maxima = np.empty((len(names), n_draws))
    for start in range(0, n_draws, block):
        n = min(block, n_draws - start)
        signs = SIGNS[rng.integers(0, 256, (n, n_bytes), dtype=np.uint8)].reshape(n, -1)[:, : len(psi)]
        r2 = np.square((signs @ columns) * scale)
        # All clusters equal and on one side: no error in that draw, but for rounding.
        t2 = degrees * r2 / np.maximum(degrees + 1 - r2, ROUNDING)
        maxima[:, start : start + n] = np.sqrt(np.maximum.reduceat(t2, starts, axis=1)).T
    return {int(name): maxima[k] for k, name in enumerate(names)}
