"""Is one set of predictions better than another on the same texts, by more than the luck of which texts were drawn?

Whole groups of dependent texts are redrawn, and both sides are scored on the same redrawn texts. A label without known
positives (for average precision, or known negatives) has no score in a replicate; which labels have one depends on the
labels alone, so both sides' macros always run over the same ones.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from audits.stats.redrawn_metrics import columns_of, label_ap, label_f1, mean_of_defined

Floats = NDArray[np.float64]
Bools = NDArray[np.bool_]


@dataclass(frozen=True, slots=True)
class Scored:
    """Predictions on the test texts: what ranks them, float [n, L], and decisions, bool [n, L]."""

    scores: Floats
    decisions: Bools


@dataclass(frozen=True, slots=True)
class Interval:
    """A difference on the test texts, its 95% percentile interval, and in how many replicates it is defined."""

    estimate: float
    low: float
    high: float
    n_replicates: int


def group_weights(groups: NDArray[np.integer], n_replicates: int, seed: int) -> NDArray[np.int64]:
    """Draw as many groups as there are, with replacement; how often each text is in: [n_replicates, n]."""
    names, index = np.unique(groups, return_inverse=True)
    drawn = np.random.default_rng(seed).multinomial(len(names), np.full(len(names), 1 / len(names)), n_replicates)
    return np.asarray(drawn[:, index], dtype=np.int64)


def weighted_macro_f1(decisions: Bools, targets: NDArray[np.integer], weights: NDArray[np.number]) -> Floats:
    """Macro-F1 of every replicate [B]: F1 per label over known entries, mean over the labels that have one.

    Args:
        decisions: [n, L].
        targets: 1, 0 or -1 (unknown) [n, L].
        weights: How often each text is in [B, n].
    """
    return mean_of_defined(label_f1(decisions, targets, weights))


def weighted_macro_ap(scores: Floats, targets: NDArray[np.integer], weights: NDArray[np.number]) -> Floats:
    """Macro average precision of every replicate [B], over the labels with known positives and negatives in it.

    Args:
        scores: What ranks the texts [n, L].
        targets: 1, 0 or -1 (unknown) [n, L].
        weights: How often each text is in [B, n].
    """
    return mean_of_defined(label_ap(scores, targets, weights))


def paired_bootstrap(
    first: Scored,
    second: Scored,
    targets: NDArray[np.integer],
    groups: NDArray[np.integer],
    n_replicates: int,
    seed: int = 0,
) -> dict[str, Interval]:
    """First minus second in macro-F1 and macro average precision, with intervals over redrawn groups.

    Args:
        first: Predictions of one side.
        second: Predictions of the other on the same texts.
        targets: 1, 0 or -1 (unknown) [n, L].
        groups: Group number of each text [n].
        n_replicates: Bootstrap replicates.
        seed: Seed of the draws.

    Returns:
        Interval by metric, `f1_macro` and `ap_macro`; NaN where undefined.
    """
    # The texts as they are come first.
    drawn = np.vstack([np.ones(len(targets), dtype=np.int64), group_weights(groups, n_replicates, seed)])
    weights = columns_of(drawn)
    f1 = [weighted_macro_f1(side.decisions, targets, weights) for side in (first, second)]
    ap = [weighted_macro_ap(side.scores, targets, weights) for side in (first, second)]
    return {"f1_macro": _interval(f1[0] - f1[1]), "ap_macro": _interval(ap[0] - ap[1])}


def _interval(differences: Floats) -> Interval:
    """Interval from the observed difference, first, and those of the replicates."""
    drawn = differences[1:][~np.isnan(differences[1:])]
    low, high = np.percentile(drawn, [2.5, 97.5]) if len(drawn) else (np.nan, np.nan)
    return Interval(float(differences[0]), float(low), float(high), len(drawn))
