"""How does a checkpoint do on texts that it was not fitted on? Its stored validation predictions tell."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from audits.base import HeldOut
from datamodules.annotated_text import UNKNOWN
from datamodules.errors import InputError
from datamodules.files import digest_of, first_line
from models.calibration import Calibration, cross_fitted
from models.ensemble import Scorer
from models.tasks import Task
from train.predictions import further_file
from train.run_directory import RunDirectory
from train.thresholds import EDITED

# A threshold of half of the texts errs otherwise than that of all, which decides in audits: bands from rates in halves
# held the truth in 75 to 88% of simulated audits (600 to 1,500 texts), from 20 parts in 95% and more.
N_PARTS = 20


def held_out_by_taxonomy(path: Path, calibration: Calibration, model: Scorer) -> dict[str, HeldOut | None]:
    """Return `held_out_scores` of the main taxonomy under "", and of the further ones by name.

    Args:
        path: Predictions of the main taxonomy on validation.
        calibration: Temperatures and thresholds of all.
        model: The classifier.
    """
    further = {
        task.name: held_out_scores(further_file(path, task.name), calibration.further[task.name], task)
        for task in model.further
    }
    return {"": held_out_scores(path, calibration, model), **further}


def held_out_scores(path: Path, calibration: Calibration, model: Scorer | Task) -> HeldOut | None:
    """Score the validation texts of a checkpoint as texts that its thresholds were not fitted on.

    Each twentieth of the groups is calibrated and decided with numbers fitted on the others, which are nearly those
    that audits decide with. Where a user edited the thresholds, the given ones decide: what was chosen by hand was not
    fitted here.

    Args:
        path: Predictions of the checkpoint on validation.
        calibration: Its temperatures and thresholds.
        model: Its classifier.

    Returns:
        None where there is no such file, or one of an earlier version, without logits.

    Raises:
        InputError: A file that cannot be read.
    """
    if not path.is_file():
        return None
    columns = _read(
        path, ["group_number", *(f"{label}_{part}" for label in model.labels for part in ("logit", "true"))]
    )
    if columns is None:
        return None
    groups = columns["group_number"].to_numpy()
    logits = np.stack([columns[f"{label}_logit"].to_numpy() for label in model.labels], axis=1)
    truth = [columns[f"{label}_true"].cast(pa.int64()).fill_null(UNKNOWN) for label in model.labels]
    targets = np.stack([values.to_numpy() for values in truth], axis=1)
    if EDITED in calibration.notes:
        probabilities = calibration.probabilities(logits)
        decisions = calibration.decide(probabilities)
    else:
        probabilities, decisions = cross_fitted(
            logits,
            targets,
            groups,
            model.labels,
            model.taxonomy.signed,
            model.softmax,
            model.chance_thresholds,
            model.max_false_negative_rate,
            n_parts=N_PARTS,
        )
    return HeldOut(probabilities, decisions, targets, groups.astype(np.str_))


def absence_line(path: Path) -> str:
    """What to say where `held_out_scores` gives none."""
    why = "of an earlier version, without logits" if path.is_file() else "missing"
    told = f"  predictions {path.name} {why}: prevalence rows get no band from held-out texts"
    if not path.is_file():
        return told
    # Thresholds are fitted with predictions, by the rule of this version.
    thresholds = f"thresholds/{path.name.split('-')[0]}.json"
    return f"{told}; to have both made again, delete it and {thresholds}"


def predictions_beside(checkpoint: Path, weights: str) -> Path:
    """Path of the predictions on validation in the run directory that a checkpoint file lies in."""
    return RunDirectory(checkpoint.resolve().parent.parent).predictions_file(weights, "val")


def held_out_digest(held_out: HeldOut | None) -> str:
    """Digest of what audits may conclude from held-out texts besides the weights; empty where there are none.

    Probabilities are left out: they follow from weights and texts, but for their last bits on another machine.
    """
    if held_out is None:
        return ""
    texts = [held_out.targets.tolist(), held_out.groups.tolist()]
    return digest_of([texts, np.packbits(held_out.decisions).tobytes().hex()])


def joint_digest(held_out: Mapping[str, HeldOut | None]) -> str:
    """Digest of what audits may conclude from the held-out texts of all taxonomies, the main one under ""."""
    own = held_out_digest(held_out[""])
    further = {name: held_out_digest(scores) for name, scores in held_out.items() if name}
    return digest_of([own, further]) if further else own


def _read(path: Path, names: list[str]) -> Any:
    """Read columns of a parquet file; None where it does not have them all."""
    try:
        if not set(names) <= set(pq.read_schema(path).names):
            return None
        return pq.read_table(path, columns=names)
    except (pa.ArrowException, OSError) as error:
        found = f"{path}, which does not read as parquet ({first_line(error)})"
        fix = f"delete it and thresholds/{path.name.split('-')[0]}.json: both are made again"
        raise InputError(found, "the predictions on validation", fix) from error
