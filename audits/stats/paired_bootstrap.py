"""Is one set of predictions better than another on the same texts, by more than the luck of which texts were drawn?

Whole groups of dependent texts are redrawn, and both sides are scored on the same redrawn texts. A label without known
positives (for average precision, or known negatives) has no score in a replicate; which labels have one depends on the
labels alone, so both sides' macros always run over the same ones.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from datamodules.annotated_text import UNKNOWN

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


def weighted_macro_f1(decisions: Bools, targets: NDArray[np.integer], weights: NDArray[np.integer]) -> Floats:
    """Macro-F1 of every replicate [B]: F1 per label over known entries, mean over the labels that have one.

    Args:
        decisions: [n, L].
        targets: 1, 0 or -1 (unknown) [n, L].
        weights: How often each text is in [B, n].
    """
    w = weights.astype(np.float64)
    tp, fp, fn = (
        w @ cells for cells in (decisions & (targets == 1), decisions & (targets == 0), ~decisions & (targets == 1))
    )
    # The rule of multilabel_metrics: with positives and unknowns only, no false positive could be seen.
    observable = (w @ (targets == 0) > 0) | (w @ (targets == UNKNOWN) == 0)
    f1 = np.divide(2 * tp, 2 * tp + fp + fn, out=np.full(tp.shape, np.nan), where=(tp + fn > 0) & observable)
    return _mean_of_defined(f1)


def weighted_macro_ap(scores: Floats, targets: NDArray[np.integer], weights: NDArray[np.integer]) -> Floats:
    """Macro average precision of every replicate [B], over the labels with known positives and negatives in it.

    AP is the sum over distinct scores of (recall gained) x (precision there), equal scores taken together, as in
    torchmetrics and scikit-learn.

    Args:
        scores: What ranks the texts [n, L].
        targets: 1, 0 or -1 (unknown) [n, L].
        weights: How often each text is in [B, n].
    """
    columns = [_weighted_ap(scores[:, k], targets[:, k], weights) for k in range(scores.shape[1])]
    return _mean_of_defined(np.stack(columns, axis=1))


def _weighted_ap(scores: Floats, targets: NDArray[np.integer], weights: NDArray[np.integer]) -> Floats:
    """Average precision of one label in every replicate [B]; scores and targets [n], weights [B, n]."""
    known = np.flatnonzero(targets != UNKNOWN)
    order = known[np.argsort(-scores[known], kind="stable")]
    if len(order) == 0:
        return np.full(len(weights), np.nan)
    ends = np.append(np.flatnonzero(np.diff(scores[order])), len(order) - 1)
    drawn = weights[:, order]
    above = np.cumsum(drawn, axis=1)[:, ends]
    hits = np.cumsum(drawn * (targets[order] == 1), axis=1)[:, ends]
    precision = np.divide(hits, above, out=np.zeros(hits.shape), where=above > 0)
    gained = (np.diff(hits, axis=1, prepend=0) * precision).sum(axis=1)
    defined = (hits[:, -1] > 0) & (hits[:, -1] < above[:, -1])
    return np.asarray(np.divide(gained, hits[:, -1], out=np.full(len(weights), np.nan), where=defined))


def _mean_of_defined(values: Floats) -> Floats:
    """Mean over the columns of [B, L] that are not NaN, NaN where none is."""
    n = (~np.isnan(values)).sum(axis=1)
    return np.asarray(np.divide(np.nansum(values, axis=1), n, out=np.full(len(values), np.nan), where=n > 0))


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
    weights = np.vstack([np.ones(len(targets), dtype=np.int64), group_weights(groups, n_replicates, seed)])
    f1 = [weighted_macro_f1(side.decisions, targets, weights) for side in (first, second)]
    ap = [weighted_macro_ap(side.scores, targets, weights) for side in (first, second)]
    return {"f1_macro": _interval(f1[0] - f1[1]), "ap_macro": _interval(ap[0] - ap[1])}


def _interval(differences: Floats) -> Interval:
    """Interval from the observed difference, first, and those of the replicates."""
    drawn = differences[1:][~np.isnan(differences[1:])]
    low, high = np.percentile(drawn, [2.5, 97.5]) if len(drawn) else (np.nan, np.nan)
    return Interval(float(differences[0]), float(low), float(high), len(drawn))
