"""Which temperatures and thresholds belong to which weights?

A small JSON file per checkpoint that a user may edit; found by the weights digest.
"""

from dataclasses import replace
from pathlib import Path
from typing import Any

from datamodules.errors import InputError
from datamodules.files import digest_of, read_json, write_json
from models.calibration import Calibration
from models.calibration_file import F1
from models.ensemble import Scorer
from models.tasks import Task

FIX = "--thresholds, or delete that file and fit them with `imprint audit RUN_DIR --pending`"
EDITED = "edited by hand after they were fitted"
_MOST_NAMED = 5


def write_thresholds(path: Path, weights: str, calibration: Calibration) -> None:
    """Write the calibration of the checkpoint with these weights."""
    content = calibration.to_json()
    write_json(path, {"weights": weights, **content, "digest": _numbers_digest(content)})


def read_thresholds(path: Path, weights: str, model: Scorer) -> Calibration:
    """Read a calibration and check that it fits a checkpoint; numbers that were changed since are told in its notes.

    Args:
        path: The JSON file.
        weights: Digest of the checkpoint's weights.
        model: The classifier of the checkpoint; its labels and its kind of head are no numbers to edit.

    Raises:
        InputError: Missing or broken file, other labels, another kind of head or other weights.
    """
    content = read_json(path, FIX)
    parts = content if isinstance(content, dict) else {}
    owner, written = parts.pop("weights", None), parts.pop("digest", None)
    calibration = Calibration.from_json(content, source=str(path))
    if set(calibration.further) != {task.name for task in model.further}:
        there, asked = _listed(tuple(calibration.further)), _listed(tuple(task.name for task in model.further))
        raise InputError(f"further taxonomies {there} in {path}", f"further taxonomies {asked}", FIX)
    _require_labels(calibration, model, path)
    if owner != weights:
        found = f"thresholds of weights {str(owner)[:8]} in {path}"
        raise InputError(found, f"thresholds of weights {weights[:8]}", FIX)
    _require_head(calibration, model, path)
    for task in model.further:
        _require_labels(calibration.further[task.name], task, path)
        _require_head(calibration.further[task.name], task, path)
    # The audit's meta data hold the notes, so that nobody takes changed numbers for fitted ones.
    if written is not None and written != _numbers_digest(calibration.to_json()):
        further = {name: replace(own, notes=(*own.notes, EDITED)) for name, own in calibration.further.items()}
        calibration = replace(calibration, notes=(*calibration.notes, EDITED), further=further)
    further = {task.name: calibration.further[task.name].reordered(task.labels) for task in model.further}
    return replace(calibration.reordered(model.labels), further=further)


def _require_labels(calibration: Calibration, model: Scorer | Task, path: Path) -> None:
    if set(calibration.labels) != set(model.labels):
        raise InputError(f"labels {_listed(calibration.labels)} in {path}", f"labels {_listed(model.labels)}", FIX)


def _require_head(calibration: Calibration, model: Scorer | Task, path: Path) -> None:
    for name, said, true in (
        ("signed", calibration.signed, model.taxonomy.signed),
        ("softmax", calibration.softmax, model.softmax),
    ):
        if said != true:
            needed = f"{name} {str(true).lower()}, as the model was trained"
            raise InputError(f"{name} {str(said).lower()} in {path}", needed, f"set it back, or {FIX}")


def _numbers_digest(content: dict[str, Any]) -> str:
    """Digest of everything but the notes, to tell an edited file from a fitted one.

    The decision rule of earlier versions, which did not name it, counts as unnamed.
    """
    return digest_of(
        {name: part for name, part in content.items() if name != "notes" and (name, part) != ("decision", F1)}
    )


def _listed(labels: tuple[str, ...]) -> str:
    rest = len(labels) - _MOST_NAMED
    return (", ".join(labels[:_MOST_NAMED]) or "none") + (f" and {rest} more" if rest > 0 else "")


def find_thresholds(checkpoint: Path, weights: str, model: Scorer, given: Path | None) -> Calibration:
    """Find the calibration of a checkpoint file: `given`, or in the run directory that the file lies in.

    Raises:
        InputError: None found, or it does not fit.
    """
    path = given or checkpoint.resolve().parent.parent / "thresholds" / f"{weights[:8]}.json"
    if not path.is_file():
        found = f"no thresholds of checkpoint {weights[:8]} at {path}"
        raise InputError(found, "the temperatures and thresholds that were fitted for these weights", FIX)
    return read_thresholds(path, weights, model)
