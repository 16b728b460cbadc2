"""Do people prefer the longer of two responses?

Per pair, d = length of chosen minus length of rejected. Two descriptions, both with errors that know the clusters:

* share: pairs with d > 0 of those with d != 0. Equal lengths show no preference for length and are counted apart.
* log ratio: mean of log((1 + chosen) / (1 + rejected)) over all pairs; exp of it is the usual factor.

The p-value of the share is a sign test with whole clusters turned together (`discordance.no_contrast_p_value`): where
each cluster is one pair, it is the exact binomial test.
"""

from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import ArrayLike, NDArray

from audits.stats.clustered import Estimate, clustered_mean, clustered_rate
from audits.stats.discordance import no_contrast_p_value


@dataclass(frozen=True, slots=True, eq=False)
class LengthBias:
    """Preference for length by k measures of length.

    Attributes:
        longer: Share of pairs with different lengths in which the chosen one is longer; the p-value is that of 1/2.
        log_ratio: Mean log ratio of lengths, chosen to rejected.
        n_equal: Pairs of equal length, int64 [k].
    """

    longer: Estimate
    log_ratio: Estimate
    n_equal: NDArray[np.int64]


def length_bias(lengths: ArrayLike, clusters: ArrayLike, confidence: float = 0.95) -> LengthBias:
    """Describe which side of pairs is longer.

    Args:
        lengths: Of chosen and rejected, [n, 2, k], not negative.
        clusters: Cluster of each pair [n].
        confidence: Level of the intervals.

    Raises:
        ValueError: Another shape, or a length that is negative or not finite.
    """
    values, labels = np.asarray(lengths, dtype=np.float64), np.asarray(clusters)
    if values.ndim != 3 or values.shape[1] != 2 or labels.shape != values.shape[:1]:
        raise ValueError(f"lengths [n, 2, k] and clusters [n] needed, got {values.shape} and {labels.shape}")
    if not (np.isfinite(values).all() and (values >= 0).all()):
        raise ValueError("lengths must be finite and not negative")
    signs = np.sign(values[:, 0] - values[:, 1])
    longer = clustered_rate(np.where(signs != 0, signs > 0, np.nan), labels, confidence)
    logs = np.log1p(values)
    return LengthBias(
        longer=replace(longer, p_value=no_contrast_p_value(signs, labels)),
        log_ratio=clustered_mean(logs[:, 0] - logs[:, 1], labels, confidence),
        n_equal=(signs == 0).sum(axis=0),
    )
