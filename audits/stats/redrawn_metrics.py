"""What would the metrics of each label have been, had other texts been drawn?

A redraw says how often each text is in; a metric then counts every text so often. What is undefined is NaN, and that
depends on the labels and the redraw alone, never on predictions, so that all sides of a comparison lose the same ones:
without known positives nothing is defined, nor is it without anything that could be a false positive (AP and AUROC need
known negatives).

Targets are 1, 0 or -1 (unknown), int [n, L]; weights say how often each text is in, [B, n]; results are float64 [B, L].
Weights as float64 in Fortran order are not copied, which saves most of the time.
"""

import numpy as np
from numpy.typing import NDArray
from scipy import sparse

from datamodules.annotated_text import UNKNOWN

Floats = NDArray[np.float64]
Bools = NDArray[np.bool_]
Targets = NDArray[np.integer]
Weights = NDArray[np.number]


def columns_of(weights: Weights) -> Floats:
    """Return weights [B, n] as float64 with the redraws of a text side by side."""
    return np.asfortranarray(weights, dtype=np.float64)


def counts(decisions: Bools, targets: Targets, weights: Weights) -> tuple[Floats, Floats, Floats]:
    """Count true positives, false positives and false negatives among known entries, [B, L] each."""
    w = columns_of(weights)
    positive, negative = targets == 1, targets == 0
    return w @ (decisions & positive), w @ (decisions & negative), w @ (~decisions & positive)


def observable(targets: Targets, weights: Weights) -> Bools:
    """Mark the labels of which a false positive could be seen: a known negative is in, or nothing unknown."""
    w = columns_of(weights)
    return np.asarray((w @ (targets == 0) > 0) | (w @ (targets == UNKNOWN) == 0))


def label_f1(decisions: Bools, targets: Targets, weights: Weights) -> Floats:
    """F1 of decisions, bool [n, L]."""
    tp, fp, fn = counts(decisions, targets, weights)
    return _divided(2 * tp, 2 * tp + fp + fn, (tp + fn > 0) & observable(targets, weights))


def micro_f1(decisions: Bools, targets: Targets, weights: Weights) -> Floats:
    """F1 of all observable labels' counts together, [B, 1]."""
    seen = observable(targets, weights)
    tp, fp, fn = ((each * seen).sum(axis=1, keepdims=True) for each in counts(decisions, targets, weights))
    return _divided(2 * tp, 2 * tp + fp + fn, tp + fn > 0)


def label_ap(scores: Floats, targets: Targets, weights: Weights) -> Floats:
    """Average precision of scores [n, L].

    The sum over distinct scores of (recall gained) x (precision there), equal scores taken together, as in torchmetrics
    and scikit-learn.
    """
    w = columns_of(weights)
    return np.stack([_ap(scores[:, k], targets[:, k], w) for k in range(scores.shape[1])], axis=1)


def label_auroc(scores: Floats, targets: Targets, weights: Weights) -> Floats:
    """Chance that a positive has a higher score than a negative, equal scores counted half; scores [n, L]."""
    w = columns_of(weights)
    return np.stack([_auroc(scores[:, k], targets[:, k], w) for k in range(scores.shape[1])], axis=1)


def label_brier(probabilities: Floats, targets: Targets, weights: Weights) -> Floats:
    """Mean squared error of probabilities [n, L] over known texts."""
    w = columns_of(weights)
    known = targets != UNKNOWN
    squares = np.where(known, (probabilities - targets) ** 2, 0.0)
    return _divided(w @ squares, w @ known, (w @ (targets == 1) > 0) & observable(targets, weights))


def top1_f1(scores: Floats, targets: Targets, weights: Weights) -> Floats:
    """F1 of the most probable label against the one listed label, of texts with no other label known."""
    single, hit = _top1(scores, targets)
    listed, predicted = (targets == 1) & single, hit & single
    w = columns_of(weights)
    tp = w @ (listed & predicted)
    n_listed = w @ listed
    return _divided(2 * tp, n_listed + w @ predicted, n_listed > 0)


def top1_accuracy(scores: Floats, targets: Targets, weights: Weights) -> Floats:
    """Share of those texts whose most probable label is the listed one, [B, 1]."""
    single, hit = _top1(scores, targets)
    right = ((targets == 1) & hit & single).any(axis=1)
    w = columns_of(weights)
    n = w @ single
    return _divided((w @ right)[:, None], n, n > 0)


def mean_of_defined(values: Floats, weights: Floats | None = None) -> Floats:
    """Mean over the columns of [B, L] that are not NaN, weighted if asked [B, L]; NaN where none is: [B]."""
    defined = ~np.isnan(values)
    shares = defined if weights is None else np.where(defined, weights, 0.0)
    total = shares.sum(axis=1)
    return _divided((np.where(defined, values, 0.0) * shares).sum(axis=1), total, total > 0)


def _top1(scores: Floats, targets: Targets) -> tuple[Bools, Bools]:
    """Mark texts with one listed label and the rest unknown [n, 1], and the most probable label of each text [n, L]."""
    listed, unknown = (targets == 1).sum(axis=1), (targets == UNKNOWN).sum(axis=1)
    single = (listed == 1) & (unknown == targets.shape[1] - 1) & (unknown > 0)
    return single[:, None], scores.argmax(axis=1)[:, None] == np.arange(scores.shape[1])


def _ap(scores: Floats, targets: Targets, w: Floats) -> Floats:
    """Average precision of one label in every redraw [B]; scores and targets [n]."""
    positive, known = targets == 1, targets != UNKNOWN
    levels = np.unique(scores[positive])
    # At or above each level of a positive: precision elsewhere gains no recall.
    places = np.searchsorted(levels, scores, side="right")
    gained = _sums(places, positive, len(levels) + 1, w)[1:]
    at_least = np.cumsum(_sums(places, known, len(levels) + 1, w)[::-1], axis=0)[::-1]
    hits = np.cumsum(gained[::-1], axis=0)[::-1]
    precision = _divided(hits, at_least[1:], at_least[1:] > 0, otherwise=0.0)
    total = gained.sum(axis=0)
    # There is a negative where not all that is known is a hit.
    return _divided((gained * precision).sum(axis=0), total, (total > 0) & (total < at_least[0]))


def _auroc(scores: Floats, targets: Targets, w: Floats) -> Floats:
    """AUROC of one label in every redraw [B]; scores and targets [n]."""
    positive, negative = targets == 1, targets == 0
    levels = np.unique(scores[positive])
    after, before = (np.searchsorted(levels, scores, side=side) for side in ("right", "left"))
    n = len(levels) + 1
    gained = _sums(after, positive, n, w)[1:]
    # Negatives whose score is below a level, or not above it.
    below, not_above = (np.cumsum(_sums(place, negative, n, w), axis=0)[:-1] for place in (after, before))
    total, others = gained.sum(axis=0), w @ negative
    wins = (gained * (below + not_above) / 2).sum(axis=0)
    return _divided(wins, total * others, (total > 0) & (others > 0))


def _sums(places: NDArray[np.intp], inside: Bools, n_places: int, w: Floats) -> Floats:
    """Sum the weights of the texts inside, by place: [n_places, B]."""
    rows = np.flatnonzero(inside)
    matrix = sparse.csr_array((np.ones(len(rows)), (places[rows], rows)), shape=(n_places, w.shape[1]))
    return np.asarray(matrix @ w.T)


def _divided(a: Floats, b: Floats, where: Bools, otherwise: float = np.nan) -> Floats:
    return np.asarray(np.divide(a, b, out=np.full(np.shape(b), otherwise), where=where))
