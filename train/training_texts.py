"""Which texts were a run's weights and thresholds fitted on? Digests of them stand in the run directory, no texts."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from datamodules.annotation_datamodule import text_parts
from datamodules.errors import InputError
from datamodules.files import whole_file
from datamodules.overlap import LAYOUT, text_digests
from datamodules.splits import Splits
from datamodules.views import ViewRequest

FILE = "training_texts.parquet"
_LAYOUT_KEY = b"layout"


def training_digests(parts: Sequence[Splits], view: ViewRequest) -> np.ndarray:
    """Digests of the texts of training and validation, and of the part of each that is read: uint64 [n], sorted.

    Those of all data sets: their texts are no new ones to the encoder.
    Validation counts: checkpoint, temperatures and thresholds are fitted on it. Test does not.
    """
    texts = [text.text for splits in parts for text in (*splits.train, *splits.val)]
    return text_digests([*texts, *("".join(text_parts(text, view)) for text in texts)])


def write_training_texts(run: Path, digests: np.ndarray) -> None:
    """Write the digests into a run directory."""
    table = pa.table({"digest": digests}).replace_schema_metadata({_LAYOUT_KEY: str(LAYOUT).encode()})
    with whole_file(run / FILE) as part:
        pq.write_table(table, part, compression="zstd", write_page_checksum=True)


def read_training_texts(run: Path) -> np.ndarray | None:
    """Read the digests of a run directory.

    Returns:
        uint64 [n], sorted; None where they are not recorded: an older run, or another way of making digests.

    Raises:
        InputError: A damaged file.
    """
    path = run / FILE
    if not path.is_file():
        return None
    try:
        # Not read_table, which takes folders named like "a=b" above the file for columns.
        with pq.ParquetFile(path, page_checksum_verification=True) as file:
            table = file.read()
    except (OSError, pa.ArrowException) as error:
        raise _damaged(path) from error
    if (table.schema.metadata or {}).get(_LAYOUT_KEY) != str(LAYOUT).encode():
        return None
    if table.schema.names != ["digest"] or table.schema.field("digest").type != pa.uint64():
        raise _damaged(path)
    digests: np.ndarray = table["digest"].to_numpy()
    return digests


def training_texts_beside(checkpoint: Path) -> np.ndarray | None:
    """Read the digests of the run that a checkpoint file lies in; None where it lies in none, or as above.

    Raises:
        InputError: A damaged file.
    """
    return read_training_texts(checkpoint.resolve().parent.parent)


def _damaged(path: Path) -> InputError:
    found = f"{path}, which is damaged"
    fix = "restore it, or delete it: then no pair is known to hold a text that the classifier was trained on"
    return InputError(found, "the digests of the texts that the run was trained on", fix)
