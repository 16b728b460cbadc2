"""How good is a checkpoint on its test texts, and how sure is that? Its stored predictions tell."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from audits.stats.paired_bootstrap import Interval, group_weights, weighted_macro_ap, weighted_macro_f1
from datamodules.annotated_text import UNKNOWN
from datamodules.errors import InputError
from datamodules.files import first_line
from models.calibration import Calibration
from models.evaluation import evaluate, ranking_scores

N_REPLICATES = 1000


@dataclass(frozen=True, slots=True)
class StoredScores:
    """Metrics of one checkpoint on test.

    Attributes:
        n_texts: Test texts.
        n_groups: Groups of texts that depend on each other.
        positives: Test texts that carry each label, by label.
        known: Test texts of which that is known, by label.
        metrics: By flat name, as `models.evaluation.evaluate` gives them.
        intervals: 95% percentile intervals over redrawn groups of `f1_macro` and `ap_macro`, where they are defined.
    """

    n_texts: int
    n_groups: int
    positives: dict[str, int]
    known: dict[str, int]
    metrics: dict[str, float]
    intervals: dict[str, Interval]


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
    decisions = calibration.decide(calibration.probabilities(logits))
    scores = ranking_scores(logits.astype(np.float64), calibration.softmax)
    weights = group_weights(groups, N_REPLICATES, seed=0)
    redrawn: dict[str, Callable[[], np.ndarray]] = {
        "f1_macro": lambda: weighted_macro_f1(decisions, targets, weights),
        "ap_macro": lambda: weighted_macro_ap(scores, targets, weights),
    }
    return StoredScores(
        n_texts=len(logits),
        n_groups=len(np.unique(groups)),
        positives=dict(zip(labels, (targets == 1).sum(axis=0).tolist(), strict=True)),
        known=dict(zip(labels, (targets != UNKNOWN).sum(axis=0).tolist(), strict=True)),
        metrics=metrics,
        intervals={
            name: _interval(metrics[name], values())
            for name, values in redrawn.items()
            if np.isfinite(metrics.get(name, np.nan))
        },
    )


def _interval(estimate: float, drawn: np.ndarray) -> Interval:
    defined = drawn[~np.isnan(drawn)]
    low, high = np.percentile(defined, [2.5, 97.5]) if len(defined) else (np.nan, np.nan)
    return Interval(estimate, float(low), float(high), len(defined))


def _read(path: Path, labels: tuple[str, ...]) -> pa.Table | None:
    names = ["group_number", *(f"{label}_{part}" for label in labels for part in ("logit", "true"))]
    try:
        # Not read_table: it would read `name=value` folders above the file as columns.
        with pq.ParquetFile(path) as file:
            return file.read(names) if set(names) <= set(file.schema_arrow.names) else None
    except (pa.ArrowException, OSError) as error:
        found = f"{path}, which does not read as parquet ({first_line(error)})"
        raise InputError(found, "the predictions on test", "restore that file, or move it away") from error
