"""Are the numbers of a thresholds file sound? A user may have edited them."""

import math
from dataclasses import dataclass
from typing import Any

from datamodules.errors import InputError

_FLAGS = ("calibrated", "signed", "softmax")


@dataclass(frozen=True, slots=True)
class CheckedNumbers:
    """What a thresholds file says.

    Attributes:
        labels: Names of the labels [L].
        temperatures: Positive [L]; all equal where `softmax` is set.
        thresholds: In [0, 1] [L].
        flags: `calibrated`, `signed` and `softmax`.
        notes: How the numbers came about.
    """

    labels: tuple[str, ...]
    temperatures: tuple[float, ...]
    thresholds: tuple[float, ...]
    flags: dict[str, bool]
    notes: tuple[str, ...]


def checked_numbers(value: Any, source: str) -> CheckedNumbers:
    """Check parsed JSON of the form that `Calibration.to_json` gives.

    Args:
        value: The parsed file.
        source: Where it came from, for messages.

    Raises:
        InputError: A part is missing, a temperature is not positive, a threshold is outside [0, 1], or temperatures of
            a softmax differ; the label is named.
    """
    try:
        entries = dict(value["labels"])
        temperatures = tuple(entry["temperature"] for entry in entries.values())
        thresholds = tuple(entry["threshold"] for entry in entries.values())
        flags = {name: value[name] for name in _FLAGS}
        notes = tuple(str(note) for note in value.get("notes", ()))
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        said = f"no {error}" if isinstance(error, KeyError) else str(error)
        raise bad_file(f"{source}, which does not read as thresholds ({said})") from error
    if not entries or not all(isinstance(flag, bool) for flag in flags.values()):
        raise bad_file(f"{source}, with {len(entries)} labels and flags {flags}")
    for label, temperature, threshold in zip(entries, temperatures, thresholds, strict=True):
        if not _is_number(temperature) or not 0 < temperature < math.inf:
            raise bad_file(f"temperature {temperature!r} of {label} in {source}")
        if not _is_number(threshold) or not 0 <= threshold <= 1:
            raise bad_file(f"threshold {threshold!r} of {label} in {source}")
    if flags["softmax"] and len(set(temperatures)) > 1:
        raise bad_file(f"different temperatures in {source}, marked softmax, where all labels share one")
    return CheckedNumbers(tuple(entries), tuple(map(float, temperatures)), tuple(map(float, thresholds)), flags, notes)


def bad_file(found: str) -> InputError:
    """Return the error for a thresholds file."""
    needed = "per label a temperature above 0 and a threshold in [0, 1], and the flags calibrated, signed, softmax"
    return InputError(found, needed, "correct the file, or pass another with --thresholds")


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)
