"""How good is a checkpoint on its test texts, and how sure is that? Its stored predictions tell."""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from audits.comparison import Predictions, measure
from audits.stats.paired_bootstrap import group_weights
from datamodules.annotated_text import UNKNOWN
from datamodules.errors import InputError
from datamodules.files import first_line
from models.calibration import Calibration
from models.evaluation import evaluate

N_REPLICATES = 1000
# Metrics that get an interval: averages, and those of each value.
_AVERAGES = ("f1_macro", "f1_micro", "ap_macro", "top1_accuracy", "f1_top1_macro")
_PER_LABEL = ("f1", "ap", "f1_top1")


@dataclass(frozen=True, slots=True)
class StoredScores:
    """Metrics of one checkpoint on test.

    Attributes:
        n_texts: Test texts.
        n_groups: Groups of texts that depend on each other.
        positives: Test texts that carry each label, by label.
        known: Test texts of which that is known, by label.
        metrics: By flat name, as `models.evaluation.evaluate` gives them.
        intervals: Ends of 95% percentile intervals over redrawn groups by flat name; none of what is undefined, and
            none at all where there is one group.
    """

    n_texts: int
    n_groups: int
    positives: dict[str, int]
    known: dict[str, int]
    metrics: dict[str, float]
    intervals: dict[str, tuple[float, float]]


def stored_scores(path: Path, calibration: Calibration) -> StoredScores | None:
    """Score stored predictions with these temperatures and thresholds, which may have been edited since.

    Args:
        path: Predictions of the checkpoint on test.
        calibration: Its temperatures and thresholds.

    Returns:
        None where there is no such file, or one of an earlier version, without logits.

    Raises:
        InputError: A file that cannot be read.
    """
    table = _read(path, calibration.labels) if path.is_file() else None
    if table is None:
        return None
    labels = calibration.labels
    logits = np.stack([table[f"{label}_logit"].to_numpy() for label in labels], axis=1)
    truth = [table[f"{label}_true"].cast(pa.int64()).fill_null(UNKNOWN) for label in labels]
    targets = np.stack([column.to_numpy() for column in truth], axis=1)
    groups = table["group_number"].to_numpy()
    metrics = evaluate(logits, targets, calibration, groups)
    n_groups = len(np.unique(groups))
    return StoredScores(
        n_texts=len(logits),
        n_groups=n_groups,
        positives=dict(zip(labels, (targets == 1).sum(axis=0).tolist(), strict=True)),
        known=dict(zip(labels, (targets != UNKNOWN).sum(axis=0).tolist(), strict=True)),
        metrics=metrics,
        intervals=_intervals(logits, targets, groups, calibration, metrics) if n_groups > 1 else {},
    )


def _intervals(
    logits: np.ndarray, targets: np.ndarray, groups: np.ndarray, calibration: Calibration, metrics: dict[str, float]
) -> dict[str, tuple[float, float]]:
    probabilities = calibration.probabilities(logits)
    run = Predictions(probabilities, calibration.decide(probabilities))
    wanted = [name for name in _AVERAGES if name in metrics]
    wanted += [name for name in _PER_LABEL if f"{name}/{calibration.labels[0]}" in metrics]
    measured = measure([run], targets, group_weights(groups, N_REPLICATES, seed=0), wanted)
    found = {}
    for name, values in measured.items():
        flat = [name] if name in _AVERAGES else [f"{name}/{label}" for label in calibration.labels]
        for k, own in enumerate(flat):
            drawn = values.redrawn[0, :, k]
            if np.isfinite(metrics[own]) and not np.isnan(drawn).all():
                low, high = np.nanpercentile(drawn, [2.5, 97.5])
                found[own] = float(low), float(high)
    return found


def _read(path: Path, labels: tuple[str, ...]) -> pa.Table | None:
    names = ["group_number", *(f"{label}_{part}" for label in labels for part in ("logit", "true"))]
    try:
        # Not read_table: it would read `name=value` folders above the file as columns.
        with pq.ParquetFile(path) as file:
            return file.read(names) if set(names) <= set(file.schema_arrow.names) else None
    except (pa.ArrowException, OSError) as error:
        found = f"{path}, which does not read as parquet ({first_line(error)})"
        raise InputError(found, "the predictions on test", "restore that file, or move it away") from error
