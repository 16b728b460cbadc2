"""Are the numbers of a thresholds file sound? A user may have edited them."""

import math
import reprlib
from dataclasses import dataclass
from typing import Any

from datamodules.errors import InputError

_FLAGS = ("calibrated", "signed", "softmax")
F1, FALSE_NEGATIVE_RATE = "f1", "false-negative-rate"


@dataclass(frozen=True, slots=True)
class CheckedNumbers:
    """What a thresholds file says.

    Attributes:
        labels: Names of the labels [L].
        temperatures: Positive [L]; all equal where `softmax` is set.
        thresholds: In [0, 1] [L].
        flags: `calibrated`, `signed` and `softmax`.
        notes: How the numbers came about.
        max_false_negative_rate: The bound that the thresholds keep, in (0, 1); None where they maximise F1.
        further: The same of further taxonomies by name, unchecked; empty for one.
    """

    labels: tuple[str, ...]
    temperatures: tuple[float, ...]
    thresholds: tuple[float, ...]
    flags: dict[str, bool]
    notes: tuple[str, ...]
    max_false_negative_rate: float | None
    further: dict[str, Any]


def decision_to_json(max_false_negative_rate: float | None) -> dict[str, Any]:
    """Return the decision rule as a thresholds file tells it."""
    if max_false_negative_rate is None:
        return {"decision": F1}
    return {"decision": FALSE_NEGATIVE_RATE, "max_false_negative_rate": max_false_negative_rate}


def checked_numbers(value: Any, source: str) -> CheckedNumbers:
    """Check parsed JSON of the form that `Calibration.to_json` gives.

    Args:
        value: The parsed file.
        source: Where it came from, for messages.

    Raises:
        InputError: A part is missing, a temperature is not positive, a threshold is outside [0, 1], temperatures of a
            softmax differ (the label is named), or an unknown decision rule.
    """
    try:
        entries = dict(value["labels"])
        temperatures = tuple(entry["temperature"] for entry in entries.values())
        thresholds = tuple(entry["threshold"] for entry in entries.values())
        flags = {name: value[name] for name in _FLAGS}
        notes = tuple(str(note) for note in value.get("notes", ()))
        further = dict(value.get("further", {}))
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        said = f"no {error}" if isinstance(error, KeyError) else str(error)
        raise bad_file(f"{source}, which does not read as thresholds ({said})") from error
    if not entries or not all(isinstance(flag, bool) for flag in flags.values()):
        raise bad_file(f"{source}, with {len(entries)} labels and flags {flags}")
    for label, temperature, threshold in zip(entries, temperatures, thresholds, strict=True):
        if not 0 < _number(temperature) < math.inf:
            raise bad_file(f"temperature {reprlib.repr(temperature)} of {label} in {source}")
        if not 0 <= _number(threshold) <= 1:
            raise bad_file(f"threshold {reprlib.repr(threshold)} of {label} in {source}")
    if flags["softmax"] and len(set(temperatures)) > 1:
        raise bad_file(f"different temperatures in {source}, marked softmax, where all labels share one")
    bound = _checked_decision(value, source)
    numbers = tuple(map(float, temperatures)), tuple(map(float, thresholds))
    return CheckedNumbers(tuple(entries), *numbers, flags, notes, bound, further)


def _checked_decision(value: Any, source: str) -> float | None:
    """Return the bound on the false-negative rate, if any; files of earlier versions have no decision rule."""
    decision, bound = value.get("decision", F1), value.get("max_false_negative_rate")
    if decision == F1 and bound is None:
        return None
    if decision == FALSE_NEGATIVE_RATE and 0 < _number(bound) < 1:
        return _number(bound)
    found = f"decision {reprlib.repr(decision)} with max_false_negative_rate {reprlib.repr(bound)} in {source}"
    needed = f"{F1} without a rate, or {FALSE_NEGATIVE_RATE} with one between 0 and 1"
    raise InputError(found, needed, "correct the file, or pass another with --thresholds")


def bad_file(found: str) -> InputError:
    """Return the error for a thresholds file."""
    needed = "per label a temperature above 0 and a threshold in [0, 1], and the flags calibrated, signed, softmax"
    return InputError(found, needed, "correct the file, or pass another with --thresholds")


def _number(value: Any) -> float:
    """Return a number as float, infinite where none holds it; NaN for anything else."""
    if isinstance(value, bool) or not isinstance(value, int | float):
        return math.nan
    try:
        return float(value)
    except OverflowError:
        return math.copysign(math.inf, value > 0 or -1)
