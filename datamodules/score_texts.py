"""Which texts are to be scored as they stand, and what are their ids? They are read twice and never all held."""

from array import array
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from datamodules.encoding_damage import is_damaged
from datamodules.errors import InputError
from datamodules.files import is_unicode, key_of
from datamodules.tabular import cell_text, iter_rows, some_of, stated_columns
from datamodules.text_length import require_length

FIX = "--input"


@dataclass(frozen=True, slots=True)
class ScoreTexts:
    """A checked file of texts.

    Attributes:
        path: The file.
        text_column: Column with the text.
        id_column: Column with the ids; None when the row numbers, from 0, are the ids.
        n: Rows.
        n_damaged: Texts that look decoded with the wrong encoding.
    """

    path: Path
    text_column: str
    id_column: str | None
    n: int
    n_damaged: int

    def read(self) -> Iterator[tuple[str, str]]:
        """Yield the id and the text of every row, in order."""
        columns = [self.text_column, *([] if self.id_column is None else [self.id_column])]
        for number, row in enumerate(iter_rows(self.path, FIX, columns)):
            yield (str(number) if self.id_column is None else str(row[self.id_column])), row[self.text_column]


def check_texts(path: Path, text_column: str, id_column: str | None) -> ScoreTexts:
    """Read a csv, jsonl, json or parquet file once and check every row, before any of it is scored.

    Args:
        path: The file.
        text_column: Column with the text.
        id_column: Column with the ids; when left out `text_id` where the file has it, else row numbers.

    Raises:
        InputError: An unreadable file, a missing column, no rows, a row without a text or with one of more than a
            million characters, rows without an id, or ids that occur twice or are not Unicode; the row is named.
    """
    stated = stated_columns(path, FIX)
    columns = dict.fromkeys(stated or ())
    wanted_id = id_column or "text_id"
    if stated is not None:
        _require_column(text_column, columns, path, "--text_column")
    keys, n_without_id, n_damaged, n = array("Q"), 0, 0, 0
    for number, row in enumerate(iter_rows(path, FIX, (text_column, wanted_id))):
        n += 1
        columns |= dict.fromkeys(row)
        _require_column(text_column, columns, path, "--text_column")
        _require_text(row.get(text_column), number, path)
        n_damaged += is_damaged(row[text_column])
        n_without_id += not cell_text(row.get(wanted_id))
        keys.append(_key_of_id(row.get(wanted_id), number, path))
    if n == 0:
        raise InputError(f"no row in {path}", "at least one text", FIX)
    if id_column is not None:
        _require_column(id_column, columns, path, "--id_column")
    if wanted_id not in columns:
        return ScoreTexts(path, text_column, None, n, n_damaged)
    if n_without_id:
        found = f"{n_without_id} rows without {wanted_id} in {path}"
        fix = "fill them, or name another column with --id_column"
        raise InputError(found, "an id in every row, or no such column", fix)
    if len(np.unique(np.frombuffer(keys, dtype=np.uint64))) < n:
        raise InputError(f"ids that occur twice in column {wanted_id} of {path}", "distinct ids", "--id_column")
    return ScoreTexts(path, text_column, wanted_id, n, n_damaged)


def _key_of_id(value: Any, number: int, path: Path) -> int:
    text_id = str(value)
    if not is_unicode(text_id):
        found = f"half a surrogate pair in the id {text_id[:40]!r} of row {number} of {path}"
        raise InputError(found, "ids that are Unicode", "mend that id, or name another column with --id_column")
    return key_of(text_id)


def _require_column(name: str, columns: dict[str, None], path: Path, fix: str) -> None:
    if name not in columns:
        found = f"no column {name} in {path} (its columns: {some_of(list(columns))})"
        raise InputError(found, f"the column {name}", fix)


def _require_text(text: Any, number: int, path: Path) -> None:
    if not isinstance(text, str) or not text.strip() or not is_unicode(text):
        raise InputError(f"row {number} of {path} without a text", "a text in every row", "fill or remove the row")
    require_length(text, f"in row {number} of {path}", FIX)
