"""How does a checkpoint do on the signed values of its test texts? Kept beside its predictions, or from them."""

from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from audits.signed_evaluation import COLUMNS, SignedRow, shares_of_rows, signed_rows
from audits.stats.chance_outcomes import outcome_shares
from audits.stats.signed_outcomes import signed_outcomes, signed_slugs
from datamodules.annotated_text import AnnotatedText
from datamodules.errors import InputError
from datamodules.files import whole_file
from train.config import DataConfig
from train.inputs import read_annotations_and_split
from train.run_directory import RunDirectory
from train.stored_predictions import StoredPredictions

TEXTS = ("metric", "value")
COUNTS = ("n_redraws", "n", "n_groups", "n_positives", "n_values")


def training_shares(train: Sequence[AnnotatedText], labels: Sequence[str]) -> np.ndarray:
    """Return the share of each outcome of each signed value in training texts, float64 [K, 3]."""
    return outcome_shares(signed_outcomes(np.array([text.labels for text in train]), labels))


def signed_file(run: RunDirectory, weights: str) -> Path:
    """Path of the scores of a checkpoint on the signed values of test."""
    return run.predictions_file(weights, "test-signed")


def write_signed_rows(path: Path, rows: Sequence[SignedRow]) -> None:
    """Write one row per score, with the fields of `SignedRow` as columns."""
    types = dict.fromkeys(TEXTS, pa.string()) | dict.fromkeys(COUNTS, pa.int64())
    schema = pa.schema([(name, types.get(name, pa.float64())) for name in COLUMNS])
    with whole_file(path) as part:
        pq.write_table(pa.Table.from_pylist([asdict(row) for row in rows], schema=schema), part, compression="zstd")


def read_signed_rows(path: Path) -> list[SignedRow] | None:
    """Read what `write_signed_rows` wrote; None where there is no such file, or one that does not read."""
    try:
        with pq.ParquetFile(path) as file:
            return [SignedRow(**row) for row in file.read().to_pylist()]
    except (pa.ArrowException, OSError, TypeError):
        return None


def stored_signed_rows(stored: StoredPredictions, data: DataConfig) -> list[SignedRow]:
    """Score the stored test predictions of a run on signed values.

    Args:
        stored: What its best checkpoint predicted.
        data: The run's settings on data: where it has not kept the shares of training, the texts are read again.

    Raises:
        InputError: Unsigned labels, texts that cannot be read, or that are not those of the run.
    """
    kept = read_signed_rows(signed_file(stored.run, stored.weights))
    if kept is not None:
        shares = shares_of_rows(kept, signed_slugs(stored.labels))
    else:
        annotations = read_annotations_and_split(data)
        stored.run.require_same_splits(annotations.splits_to_dict(), ("train",))
        if annotations.taxonomy.labels != stored.labels:
            found = f"labels {', '.join(annotations.taxonomy.labels[:3])}, .. in the texts of {stored.run.path}"
            raise InputError(found, "those of its predictions", "--data.taxonomy")
        shares = training_shares(annotations.splits.train, stored.labels)
    return signed_rows(stored.decisions, stored.targets, stored.labels, stored.groups, shares)
