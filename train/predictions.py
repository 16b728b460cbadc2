"""How are the predictions on a split kept?"""

from collections.abc import Sequence
from dataclasses import asdict, fields
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from datamodules.annotation_datamodule import TokenisedSplit
from datamodules.files import whole_file
from models.calibration import Calibration
from models.reliability import ReliabilityBin

BIN_COLUMNS = tuple(field.name for field in fields(ReliabilityBin))


def score_columns(logits: np.ndarray, calibration: Calibration) -> dict[str, np.ndarray]:
    """Columns of scored texts: per label its calibrated probability `<label>` and decision `<label>_on`."""
    probabilities = calibration.probabilities(logits)
    decisions = calibration.decide(probabilities)
    columns: dict[str, np.ndarray] = {}
    for k, label in enumerate(calibration.labels):
        columns[label] = probabilities[:, k]
        columns[f"{label}_on"] = decisions[:, k]
    return columns


def all_score_columns(logits: np.ndarray, calibration: Calibration) -> dict[str, np.ndarray]:
    """`score_columns` of all taxonomies of a classifier, those of a further one named `<taxonomy>.<label>`."""
    n = len(calibration.labels)
    columns = score_columns(logits[:, :n], calibration)
    for name, own in calibration.further.items():
        further = score_columns(logits[:, n : n + len(own.labels)], own)
        columns |= {f"{name}.{column}": values for column, values in further.items()}
        n += len(own.labels)
    return columns


def further_file(path: Path, taxonomy: str) -> Path:
    """Path of the predictions of a further taxonomy, beside those of the main one."""
    return path.with_name(f"{path.stem}-{taxonomy}{path.suffix}")


def write_predictions(path: Path, split: TokenisedSplit, logits: np.ndarray, calibration: Calibration) -> None:
    """Write text_id, group_id, group_number (of the texts that must not straddle splits) and columns per label.

    These are `<label>`, `<label>_on`, `<label>_true` (null where unknown) and `<label>_logit` (float32), from which
    probabilities and decisions of any other calibration can be had.
    """
    columns: dict[str, pa.Array | list[str] | np.ndarray] = {
        "text_id": [text.text_id for text in split.texts],
        "group_id": [text.group_id for text in split.texts],
        "group_number": split.groups,
        **score_columns(logits, calibration),
    }
    for k, label in enumerate(calibration.labels):
        unknown = split.targets[:, k] == -1
        columns[f"{label}_true"] = pa.array(split.targets[:, k] == 1, mask=unknown)
        columns[f"{label}_logit"] = np.asarray(logits[:, k], dtype=np.float32)
    with whole_file(path) as part:
        pq.write_table(pa.table(columns), part, compression="zstd")


def write_reliability(path: Path, bins: Sequence[ReliabilityBin]) -> None:
    """Write one row per bin, with the fields of `ReliabilityBin` as columns; no row where no label has any."""
    counts = ("bin", "n", "n_groups")
    types = {"label": pa.string()} | dict.fromkeys(counts, pa.int64())
    schema = pa.schema([(name, types.get(name, pa.float64())) for name in BIN_COLUMNS])
    table = pa.Table.from_pylist([asdict(row) for row in bins], schema=schema)
    with whole_file(path) as part:
        pq.write_table(table, part, compression="zstd")
