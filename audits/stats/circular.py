"""Which way do vectors turn, and do their angles point anywhere together?

Angles are degrees in (-180, 180]. A vector of length 0 has no direction: its angle is NaN, left out of summaries and
counted by their `n`. Parallel vectors have the angle 0 or 180, never NaN.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

Floats = NDArray[np.float64]

# Below this mean resultant length the directions cancel out and the mean points nowhere.
NO_DIRECTION = 1e-12


@dataclass(frozen=True, slots=True)
class CircularSummary:
    """Where angles point, in degrees in (-180, 180]; NaN where undefined.

    Attributes:
        mean: Circular mean.
        median: Circular median; NaN when several directions are equally central.
        resultant: Mean resultant length, 0 (all directions alike) to 1 (one direction).
        rayleigh_p: P-value of Rayleigh's test of no common direction; it takes angles to be independent.
        n: Angles that are not NaN.
    """

    mean: float
    median: float
    resultant: float
    rayleigh_p: float
    n: int


def signed_angle(a: ArrayLike, b: ArrayLike) -> Floats:
    """Return the angle from a to b, counter-clockwise positive, as atan2(cross, dot).

    Args:
        a: Vectors [n, 2] or one vector [2].
        b: Vectors [n, 2] or one vector [2].

    Returns:
        Degrees in (-180, 180] [n]; NaN where a vector is 0 or not finite.
    """
    first, second = np.broadcast_arrays(np.asarray(a, dtype=np.float64), np.asarray(b, dtype=np.float64))
    cross = first[..., 0] * second[..., 1] - first[..., 1] * second[..., 0]
    dot = first[..., 0] * second[..., 0] + first[..., 1] * second[..., 1]
    angle = wrapped(np.degrees(np.arctan2(cross, dot)))
    directed = [np.isfinite(v).all(axis=-1) & (v != 0).any(axis=-1) for v in (first, second)]
    return np.where(directed[0] & directed[1], angle, np.nan)


def wrapped(degrees: ArrayLike) -> Floats:
    """Return angles of any size as degrees in (-180, 180], same shape."""
    return np.asarray(180 - np.mod(180 - np.asarray(degrees, dtype=np.float64), 360), dtype=np.float64)


def circular_summary(degrees: ArrayLike) -> CircularSummary:
    """Summarise angles [n]; NaN ones are left out."""
    angles = np.asarray(degrees, dtype=np.float64)
    angles = angles[~np.isnan(angles)]
    n = len(angles)
    if not n:
        nan = float("nan")
        return CircularSummary(nan, nan, nan, nan, 0)
    mean, resultant = _mean(angles)
    return CircularSummary(mean, circular_median(angles), resultant, rayleigh_p(resultant, n), n)


def rayleigh_p(resultant: float, n: int) -> float:
    """Return Rayleigh's p-value, by Wilkie's (1983) approximation, good to three digits from n = 10 on.

    Args:
        resultant: Mean resultant length of n angles.
        n: Number of angles.
    """
    total = n * resultant
    return float(min(1.0, np.exp(np.sqrt(1 + 4 * n + 4 * (n**2 - total**2)) - (1 + 2 * n))))


def circular_median(degrees: ArrayLike) -> float:
    """Return the direction with the smallest sum of arcs to the angles [n] (Fisher 1993), in O(n log n).

    That sum bends upwards only at the angles themselves, so its minimum lies at one of them, or is level between two
    neighbours, whose middle is then taken. Where distinct directions are equally central there is no median: NaN.
    """
    points, counts = np.unique(wrapped(degrees), return_counts=True)
    if not len(points):
        return float("nan")
    costs = _sums_of_arcs(points, counts)
    best = np.flatnonzero(costs <= costs.min() + 1e-9 * max(1.0, costs.min()))
    if len(best) == 1:
        return float(points[best[0]])
    neighbours = len(best) == 2 and best[1] - best[0] in (1, len(points) - 1)
    return _mean(points[best])[0] if neighbours else float("nan")


def _mean(angles: Floats) -> tuple[float, float]:
    """Circular mean and mean resultant length of angles [n], n > 0."""
    centre = np.exp(1j * np.radians(angles)).mean()
    resultant = min(1.0, float(abs(centre)))
    direction = float(wrapped(np.degrees(np.angle(centre)))) if resultant > NO_DIRECTION else float("nan")
    return direction, resultant


def _sums_of_arcs(points: Floats, counts: NDArray[np.integer]) -> Floats:
    """Sum of arcs from each of the sorted distinct points [m] to all points, each counted `counts` [m] times."""
    m = len(points)
    unrolled = np.concatenate([points, points + 360])
    number = np.concatenate([[0], np.cumsum(np.tile(counts, 2))])
    weight = np.concatenate([[0.0], np.cumsum(np.tile(counts, 2) * unrolled)])
    start = np.arange(m)
    # Points from `start` up to half a turn ahead, then those of the other half, reached the other way round.
    half = np.searchsorted(unrolled, points + 180, side="right")
    ahead = (weight[half] - weight[start]) - points * (number[half] - number[start])
    behind = (points + 360) * (number[start + m] - number[half]) - (weight[start + m] - weight[half])
    return np.asarray(ahead + behind, dtype=np.float64)
