"""How is a table of texts read strictly, whatever its format?"""

import csv
import io
import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import pyarrow as pa
import pyarrow.parquet as pq

from datamodules.errors import InputError
from datamodules.files import read_json_lines, read_text, require_file


@dataclass(frozen=True, slots=True)
class Table:
    """Rows with named columns.

    Attributes:
        path: The file.
        columns: Column names, in order of appearance.
        rows: Column -> cell; strings in csv and tsv, whatever the file holds in jsonl and parquet. A jsonl row may lack
            columns.
    """

    path: Path
    columns: tuple[str, ...]
    rows: tuple[dict[str, Any], ...]

    def require(self, columns: Sequence[str], fix: str) -> None:
        """Raise InputError unless the table has all these columns."""
        if missing := [column for column in columns if column not in self.columns]:
            raise InputError(
                f"no column {', '.join(missing)} in {self.path} (its columns: {', '.join(self.columns) or 'none'})",
                f"the columns {', '.join(columns)}",
                fix,
            )


def read_table_file(path: Path, fix: str) -> Table:
    """Read a csv, jsonl (both also as .gz) or parquet file, by the ending of its name.

    Args:
        path: The file.
        fix: The setting that names the file; becomes the `fix` of errors.

    Raises:
        InputError: No such file, another ending, not UTF-8, or not in its format (the line is named).
    """
    match path.name.removesuffix(".gz").rpartition(".")[2]:
        case "csv":
            return read_csv(path, fix)
        case "jsonl":
            return read_jsonl(path, fix)
        case "parquet":
            return read_parquet(path, fix)
        case _:
            raise InputError(f"{path}", "a name that ends in .csv, .jsonl or .parquet", fix)


def read_csv(path: Path, fix: str) -> Table:
    """Read a csv file with a header: quoted cells may hold line breaks, commas and doubled quotes; CRLF or LF."""
    return _delimited(path, fix, delimiter=",", quoting=csv.QUOTE_MINIMAL)


def read_tsv(path: Path, fix: str) -> Table:
    """Read a tab-separated file with a header in which a quote is a character like any other."""
    return _delimited(path, fix, delimiter="\t", quoting=csv.QUOTE_NONE)


def read_jsonl(path: Path, fix: str) -> Table:
    """Read one JSON object a line; the columns are the keys of all of them."""
    rows = read_json_lines(path, fix)
    return Table(path, tuple(dict.fromkeys(key for row in rows for key in row)), tuple(rows))


def read_parquet(path: Path, fix: str) -> Table:
    """Read a parquet file."""
    try:
        # Not pq.read_table, which takes folders named like "a=b" above the file for columns.
        table = pq.ParquetFile(require_file(path, fix)).read()
    except (pa.ArrowException, OSError) as error:
        raise InputError(f"{path}, which is not a parquet file ({error})", "a parquet file", fix) from error
    return Table(path, tuple(table.column_names), tuple(table.to_pylist()))


def is_missing(value: Any) -> bool:
    """Return whether a cell is null or NaN."""
    return value is None or (isinstance(value, float) and math.isnan(value))


def cell_text(value: Any) -> str:
    """Return a cell as stripped text; a missing one is empty."""
    return "" if is_missing(value) else str(value).strip()


def _delimited(path: Path, fix: str, delimiter: str, quoting: Literal[0, 3]) -> Table:
    text = read_text(path, fix)
    # The module's default limit of 128 KiB a cell is below a long dialogue; it is one setting for the whole process.
    csv.field_size_limit(max(csv.field_size_limit(), len(text) + 1))
    reader = csv.reader(io.StringIO(text, newline=""), delimiter=delimiter, quoting=quoting, strict=True)
    header: list[str] | None = None
    rows = []
    start = 1
    try:
        for cells in reader:
            if header is None:
                header = [cell.strip() for cell in cells]
            elif cells or len(header) == 1:
                # In a file of one column a blank line is an empty cell.
                cells = cells or [""]
                if len(cells) != len(header):
                    raise _malformed(path, start, f"{len(cells)} cells", f"{len(header)} cells, as in the header", fix)
                rows.append(dict(zip(header, cells, strict=True)))
            start = reader.line_num + 1
    except csv.Error as error:
        raise _malformed(path, start, str(error), "well-formed rows with paired quotes", fix) from error
    if not header:
        raise InputError(f"no header line in {path}", "a first line with column names", fix)
    if len(set(header)) < len(header):
        raise InputError(f"a column name twice in {path} ({', '.join(header)})", "distinct column names", fix)
    return Table(path, tuple(header), tuple(rows))


def _malformed(path: Path, line: int, found: str, needed: str, fix: str) -> InputError:
    return InputError(f"{found} in the row that starts at line {line} of {path}", needed, fix)
