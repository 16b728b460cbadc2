"""How is a table of texts read strictly, whatever its format?"""

import csv
import io
import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import pyarrow as pa
import pyarrow.parquet as pq

from datamodules.errors import InputError
from datamodules.files import first_line, is_unicode, iter_lines, require_file
from datamodules.json_rows import iter_json_array, iter_json_lines, read_json_array, read_json_lines
from datamodules.text_length import MAX_CHARACTERS

_MOST_NAMES = 20
_LONGEST_NAME = 40
# The csv module's words -> what a user should look for.
_CSV_ERRORS = {
    "unexpected end of data": "a quote that is never closed",
    "field larger than": f"a cell of more than {MAX_CHARACTERS:,} characters (is a quote left open there?)",
    "expected after": "text behind a closing quote",
}


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
                f"no column {', '.join(missing)} in {self.path} (its columns: {some_of(self.columns)})",
                f"the columns {', '.join(columns)}",
                fix,
            )


def read_table_file(path: Path, fix: str) -> Table:
    """Read a csv, jsonl, json (one array; all three also as .gz) or parquet file, by the ending of its name.

    Args:
        path: The file.
        fix: The setting that names the file; becomes the `fix` of errors.

    Raises:
        InputError: No such file, another ending, not UTF-8, or not in its format (the line is named).
    """
    match _ending(path):
        case "csv":
            return read_csv(path, fix)
        case "jsonl":
            return read_jsonl(path, fix)
        case "json":
            return _of_objects(path, read_json_array(path, fix), fix)
        case "parquet":
            return read_parquet(path, fix)
        case _:
            raise _unknown_ending(path, fix)


def read_csv(path: Path, fix: str) -> Table:
    """Read a csv file with a header: quoted cells may hold line breaks, commas and doubled quotes; CRLF or LF."""
    return _delimited(path, fix, delimiter=",", quoting=csv.QUOTE_MINIMAL)


def read_tsv(path: Path, fix: str) -> Table:
    """Read a tab-separated file with a header in which a quote is a character like any other."""
    return _delimited(path, fix, delimiter="\t", quoting=csv.QUOTE_NONE)


def read_jsonl(path: Path, fix: str) -> Table:
    """Read one JSON object a line; the columns are the keys of all of them."""
    return _of_objects(path, read_json_lines(path, fix), fix)


def read_parquet(path: Path, fix: str) -> Table:
    """Read a parquet file."""
    return Table(path, _parquet_columns(path, fix), tuple(_iter_parquet(path, fix, None)))


def is_missing(value: Any) -> bool:
    """Return whether a cell is null or NaN."""
    return value is None or (isinstance(value, float) and math.isnan(value))


def cell_text(value: Any) -> str:
    """Return a cell as stripped text; a missing one is empty."""
    return "" if is_missing(value) else str(value).strip()


def stated_columns(path: Path, fix: str) -> tuple[str, ...] | None:
    """Return the column names that a csv or parquet file states ahead of its rows; None for JSON, which states none.

    Raises:
        InputError: As `read_table_file`, of what comes before the rows.
    """
    match _ending(path):
        case "csv":
            return tuple(next(_iter_cells(path, fix, delimiter=",", quoting=csv.QUOTE_MINIMAL)))
        case "parquet":
            return _parquet_columns(path, fix)
        case _:
            return None


def iter_rows(path: Path, fix: str, columns: Sequence[str] | None = None) -> Iterator[dict[str, Any]]:
    """Yield the rows of a file as `read_table_file` reads them, one at a time.

    Args:
        path: The file.
        fix: The setting that names the file.
        columns: Columns that are needed: others of a parquet file are not decoded. Default all.

    Raises:
        InputError: As `read_table_file`, when the row is reached.
    """
    match _ending(path):
        case "csv":
            cells = _iter_cells(path, fix, delimiter=",", quoting=csv.QUOTE_MINIMAL)
            header = next(cells)
            yield from (dict(zip(header, row, strict=True)) for row in cells)
        case "jsonl":
            yield from iter_json_lines(path, fix)
        case "json":
            yield from iter_json_array(path, fix)
        case "parquet":
            yield from _iter_parquet(path, fix, columns)
        case _:
            raise _unknown_ending(path, fix)


def _ending(path: Path) -> str:
    return path.name.removesuffix(".gz").rpartition(".")[2]


def _iter_parquet(path: Path, fix: str, columns: Sequence[str] | None) -> Iterator[dict[str, Any]]:
    names = [name for name in _parquet_columns(path, fix) if columns is None or name in columns]
    try:
        for batch in pq.ParquetFile(path).iter_batches(batch_size=1_000, columns=names):
            # By name: asked for `a`, pyarrow gives `a.b` too.
            cells = {name: _cells_of(batch.column(name), name, path, fix) for name in names}
            for k in range(batch.num_rows):
                yield {name: column[k] for name, column in cells.items()}
    except (pa.ArrowException, OSError) as error:
        raise _not_parquet(path, fix, error) from error


def _cells_of(column: pa.Array, name: str, path: Path, fix: str) -> list[Any]:
    """Turn a column into what Python can hold: no date after the year 9999, no bytes as text."""
    try:
        return list(column.to_pylist())
    except (ValueError, OverflowError) as error:
        found = f"a value in column {some_of([name])} of {path} that cannot be read ({first_line(error)})"
        raise InputError(
            found, "UTF-8 texts, and times up to the year 9999", f"mend or drop that column, or {fix}"
        ) from error


def _parquet_columns(path: Path, fix: str) -> tuple[str, ...]:
    """Return the names of the columns, each of which must occur only once."""
    try:
        # Not pq.read_table, which takes folders named like "a=b" above the file for columns.
        names = tuple(pq.ParquetFile(require_file(path, fix)).schema_arrow.names)
    except (pa.ArrowException, OSError) as error:
        raise _not_parquet(path, fix, error) from error
    _require_distinct(names, path, fix)
    return names


def _require_distinct(names: Sequence[str], path: Path, fix: str) -> None:
    if len(set(names)) < len(names):
        raise InputError(f"a column name twice in {path} ({some_of(names)})", "distinct column names", fix)


def _not_parquet(path: Path, fix: str, error: Exception) -> InputError:
    return InputError(f"{path}, which is not a parquet file ({first_line(error)})", "a parquet file", fix)


def _unknown_ending(path: Path, fix: str) -> InputError:
    return InputError(f"{path}", "a name that ends in .csv, .json, .jsonl or .parquet", fix)


def _delimited(path: Path, fix: str, delimiter: str, quoting: Literal[0, 3]) -> Table:
    cells = _iter_cells(path, fix, delimiter, quoting)
    header = next(cells)
    return Table(path, tuple(header), tuple(dict(zip(header, row, strict=True)) for row in cells))


def _iter_cells(path: Path, fix: str, delimiter: str, quoting: Literal[0, 3]) -> Iterator[list[str]]:
    """Yield the header, then the cells of each row, as many as the header has."""
    # One setting for the whole process; the module's default of 128 Ki characters is below a long dialogue.
    csv.field_size_limit(MAX_CHARACTERS)
    reader = csv.reader(_iter_csv_lines(path, fix), delimiter=delimiter, quoting=quoting, strict=True)
    header: list[str] = []
    start = 1
    try:
        for cells in reader:
            if not header:
                header = [cell.strip() for cell in cells]
                if not any(header):
                    found = f"a first line without a column name in {path}"
                    raise InputError(found, "a first line with column names", f"remove that line, or {fix}")
                _require_distinct(header, path, fix)
                yield header
            elif cells or len(header) == 1:
                # In a file of one column a blank line is an empty cell.
                cells = cells or [""]
                if len(cells) != len(header):
                    raise _malformed(path, start, f"{len(cells)} cells", f"{len(header)} cells, as in the header", fix)
                yield cells
            start = reader.line_num + 1
    except csv.Error as error:
        what = next((words for said, words in _CSV_ERRORS.items() if said in str(error)), str(error))
        needed = f"rows with paired quotes and cells of at most {MAX_CHARACTERS:,} characters"
        mend = f"mend that row (a quote inside a quoted cell is doubled), or {fix}"
        raise _malformed(path, start, what, needed, mend) from error
    if not header:
        raise InputError(f"no header line in {path}", "a first line with column names", fix)


def _iter_csv_lines(path: Path, fix: str) -> Iterator[str]:
    """Yield lines; raise InputError for what would read as a strange csv file, such as JSON under a wrong name."""
    for number, line in iter_lines(path, fix):
        if number == 1 and line.lstrip().startswith(("[{", '{"')):
            found = f"{path}, which begins like JSON"
            needed = "a csv file with a header"
            raise InputError(found, needed, "rename it to .json (one array) or .jsonl (a row a line)")
        if "\0" in line:
            found = f"a NUL character in {path}, line {number}"
            if line.count("\0") < len(line) / 4:
                raise InputError(found, "text without NUL characters", f"remove it, or {fix}")
            encoding = "UTF-16LE" if line.index("\0") % 2 else "UTF-16BE"
            mend = f"iconv -f {encoding} -t UTF-8, or {fix}"
            raise InputError(f"{found}: it looks like {encoding}", "UTF-8 text", mend)
        # A lone carriage return ends a line too, as the csv module expects it.
        yield from io.StringIO(line, newline="")


def _of_objects(path: Path, rows: list[dict[str, Any]], fix: str) -> Table:
    columns = tuple(dict.fromkeys(key for row in rows for key in row))
    if not all(map(is_unicode, columns)):
        raise InputError(f"half a surrogate pair in a key of {path}", "keys that are Unicode", fix)
    return Table(path, columns, tuple(rows))


def some_of(names: Sequence[str]) -> str:
    """Return names for a message: the first ones, each cut to a readable length."""
    shown = [name if len(name) <= _LONGEST_NAME else f"{name[:_LONGEST_NAME]}.." for name in names[:_MOST_NAMES]]
    rest = len(names) - len(shown)
    return (", ".join(shown) or "none") + (f" and {rest} more" if rest else "")


def _malformed(path: Path, line: int, found: str, needed: str, fix: str) -> InputError:
    return InputError(f"{found} in the row that starts at line {line} of {path}", needed, fix)
