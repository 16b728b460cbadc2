"""How are the predictions on a split kept?"""

from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from datamodules.annotation_datamodule import TokenisedSplit
from datamodules.files import whole_file
from models.calibration import Calibration


def score_columns(logits: np.ndarray, calibration: Calibration) -> dict[str, np.ndarray]:
    """Columns of scored texts: per label its calibrated probability `<label>` and decision `<label>_on`."""
    probabilities = calibration.probabilities(logits)
    decisions = calibration.decide(probabilities)
    columns: dict[str, np.ndarray] = {}
    for k, label in enumerate(calibration.labels):
        columns[label] = probabilities[:, k]
        columns[f"{label}_on"] = decisions[:, k]
    return columns


def write_predictions(path: Path, split: TokenisedSplit, logits: np.ndarray, calibration: Calibration) -> None:
    """Write text_id, group_id and per label `<label>`, `<label>_on` and `<label>_true` (null where unknown)."""
    columns: dict[str, pa.Array | list[str] | np.ndarray] = {
        "text_id": [text.text_id for text in split.texts],
        "group_id": [text.group_id for text in split.texts],
        **score_columns(logits, calibration),
    }
    for k, label in enumerate(calibration.labels):
        unknown = split.targets[:, k] == -1
        columns[f"{label}_true"] = pa.array(split.targets[:, k] == 1, mask=unknown)
    with whole_file(path) as part:
        pq.write_table(pa.table(columns), part, compression="zstd")
