"""How do scores become probabilities, and probabilities decisions?

A calibration is fitted on validation texts: temperatures first (probability = sigmoid or softmax of logits / T), then
thresholds on the calibrated probabilities: one per label that maximises its F1, or one for all that keeps the
false-negative rate below a bound. It is plain numbers, kept in a JSON file beside the checkpoint, so that a user can
change them without touching weights.
"""

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.special import expit, logit
from scipy.special import softmax as softmax_of

from datamodules.errors import InputError
from models.calibration_file import bad_file, checked_numbers, decision_to_json
from models.conformal import control_false_negatives
from models.metrics import Bools, Floats, check_inputs
from models.temperature import at_end_of_range, sigmoid_temperatures, softmax_temperature
from models.thresholds import Thresholds, f1_thresholds, fittable, named


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
        max_false_negative_rate: The bound that the thresholds keep; None where they maximise F1.
        further: Calibrations of further taxonomies of the same classifier, by name.
    """

    labels: tuple[str, ...]
    temperatures: tuple[float, ...]
    thresholds: tuple[float, ...]
    calibrated: bool
    signed: bool
    softmax: bool
    notes: tuple[str, ...] = ()
    max_false_negative_rate: float | None = None
    further: dict[str, "Calibration"] = field(default_factory=dict)

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
            **decision_to_json(self.max_false_negative_rate),
            "notes": list(self.notes),
            **({"further": {name: own.to_json() for name, own in self.further.items()}} if self.further else {}),
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
            InputError: A part is missing, a temperature is not positive, a threshold is outside [0, 1], temperatures of
                a softmax differ (the label is named), or an unknown decision rule.
        """
        numbers = checked_numbers(value, source)
        if numbers.flags["signed"]:
            try:
                _signs(numbers.labels)
            except ValueError as error:
                raise bad_file(f"{source}, marked signed ({error})") from error
        return cls(
            numbers.labels,
            numbers.temperatures,
            numbers.thresholds,
            **numbers.flags,
            notes=numbers.notes,
            max_false_negative_rate=numbers.max_false_negative_rate,
            further={name: cls.from_json(own, f"{name} of {source}") for name, own in numbers.further.items()},
        )


def fit_calibration(
    logits: ArrayLike,
    targets: NDArray[np.integer],
    labels: Sequence[str],
    signed: bool,
    softmax: bool,
    chance_thresholds: Sequence[float] | None = None,
    groups: ArrayLike | None = None,
    max_false_negative_rate: float | None = None,
) -> Calibration:
    """Fit temperatures and thresholds on the known labels of validation texts.

    * Temperature (sigmoid head): minimises the binary cross-entropy over log T, per label with at least 30 known
      positives and negatives, one shared T for the rest, fitted on all labels with both classes; 1 where there are
      none. Softmax head: one T that minimises the cross-entropy of the listed labels (Guo et al. 2017).
    * Threshold: maximises the label's F1, at the midpoint between two scores (the highest of equals), and is then drawn
      towards the shared threshold, the one with the best pooled F1 over all labels with known negatives: on the logit
      scale its own weighs n / (n + 3) for n known positives (`thresholds.SHRINKAGE`).
    * A label without known negatives (single-positive data) has no F1 to maximise. It is on when p, the chance that
      it is the one written down, is above 1/L, and the calibration is marked as not calibrated. Where the loss has
      no score for that, 1/2 decides, and `notes` tell.
    * One-class validation texts: a label that none of them carries takes the shared threshold; one that all of them
      carry gets a threshold below all their scores; where none carries any label, the thresholds are
      `chance_thresholds` and the calibration is marked as not calibrated. Each is told in `notes`.
    * With `max_false_negative_rate`: one threshold for all labels instead, see `conformal.control_false_negatives`.
      The guarantee takes temperatures and checkpoint as given, though they saw the same texts.

    Signed labels are fitted one by one; that at most one of a pair is on is applied in `Calibration.decide`.

    Args:
        logits: [n, L].
        targets: int [n, L], 1, 0 or -1 (unknown).
        labels: Names [L].
        signed: Whether labels are `<slug>-for`, `<slug>-against`.
        softmax: Whether the head is one choice among all labels.
        chance_thresholds: The output of each label, before any temperature, that means p = 1/L [L], NaN where none
            does (see `chance.chance_thresholds`). Default 1/L for a softmax head and 1/2 for sigmoid heads, which holds
            for WAN without class weights (its optimum is s/(1-s) = (L-1) p/(1-p)).
        groups: Group of each text [n]; texts of one depend on each other. Default: each text is one of its own.
        max_false_negative_rate: Largest expected share of a text's labels that may be missed, in (0, 1); None
            maximises F1.

    Raises:
        ValueError: Shapes differ, a logit is NaN, a target is not 1, 0 or -1, or signed labels do not pair.
        InputError: Too few texts for the bound on the false-negative rate, or labels without known negatives.
    """
    scores, targets = np.asarray(logits, dtype=np.float64), np.asarray(targets)
    check_inputs(targets, labels, scores)
    if signed:
        _signs(tuple(labels))
    notes: list[str] = []
    if softmax:
        temperatures = np.full(len(labels), softmax_temperature(scores, targets))
    else:
        temperatures, own = sigmoid_temperatures(scores, targets)
        notes.append(named("shared temperature", labels, ~own))
    at_end = at_end_of_range(temperatures)
    notes.append(named("temperature at the end of its range (the scores hardly tell)", labels, at_end))
    zeros = (0.0,) * len(labels)
    draft = Calibration(tuple(labels), tuple(temperatures.tolist()), zeros, True, signed, softmax)
    probabilities = draft.probabilities(scores)
    if max_false_negative_rate is None:
        chance = np.full(len(labels), 1 / len(labels) if softmax else 0.5)
        chance = chance if chance_thresholds is None else np.array(chance_thresholds, dtype=float)
        # What the logits of chance become at these temperatures.
        chance = draft.probabilities((np.log(chance) if softmax else logit(chance))[np.newaxis])[0]
        found = f1_thresholds(probabilities, targets, labels, chance)
    else:
        units = np.arange(len(scores)) if groups is None else np.asarray(groups)
        found = _controlled_thresholds(draft, probabilities, targets, units, max_false_negative_rate)
    return replace(
        draft,
        thresholds=tuple(found.values.tolist()),
        calibrated=found.calibrated,
        notes=tuple(note for note in (*notes, *found.notes) if note),
        max_false_negative_rate=max_false_negative_rate,
    )


def _controlled_thresholds(
    draft: Calibration,
    probabilities: Floats,
    targets: NDArray[np.integer],
    groups: NDArray[np.generic],
    max_false_negative_rate: float,
) -> Thresholds:
    """One threshold for all labels that keeps the false-negative rate; `draft` has thresholds of 0."""
    without = ~fittable(targets) & (targets == 1).any(axis=0)
    if without.any():
        # Everything on would keep any bound, and nothing would tell.
        found = named("decision false-negative-rate without a known negative", draft.labels, without)
        raise InputError(found, "texts that are known not to carry the label", "--model.decision f1")
    can_be_on = draft.decide(probabilities)
    control = control_false_negatives(probabilities, targets, groups, can_be_on, max_false_negative_rate)
    note = (
        f"one threshold for all labels: the expected share of a text's labels that is missed is at most "
        f"{max_false_negative_rate:g} for a text of a new group drawn like those of validation ({control.n_units} "
        f"groups with a label, each counted once; {control.n_excluded} texts without one left out); this does not "
        f"carry over to another data set"
    )
    return Thresholds(np.full(len(draft.labels), control.threshold), True, (note,))


def cross_fitted(
    logits: ArrayLike,
    targets: NDArray[np.integer],
    groups: ArrayLike,
    labels: Sequence[str],
    signed: bool,
    softmax: bool,
    chance_thresholds: Sequence[float] | None = None,
    max_false_negative_rate: float | None = None,
    n_parts: int = 2,
) -> tuple[Floats, Bools]:
    """Calibrate and decide every text with numbers fitted on the other parts of the groups.

    Scored on the rows that tuned it, a threshold looks better than it is; this is what validation metrics use, in
    halves. Parts are balanced in texts and depend on the group names alone. With one group only there are no others to
    fit on: it is decided uncalibrated.

    Args:
        logits: [n, L].
        targets: int [n, L], 1, 0 or -1 (unknown).
        groups: Group of each text [n]; a group is never in both halves.
        labels: Names [L].
        signed: As `fit_calibration`.
        softmax: As `fit_calibration`.
        chance_thresholds: As `fit_calibration`.
        max_false_negative_rate: As `fit_calibration`, which raises InputError where the other parts are too few.
        n_parts: Parts of the groups, from 2. The more, the closer the numbers come to those fitted on all texts.

    Returns:
        Probabilities, float64 [n, L], and decisions, bool [n, L].
    """
    scores, targets, groups = np.asarray(logits, dtype=np.float64), np.asarray(targets), np.asarray(groups)
    part = _parts(groups, n_parts)
    probabilities, decisions = np.empty(scores.shape), np.empty(scores.shape, dtype=np.bool_)
    for k in np.unique(part):
        inside = part == k
        fitted = fit_calibration(
            scores[~inside],
            targets[~inside],
            labels,
            signed,
            softmax,
            chance_thresholds,
            groups[~inside],
            max_false_negative_rate,
        )
        probabilities[inside] = fitted.probabilities(scores[inside])
        decisions[inside] = fitted.decide(probabilities[inside])
    return probabilities, decisions


def _parts(groups: NDArray[np.generic], n_parts: int) -> NDArray[np.int64]:
    """Number the part of each text [n]: groups by digest of their name, each into the part with the fewest texts."""
    names, index, sizes = np.unique(groups, return_inverse=True, return_counts=True)
    digests = [hashlib.sha256(str(name).encode()).digest() for name in names.tolist()]
    part, filled = np.zeros(len(names), dtype=np.int64), np.zeros(n_parts, dtype=np.int64)
    for k in sorted(range(len(names)), key=lambda i: digests[i]):
        part[k] = filled.argmin()
        filled[part[k]] += sizes[k]
    return np.asarray(part[index], dtype=np.int64)


def _signs(labels: tuple[str, ...]) -> tuple[list[int], list[int]]:
    """Columns of the for-labels and of their against-labels; ValueError when labels do not pair."""
    plus = [k for k, name in enumerate(labels) if name.endswith("-for")]
    partners = [f"{labels[k].removesuffix('-for')}-against" for k in plus]
    if 2 * len(plus) != len(labels) or not set(partners) <= set(labels):
        raise ValueError(f"signed labels must be pairs <slug>-for, <slug>-against, not {', '.join(labels)}")
    return plus, [labels.index(name) for name in partners]
