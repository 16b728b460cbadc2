"""What did the best checkpoint of a run predict on its test texts? From the run directory's files alone."""

import math
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from datamodules.annotated_text import UNKNOWN
from datamodules.errors import InputError
from models.evaluation import is_error
from train.checkpoints import logged_values
from train.drift_series import monitored_metric
from train.ledger import Ledger
from train.run_directory import RunDirectory

ENDING = "-test.parquet"
TRUE = "_true"


@dataclass(frozen=True, slots=True, eq=False)
class StoredPredictions:
    """Predictions of n test texts.

    Attributes:
        run: The run directory.
        weights: First 8 digits of the digest of the weights that predicted.
        step: Their training step; None where the ledger does not know.
        labels: Names of the labels [L].
        text_ids: [n], str.
        groups: Number of the group of texts that depend on each other, int64 [n].
        targets: 1, 0 or -1 (unknown), int64 [n, L].
        probabilities: Calibrated, float64 [n, L].
        decisions: bool [n, L].
    """

    run: RunDirectory
    weights: str
    step: int | None
    labels: tuple[str, ...]
    text_ids: np.ndarray
    groups: np.ndarray
    targets: np.ndarray
    probabilities: np.ndarray
    decisions: np.ndarray


def read_test_predictions(run: RunDirectory) -> StoredPredictions:
    """Read the test predictions of a run's best checkpoint.

    Raises:
        InputError: The run was not finished, or the file cannot be read.
    """
    path = _best_file(run)
    fix = f"restore it, or imprint fit --resume {run.path}"
    try:
        # Not read_table: it would read `name=value` folders above the file as columns.
        with pq.ParquetFile(path) as file:
            table = file.read()
    except (pa.ArrowException, OSError) as error:
        found = f"{path}, which does not read as Parquet ({error})"
        raise InputError(found, "the predictions of a run", fix) from error
    labels = tuple(name.removesuffix(TRUE) for name in table.column_names if name.endswith(TRUE))
    needed = ["text_id", "group_id", *(f"{label}{end}" for label in labels for end in ("", "_on"))]
    missing = [name for name in needed if name not in table.column_names]
    if missing or not labels:
        found = f"{path} without column {missing[0] if missing else f'<label>{TRUE}'}"
        raise InputError(found, "the predictions of a run", fix)
    weights = path.name.removesuffix(ENDING)
    # Runs of before there were numbers have declared groups alone.
    groups = table["group_number" if "group_number" in table.column_names else "group_id"]
    _, numbers = np.unique(np.array(groups.to_pylist()), return_inverse=True)
    return StoredPredictions(
        run=run,
        weights=weights,
        step=_steps(run).get(weights),
        labels=labels,
        text_ids=np.array(table["text_id"].to_pylist(), dtype=np.str_),
        groups=numbers.astype(np.int64),
        # Null is unknown.
        targets=_stacked(table, [f"{label}{TRUE}" for label in labels], "int64"),
        probabilities=_stacked(table, list(labels), "float64"),
        decisions=_stacked(table, [f"{label}_on" for label in labels], "int64") == 1,
    )


def _stacked(table: pa.Table, names: list[str], kind: str) -> np.ndarray:
    return np.stack([table[name].cast(kind).fill_null(UNKNOWN).to_numpy() for name in names], axis=1)


def _best_file(run: RunDirectory) -> Path:
    """Of several files (a run that was gone on with has one of each end), that of the best monitored metric."""
    # Not those of a further taxonomy whose name has this end too.
    files = [path for path in sorted((run.path / "predictions").glob(f"*{ENDING}")) if path.name.count("-") == 1]
    if not files:
        found = f"no predictions/*{ENDING} in {run.path}"
        raise InputError(found, "a finished run", f"imprint fit --resume {run.path}, or leave it out")
    if len(files) == 1:
        return files[0]
    monitor = monitored_metric(run)
    values, steps, sign = logged_values(run, monitor), _steps(run), 1 if is_error(monitor) else -1
    ranked = []
    for path in files:
        step = steps.get(path.name.removesuffix(ENDING))
        if step is not None and math.isfinite(values.get(step, math.nan)):
            ranked.append((sign * values[step], step, path))
    if not ranked:
        names = ", ".join(path.name for path in files)
        found = f"test predictions of several checkpoints in {run.path}, {names}, and no {monitor} of any"
        raise InputError(found, "those of one checkpoint", "restore ledger.jsonl and metrics.jsonl, or move the others")
    return min(ranked)[2]


def _steps(run: RunDirectory) -> dict[str, int]:
    """Step of each checkpoint, by the first 8 digits of its digest."""
    return {seen.weights[:8]: seen.step for seen in Ledger(run.ledger_file).checkpoints}
