"""How do scores become probabilities, and probabilities decisions?

A calibration is fitted on validation texts: temperatures first (probability = sigmoid or softmax of logits / T), then a
threshold per label that maximises F1 of the calibrated probabilities. It is plain numbers, kept in a JSON file beside
the checkpoint, so that a user can change them without touching weights.
"""

import hashlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.optimize import minimize_scalar
from scipy.special import expit, log_softmax
from scipy.special import softmax as softmax_of

from datamodules.annotated_text import UNKNOWN
from models.calibration_file import bad_file, checked_numbers
from models.metrics import Bools, Floats, check_inputs

MIN_FOR_TEMPERATURE = 30  # known positives and known negatives for a label's own temperature
MIN_FOR_THRESHOLD = 5  # known positives for a label's own threshold
TEMPERATURE_RANGE = (0.05, 20.0)


@dataclass(frozen=True, slots=True)
class Calibration:
    """Temperatures and thresholds of one checkpoint.

    Attributes:
        labels: Names of the labels [L].
        temperatures: T of each label [L] (all equal for a softmax head).
        thresholds: A label is on when its calibrated probability is at or above this [L].
        calibrated: False when a threshold could not be fitted, because no negatives of its label are known:
            decisions then mean "p above 1/L".
        signed: Whether the labels are pairs `<slug>-for`, `<slug>-against`, of which at most one is on.
        softmax: Whether the head is one choice among all labels.
        notes: How the numbers came about where it was not the label's own data.
    """

    labels: tuple[str, ...]
    temperatures: tuple[float, ...]
    thresholds: tuple[float, ...]
    calibrated: bool
    signed: bool
    softmax: bool
    notes: tuple[str, ...] = ()

    def probabilities(self, logits: ArrayLike) -> Floats:
        """Turn logits [n, L] into calibrated probabilities, float64 [n, L]."""
        scaled = np.asarray(logits, dtype=np.float64) / np.array(self.temperatures)
        return np.asarray(softmax_of(scaled, axis=1) if self.softmax else expit(scaled))

    def decide(self, probabilities: ArrayLike) -> Bools:
        """Turn calibrated probabilities [..., L] into decisions, bool [..., L].

        A label is on when its margin, probability - threshold, is at least 0. Of `<slug>-for` and `<slug>-against`
        only the one with the larger margin stays on (the first of equals, `for`).
        """
        margins = np.asarray(probabilities, dtype=np.float64) - np.array(self.thresholds)
        decisions = margins >= 0
        if self.signed:
            plus, minus = _signs(self.labels)
            larger = margins[..., plus] >= margins[..., minus]
            decisions[..., plus] &= larger
            decisions[..., minus] &= ~larger
        return np.asarray(decisions)

    def to_json(self) -> dict[str, Any]:
        """Return what `from_json` reads: one entry per label, made to be edited by hand."""
        numbers = zip(self.labels, self.temperatures, self.thresholds, strict=True)
        return {
            "labels": {name: {"temperature": t, "threshold": h} for name, t, h in numbers},
            "calibrated": self.calibrated,
            "signed": self.signed,
            "softmax": self.softmax,
            "notes": list(self.notes),
        }

    def reordered(self, labels: Sequence[str]) -> "Calibration":
        """Return the same calibration with its labels in another order."""
        order = [self.labels.index(label) for label in labels]
        return replace(
            self,
            labels=tuple(labels),
            temperatures=tuple(self.temperatures[k] for k in order),
            thresholds=tuple(self.thresholds[k] for k in order),
        )

    @classmethod
    def from_json(cls, value: Any, source: str = "the thresholds file") -> "Calibration":
        """Read a calibration from parsed JSON.

        Args:
            value: What `to_json` gave, perhaps edited.
            source: Where it came from, for messages.

        Raises:
            InputError: A part is missing, a temperature is not positive, a threshold is outside [0, 1], or temperatures
                of a softmax differ; the label is named.
        """
        numbers = checked_numbers(value, source)
        if numbers.flags["signed"]:
            try:
                _signs(numbers.labels)
            except ValueError as error:
                raise bad_file(f"{source}, marked signed ({error})") from error
        return cls(numbers.labels, numbers.temperatures, numbers.thresholds, **numbers.flags, notes=numbers.notes)


def fit_calibration(
    logits: ArrayLike,
    targets: NDArray[np.integer],
    labels: Sequence[str],
    signed: bool,
    softmax: bool,
    chance_thresholds: Sequence[float] | None = None,
) -> Calibration:
    """Fit temperatures and thresholds on the known labels of validation texts.

    * Temperature (sigmoid head): minimises the binary cross-entropy over log T, per label with at least 30 known
      positives and negatives, one shared T for the rest, fitted on all labels with both classes; 1 where there are
      none. Softmax head: one T that minimises the cross-entropy of the listed labels (Guo et al. 2017).
    * Threshold: maximises the label's F1, at the midpoint between two scores (the highest of equals). A label with
      fewer than 5 known positives takes the shared threshold: the one with the best pooled F1 over all labels with
      known negatives.
    * A label without known negatives (single-positive data) has no F1 to maximise. It is on when p, the chance that
      it is the one written down, is above 1/L, and the calibration is marked as not calibrated.
    * One-class validation texts: a label that none of them carries takes the shared threshold; one that all of them
      carry gets a threshold below all their scores; where none carries any label, the thresholds are
      `chance_thresholds` and the calibration is marked as not calibrated. Each is told in `notes`.

    Signed labels are fitted one by one; that at most one of a pair is on is applied in `Calibration.decide`.

    Args:
        logits: [n, L].
        targets: int [n, L], 1, 0 or -1 (unknown).
        labels: Names [L].
        signed: Whether labels are `<slug>-for`, `<slug>-against`.
        softmax: Whether the head is one choice among all labels.
        chance_thresholds: The output of each label that means p = 1/L [L]. Default 1/L for a softmax head and 1/2 for
            sigmoid heads, which holds for WAN without class weights (its optimum is s/(1-s) = (L-1) p/(1-p)); with
            positive weight w it is w / (1 + w).

    Raises:
        ValueError: Shapes differ, a logit is NaN, a target is not 1, 0 or -1, or signed labels do not pair.
    """
    scores, targets = np.asarray(logits, dtype=np.float64), np.asarray(targets)
    check_inputs(targets, labels, scores)
    if signed:
        _signs(tuple(labels))
    positives, negatives = (targets == 1).sum(axis=0), (targets == 0).sum(axis=0)
    notes: list[str] = []
    if softmax:
        temperatures = np.full(len(labels), _softmax_temperature(scores, targets))
    else:
        temperatures, own = _sigmoid_temperatures(scores, targets, positives, negatives)
        _note(notes, "shared temperature", labels, ~own)
    low, high = TEMPERATURE_RANGE
    at_end = (temperatures < 1.01 * low) | (temperatures > high / 1.01)
    _note(notes, "temperature at the end of its range (the scores hardly tell)", labels, at_end)
    draft = Calibration(tuple(labels), tuple(temperatures.tolist()), (), True, signed, softmax)
    probabilities = draft.probabilities(scores)
    chance = 1 / len(labels) if softmax else 0.5
    thresholds = np.full(len(labels), chance) if chance_thresholds is None else np.array(chance_thresholds, dtype=float)
    fitted = (negatives > 0) | ((positives > 0) & (targets != UNKNOWN).all(axis=0))
    fitted &= bool(positives[fitted].any())
    own = fitted & (positives >= MIN_FOR_THRESHOLD)
    if fitted.any():
        thresholds[fitted] = best_threshold(probabilities[:, fitted].ravel(), targets[:, fitted].ravel())
    for k in np.flatnonzero(own):
        thresholds[k] = best_threshold(probabilities[:, k], targets[:, k])
    few = fitted & ~own
    _note(notes, "shared threshold (no validation text carries it)", labels, few & (positives == 0))
    _note(notes, f"shared threshold (fewer than {MIN_FOR_THRESHOLD} positives)", labels, few & (positives > 0))
    _note(notes, "threshold below every score (all validation texts carry it)", labels, own & (negatives == 0))
    no_positives = (positives == 0) & (negatives > 0)
    _note(notes, "threshold not tuned (no validation text carries any value)", labels, ~fitted & no_positives)
    _note(notes, "on when p is above 1/L (no known negatives)", labels, ~fitted & ~no_positives)
    return Calibration(
        draft.labels,
        draft.temperatures,
        tuple(thresholds.tolist()),
        calibrated=bool(fitted.all()),
        signed=signed,
        softmax=softmax,
        notes=tuple(notes),
    )


def cross_fitted(
    logits: ArrayLike,
    targets: NDArray[np.integer],
    groups: ArrayLike,
    labels: Sequence[str],
    signed: bool,
    softmax: bool,
    chance_thresholds: Sequence[float] | None = None,
) -> tuple[Floats, Bools]:
    """Calibrate and decide every text with numbers fitted on the other half of the groups.

    Scored on the rows that tuned it, a threshold looks better than it is; this is what validation metrics use. Halves
    are balanced in texts and depend on the group names alone. A half that is empty
    (one group only) fits nothing: its counterpart is decided uncalibrated.

    Args:
        logits: [n, L].
        targets: int [n, L], 1, 0 or -1 (unknown).
        groups: Group of each text [n]; a group is never in both halves.
        labels: Names [L].
        signed: As `fit_calibration`.
        softmax: As `fit_calibration`.
        chance_thresholds: As `fit_calibration`.

    Returns:
        Probabilities, float64 [n, L], and decisions, bool [n, L].
    """
    scores, targets = np.asarray(logits, dtype=np.float64), np.asarray(targets)
    second = _second_half(np.asarray(groups))
    probabilities, decisions = np.empty(scores.shape), np.empty(scores.shape, dtype=np.bool_)
    for half in (second, ~second):
        fitted = fit_calibration(scores[~half], targets[~half], labels, signed, softmax, chance_thresholds)
        probabilities[half] = fitted.probabilities(scores[half])
        decisions[half] = fitted.decide(probabilities[half])
    return probabilities, decisions


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


def _sigmoid_temperatures(
    scores: Floats, targets: NDArray[np.integer], positives: NDArray[np.integer], negatives: NDArray[np.integer]
) -> tuple[Floats, Bools]:
    """Temperature of each label [L], and which labels have their own."""
    both = (positives > 0) & (negatives > 0)
    own = (positives >= MIN_FOR_TEMPERATURE) & (negatives >= MIN_FOR_TEMPERATURE)
    temperatures = np.ones(scores.shape[1])
    if both.any():
        temperatures[~own] = _binary_temperature(scores[:, both].ravel(), targets[:, both].ravel())
    for k in np.flatnonzero(own):
        temperatures[k] = _binary_temperature(scores[:, k], targets[:, k])
    return temperatures, own


def _binary_temperature(scores: Floats, targets: NDArray[np.integer]) -> float:
    """T that minimises the binary cross-entropy of known entries; both arguments [n]."""
    known = targets != UNKNOWN
    # softplus(-z) for a positive, softplus(z) for a negative
    signed = np.where(targets[known] == 1, -scores[known], scores[known])
    return _minimise(lambda t: float(np.logaddexp(0, signed / t).sum()))


def _softmax_temperature(scores: Floats, targets: NDArray[np.integer]) -> float:
    """T that minimises the cross-entropy against the listed labels, each text's mass spread evenly over them."""
    listed = targets == 1
    rows = listed.any(axis=1)
    if not rows.any():
        return 1.0
    share = listed[rows] / listed[rows].sum(axis=1, keepdims=True)
    return _minimise(lambda t: -float((share * log_softmax(scores[rows] / t, axis=1)).sum()))


def _minimise(loss: Callable[[float], float]) -> float:
    """Minimise loss(T) over log T within TEMPERATURE_RANGE; both losses are convex in 1/T, so there is one minimum."""
    low, high = np.log(TEMPERATURE_RANGE)
    found = minimize_scalar(
        lambda x: loss(float(np.exp(x))), bounds=(low, high), method="bounded", options={"xatol": 1e-4}
    )
    return float(np.exp(found.x))


def _second_half(groups: NDArray[np.generic]) -> Bools:
    """Mark the texts [n] of one half of the groups: by digest of the name, each into the half with fewer texts."""
    names, index, sizes = np.unique(groups, return_inverse=True, return_counts=True)
    digests = [hashlib.sha256(str(name).encode()).digest() for name in names.tolist()]
    in_second = np.zeros(len(names), dtype=np.bool_)
    first_size = second_size = 0
    for k in sorted(range(len(names)), key=lambda i: digests[i]):
        in_second[k] = second_size < first_size
        first_size += 0 if in_second[k] else int(sizes[k])
        second_size += int(sizes[k]) if in_second[k] else 0
    return np.asarray(in_second[index])


def _signs(labels: tuple[str, ...]) -> tuple[list[int], list[int]]:
    """Columns of the for-labels and of their against-labels; ValueError when labels do not pair."""
    plus = [k for k, name in enumerate(labels) if name.endswith("-for")]
    partners = [f"{labels[k].removesuffix('-for')}-against" for k in plus]
    if 2 * len(plus) != len(labels) or not set(partners) <= set(labels):
        raise ValueError(f"signed labels must be pairs <slug>-for, <slug>-against, not {', '.join(labels)}")
    return plus, [labels.index(name) for name in partners]


def _note(notes: list[str], what: str, labels: Sequence[str], which: Bools) -> None:
    """Add a note that names the labels marked in `which` [L], if any."""
    if which.any():
        notes.append(f"{what}: {', '.join(np.array(labels)[which].tolist())}")
