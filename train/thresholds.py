"""Which temperatures and thresholds belong to which weights?

A small JSON file per checkpoint that a user may edit; found by the weights digest.
"""

from pathlib import Path

from datamodules.errors import InputError
from datamodules.files import read_json, write_json
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
    content = read_json(path, FIX)
    owner = content.pop("weights", None) if isinstance(content, dict) else None
    calibration = Calibration.from_json(content, source=str(path))
    if owner != weights:
        found = f"thresholds of weights {str(owner)[:8]} in {path}"
        raise InputError(found, f"thresholds of weights {weights[:8]}", FIX)
    if set(calibration.labels) != set(labels):
        raise InputError(f"labels {', '.join(calibration.labels)} in {path}", f"labels {', '.join(labels)}", FIX)
    return calibration.reordered(labels)


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
