"""Do reward models agree with the people who labelled the pairs, and where do they resist?

A pair agrees when the chosen side has the higher reward. What a tie counts as is declared: `strict` (no agreement),
`half`, or `drop` (left out); ties are counted under each. Resistance is 1 - agreement.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import ArrayLike, NDArray
from statsmodels.stats.proportion import proportion_confint

from audits.stats.circular import signed_angle
from audits.stats.clustered import clustered_mean, clustered_rate
from audits.stats.logit import marginal_effects
from audits.stats.ols import Regression

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]
Bools = NDArray[np.bool_]

TiePolicy = Literal["strict", "half", "drop"]
TIES = {"strict": 0.0, "half": 0.5, "drop": float("nan")}

# By (agrees before, agrees after): (1, 1), (0, 1), (0, 0), (1, 0). Codes are positions here, or UNDEFINED.
REGIMES = ("stayed", "became", "resisted", "reversed")
UNDEFINED = -1

# What the target labels of a pair say: i (no difference), c (chosen is better), r (rejected is better).
GAMMAS = ("i", "c", "r")

# Reward vectors are (chosen, rejected); along this axis both are equal, and angles from it in (0, 180) prefer chosen.
REFERENCE = np.array([-1.0, -1.0]) / np.sqrt(2)
QUADRANTS = ("++", "-+", "+-", "--")


@dataclass(frozen=True, slots=True, eq=False)
class Agreement:
    """Which pairs a reward model agrees with.

    Attributes:
        values: 1 agrees, 0 does not, a tie by policy, NaN left out; float64 [n].
        ties: The tie policy.
        n_ties: Pairs with equal rewards.
        n_scored: Pairs with both rewards.
        n_total: Pairs.
    """

    values: Floats
    ties: TiePolicy
    n_ties: int
    n_scored: int
    n_total: int


@dataclass(frozen=True, slots=True)
class Rate:
    """A share of pairs, with the pairs it is a share of; NaN where there are none.

    Attributes:
        rate: Mean of the values.
        std_error: Cluster-robust standard error.
        ci_low: Lower end of the interval that knows the clusters (`clustered_rate`).
        ci_high: Its upper end.
        wilson_low: Lower end of Wilson's interval, which takes pairs to be independent; NaN with half ties.
        wilson_high: Its upper end.
        n: Pairs that the rate is a share of.
        n_clusters: Clusters that they lie in.
    """

    rate: float
    std_error: float
    ci_low: float
    ci_high: float
    wilson_low: float
    wilson_high: float
    n: int
    n_clusters: int


@dataclass(frozen=True, slots=True, eq=False)
class Geometry:
    """Angles of reward vectors u (before) and v (after), degrees in (-180, 180], float64 [n]; NaN without rewards.

    Attributes:
        theta_u: From the reference to u; in (0, 180) where chosen is preferred.
        theta_v: From the reference to v.
        theta: From u to v: theta_v - theta_u, wrapped.
    """

    theta_u: Floats
    theta_v: Floats
    theta: Floats


def agreement(chosen: ArrayLike, rejected: ArrayLike, ties: TiePolicy = "strict") -> Agreement:
    """Tell which pairs agree, from the rewards of both sides [n]; a pair with a reward that is not finite is left out.

    Raises:
        ValueError: Shapes differ, or no such tie policy.
    """
    first, second = np.asarray(chosen, dtype=np.float64), np.asarray(rejected, dtype=np.float64)
    if first.ndim != 1 or first.shape != second.shape or ties not in TIES:
        raise ValueError(f"rewards [n], [n] and one of {', '.join(TIES)}, not {first.shape}, {second.shape}, {ties}")
    scored = np.isfinite(first) & np.isfinite(second)
    tied = scored & (first == second)
    values = np.where(tied, TIES[ties], np.where(scored, (first > second).astype(np.float64), np.nan))
    return Agreement(values, ties, int(tied.sum()), int(scored.sum()), len(first))


def shift_regimes(before: ArrayLike, after: ArrayLike) -> Ints:
    """Return the shift regime of every pair from its agreement before and after [n].

    Returns:
        Position in REGIMES [n]; UNDEFINED where an agreement is NaN or half.
    """
    first, second = np.asarray(before, dtype=np.float64), np.asarray(after, dtype=np.float64)
    states = {(1.0, 1.0): 0, (0.0, 1.0): 1, (0.0, 0.0): 2, (1.0, 0.0): 3}
    regimes = np.full(first.shape, UNDEFINED, dtype=np.int64)
    for (was, now), code in states.items():
        regimes[(first == was) & (second == now)] = code
    return regimes


def gammas(chosen: ArrayLike, rejected: ArrayLike) -> Ints:
    """Compare the target labels of both sides lexicographically, the first column (harmless) deciding first.

    Args:
        chosen: 0 or 1 [n, m].
        rejected: 0 or 1 [n, m].

    Returns:
        Position in GAMMAS [n].

    Raises:
        ValueError: Shapes differ, or a label is neither 0 nor 1.
    """
    first, second = np.asarray(chosen), np.asarray(rejected)
    if first.ndim != 2 or first.shape != second.shape or not np.isin([first, second], (0, 1)).all():
        raise ValueError(f"labels of 0 and 1 [n, m] needed for both sides, got {first.shape} and {second.shape}")
    worth = 2 ** np.arange(first.shape[1])[::-1]
    sign = np.sign(first.astype(np.int64) @ worth - second.astype(np.int64) @ worth)
    return np.array([0, 1, 2], dtype=np.int64)[sign]


def rate(values: ArrayLike, clusters: ArrayLike, among: ArrayLike | None = None, confidence: float = 0.95) -> Rate:
    """Estimate a share.

    Args:
        values: 0, 1, a half for a tie, or NaN for a pair left out, [n].
        clusters: Cluster of each pair [n].
        among: The pairs that the share is of, bool [n]; all when left out.
        confidence: Level of the intervals.
    """
    table = np.asarray(values, dtype=np.float64)
    if among is not None:
        table = np.where(np.asarray(among, dtype=np.bool_), table, np.nan)
    column = table[:, None]
    known = table[~np.isnan(table)]
    wilson = (float("nan"), float("nan"))
    if np.isin(known, (0.0, 1.0)).all():
        estimate = clustered_rate(column, clusters, confidence)
        if len(known):
            wilson = proportion_confint(known.sum(), len(known), 1 - confidence, "wilson")
    else:
        estimate = clustered_mean(column, clusters, confidence).within(0.0, 1.0)
    return Rate(
        rate=float(estimate.estimate[0]),
        std_error=float(estimate.std_error[0]),
        ci_low=float(estimate.ci_low[0]),
        ci_high=float(estimate.ci_high[0]),
        wilson_low=float(wilson[0]),
        wilson_high=float(wilson[1]),
        n=int(estimate.n[0]),
        n_clusters=int(estimate.n_clusters[0]),
    )


def rates_by(values: ArrayLike, codes: ArrayLike, names: Sequence[str], clusters: ArrayLike) -> dict[str, Rate]:
    """Estimate the share in every class, each of the pairs in that class alone.

    Args:
        values: As in `rate`, [n]; NaN leaves a pair out of its class, also out of `n`.
        codes: Class of each pair as a position in `names` [n]; other codes are in no class.
        names: Names of the classes, such as REGIMES or GAMMAS.
        clusters: Cluster of each pair [n].
    """
    inside = np.asarray(codes)
    return {name: rate(values, clusters, inside == code) for code, name in enumerate(names)}


def human_agreement(gamma: ArrayLike) -> Floats:
    """Return whether the target labels side with the people [n]: 1 (c), 0 (r), NaN where they see no difference (i)."""
    return np.asarray(np.array([np.nan, 1.0, 0.0])[np.asarray(gamma)], dtype=np.float64)


def cross_counts(rows: ArrayLike, columns: ArrayLike, n_rows: int, n_columns: int) -> Ints:
    """Count the pairs in every combination of two classes, int64 [n_rows, n_columns]; negative codes are left out."""
    first, second = np.asarray(rows), np.asarray(columns)
    kept = (first >= 0) & (second >= 0)
    flat = np.bincount(first[kept] * n_columns + second[kept], minlength=n_rows * n_columns)
    return np.asarray(flat.reshape(n_rows, n_columns), dtype=np.int64)


def geometry(before: ArrayLike, after: ArrayLike) -> Geometry:
    """Return the angles of the reward vectors (chosen, rejected) before and after, each [n, 2]."""
    u, v = np.asarray(before, dtype=np.float64), np.asarray(after, dtype=np.float64)
    return Geometry(signed_angle(REFERENCE, u), signed_angle(REFERENCE, v), signed_angle(u, v))


def quadrant_shares(vectors: ArrayLike) -> Floats:
    """Return the shares of reward vectors [n, 2] in QUADRANTS [4], of those with two rewards that are not 0."""
    signs = np.sign(np.asarray(vectors, dtype=np.float64))
    known = signs[np.isfinite(signs).all(axis=1) & (signs != 0).all(axis=1)]
    wanted = np.array([[1 if sign == "+" else -1 for sign in name] for name in QUADRANTS])
    hits = (known[:, None, :] == wanted[None, :, :]).all(axis=2)
    return hits.mean(axis=0) if len(known) else np.full(len(QUADRANTS), np.nan)


def misalignment_effects(
    agrees: ArrayLike, chosen: ArrayLike, rejected: ArrayLike, names: Sequence[str], clusters: ArrayLike
) -> Regression:
    """Regress misalignment (1 - agreement) on the features of both sides, as average marginal effects of a logit.

    Args:
        agrees: 1 or 0; a half or NaN leaves the pair out [n].
        chosen: Features of the chosen side [n, k].
        rejected: Features of the rejected side [n, k].
        names: Names of the features [k]; terms are `<name>-chosen`, then `<name>-rejected`.
        clusters: Cluster of each pair [n].

    Returns:
        Effects in points of probability (1 = 100%) in `beta`, or NaN with a reason; see `marginal_effects`.
    """
    values, x = np.asarray(agrees, dtype=np.float64), np.hstack([np.asarray(chosen), np.asarray(rejected)])
    used = np.isin(values, (0.0, 1.0)) & np.isfinite(x).all(axis=1)
    terms = [f"{name}-{side}" for side in ("chosen", "rejected") for name in names]
    return marginal_effects(x[used], 1 - values[used], terms, np.asarray(clusters)[used])
