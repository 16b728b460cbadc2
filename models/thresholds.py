"""From which probability on is a label on? Thresholds that maximise F1."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.special import expit, logit

from datamodules.annotated_text import UNKNOWN
from models.metrics import Bools, Floats

# Known positives at which a label's own threshold and the shared one weigh the same. Against "its own from 5 positives
# on", in 60 seeded splits each: macro-F1 on other texts +.022, +.016, +.009, +.003 with 30, 100, 200, 400 calibration
# texts of ValueEval (MiniLM), micro-F1 +.016 to +.008; with 1 to 5 in its place it hardly differs, 20 and more lose
# rare labels.
SHRINKAGE = 3
# Weight of the shared threshold from which on it is told.
TOLD_SHARE = 0.1
# Probabilities that a sigmoid has rounded to 0 or 1 still have a logit.
SMALLEST = 1e-12


@dataclass(frozen=True, slots=True)
class Thresholds:
    """Thresholds of all labels.

    Attributes:
        values: A label is on when its probability is at or above this [L].
        calibrated: False when one could not be fitted, because no negatives of its label are known.
        notes: How the numbers came about where it was not the label's own data.
    """

    values: Floats
    calibrated: bool
    notes: tuple[str, ...]


def f1_thresholds(
    probabilities: Floats, targets: NDArray[np.integer], labels: Sequence[str], chance: Floats
) -> Thresholds:
    """Choose the threshold of each label for its F1, as `calibration.fit_calibration` describes.

    Args:
        probabilities: [n, L].
        targets: int [n, L], 1, 0 or -1 (unknown).
        labels: Names [L].
        chance: The probability of each label that means p = 1/L [L], NaN where none does.
    """
    positives, negatives = (targets == 1).sum(axis=0), (targets == 0).sum(axis=0)
    can_fit = fittable(targets)
    own = can_fit & (positives > 0)
    values = np.where(np.isnan(chance), 0.5, chance)
    if can_fit.any():
        shared = best_threshold(probabilities[:, can_fit].ravel(), targets[:, can_fit].ravel())
        values[can_fit] = shared
        for k in np.flatnonzero(own):
            best = best_threshold(probabilities[:, k], targets[:, k])
            values[k] = shrunk(best, shared, int(positives[k])) if negatives[k] else best
    drawn = own & (negatives > 0) & (SHRINKAGE / (positives + SHRINKAGE) >= TOLD_SHARE)
    no_positives = (positives == 0) & (negatives > 0)
    told = (
        ("shared threshold (no validation text carries it)", can_fit & ~own),
        ("threshold drawn a tenth of the way or more to the shared one (few positives)", drawn),
        ("threshold below every score (all validation texts carry it)", own & (negatives == 0)),
        ("threshold not tuned (no validation text carries any value)", ~can_fit & no_positives),
        ("on when p is above 1/L (no known negatives)", ~can_fit & ~no_positives & ~np.isnan(chance)),
        ("on from 1/2, which is no score of p = 1/L: the loss has none", ~can_fit & np.isnan(chance)),
    )
    notes = (named(what, labels, which) for what, which in told)
    return Thresholds(values, bool(can_fit.all()), tuple(note for note in notes if note))


def fittable(targets: NDArray[np.integer]) -> Bools:
    """Tell for which labels F1 can be seen, bool [L]: no false positive is where no known text lacks a label.

    None, where no label has a positive. `targets` as in `f1_thresholds`.
    """
    positives, negatives = (targets == 1).sum(axis=0), (targets == 0).sum(axis=0)
    can_fit = (negatives > 0) | ((positives > 0) & (targets != UNKNOWN).all(axis=0))
    return np.asarray(can_fit & bool(positives[can_fit].any()))


def shrunk(own: float, shared: float, n_positives: int) -> float:
    """Average a label's own threshold and the shared one on the logit scale.

    The weight of its own is n_positives / (n_positives + SHRINKAGE).
    """
    weight = n_positives / (n_positives + SHRINKAGE)
    ends = logit(np.clip([own, shared], SMALLEST, 1 - SMALLEST))
    return float(expit(weight * ends[0] + (1 - weight) * ends[1]))


def best_threshold(probabilities: Floats, targets: NDArray[np.integer]) -> float:
    """Return the threshold with the best F1 on known targets [n]: a midpoint between scores, the highest of equals.

    Raises:
        ValueError: No target is positive.
    """
    known = targets != UNKNOWN
    if not (targets == 1).any():
        raise ValueError("F1 is undefined without positives")
    order = np.argsort(-probabilities[known], kind="stable")
    ranked, hits = probabilities[known][order], np.cumsum(targets[known][order] == 1)
    # Cut after rank k (on: the first k), only where the score changes.
    below = np.append(ranked[1:], 0.0)
    cuts = np.append(ranked[1:] < ranked[:-1], True)
    f1 = 2 * hits / (np.arange(1, len(ranked) + 1) + hits[-1])
    best = int(np.argmax(np.where(cuts, f1, -1.0)))
    middle = (ranked[best] + below[best]) / 2
    # Between two neighbouring floats there is no midpoint.
    return float(middle if middle > below[best] else ranked[best])


def named(what: str, labels: Sequence[str], which: Bools) -> str:
    """Return a note that names the labels marked in `which` [L]; empty where there are none."""
    return f"{what}: {', '.join(np.array(labels)[which].tolist())}" if which.any() else ""
