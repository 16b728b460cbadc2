"""Which temperatures and thresholds belong to which weights?

A small JSON file per checkpoint that a user may edit; found by the weights digest.
"""

import json
from pathlib import Path

from datamodules.errors import InputError
from datamodules.files import read_text, write_json
from models.calibration import Calibration

FIX = "--thresholds, or fit them with `imprint audit RUN_DIR --pending`"


def write_thresholds(path: Path, weights: str, calibration: Calibration) -> None:
    """Write the calibration of the checkpoint with these weights."""
    write_json(path, {"weights": weights, **calibration.to_json()})


def read_thresholds(path: Path, weights: str, labels: tuple[str, ...]) -> Calibration:
    """Read a calibration and check that it fits a checkpoint.

    Args:
        path: The JSON file.
        weights: Digest of the checkpoint's weights.
        labels: Labels of the checkpoint.

    Raises:
        InputError: Missing or broken file, other weights or other labels.
    """
    try:
        content = json.loads(read_text(path, FIX))
        owner = content.pop("weights")
        calibration = Calibration.from_json(content)
    except (json.JSONDecodeError, KeyError, TypeError, ValueError, AttributeError) as error:
        raise InputError(
            f"{path}, which is not a thresholds file ({error})", "a file as `imprint fit` writes", FIX
        ) from error
    if owner != weights:
        raise InputError(f"thresholds of weights {owner[:8]} in {path}", f"thresholds of weights {weights[:8]}", FIX)
    if calibration.labels != tuple(labels):
        raise InputError(f"labels {', '.join(calibration.labels)} in {path}", f"labels {', '.join(labels)}", FIX)
    return calibration


def find_thresholds(checkpoint: Path, weights: str, labels: tuple[str, ...], given: Path | None) -> Calibration:
    """Find the calibration of a checkpoint file: `given`, or in the run directory that the file lies in.

    Raises:
        InputError: None found, or it does not fit.
    """
    path = given or checkpoint.resolve().parent.parent / "thresholds" / f"{weights[:8]}.json"
    if not path.is_file():
        found = f"no thresholds of checkpoint {weights[:8]} at {path}"
        raise InputError(found, "the temperatures and thresholds that were fitted for these weights", FIX)
    return read_thresholds(path, weights, labels)
