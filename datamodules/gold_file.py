"""What does a file of texts for labelling hold, and is it still the sample that was drawn?

A row is a response: `item_id`, `text`, an empty column per label, then what says how it was drawn. The id is a digest
of data set, pair, side, view and text, so that it joins strictly and does not tell whoever labels which response people
preferred. An item was drawn as one of `stratum_drawn` units of a stratum of `stratum_size`. Rows may stand in any
order, and files of several data sets may be joined, as long as every drawn row is there: labelled (1, 0, true, false,
yes, no) in all label columns, or blank in all of them. A second person's labels are columns `<label>_2`.
"""

import csv
import hashlib
import json
import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from unicodedata import normalize

import numpy as np

from datamodules.dialogue import view_parts
from datamodules.errors import InputError
from datamodules.files import whole_file
from datamodules.preference_data import PreferenceData
from datamodules.reward_file import cell_number
from datamodules.tabular import Table, cell_text, is_missing, read_table_file, some_of
from datamodules.views import ViewName

UNITS = {"pair": 2, "text": 1}  # Unit -> responses of one.
DESIGN = ("dataset", "view", "unit", "stratum", "stratum_drawn", "stratum_size", "inclusion_probability")
# Columns that are for readers only.
FREE = ("text", "pair_id", "side", "comment", "notes")
SECOND, PREDICTED = "_2", "_probability"
YES, NO = ("1", "1.0", "true", "yes"), ("0", "0.0", "false", "no")
# A spreadsheet shows and saves fewer digits than a ratio has.
RELATIVE_ROUNDING = 1e-3
# A spreadsheet runs cells that begin so (OWASP: CSV injection); an apostrophe in front makes them text.
FORMULA_STARTS = ("=", "+", "-", "@", "\t", "\r", "\n", "\uff1d", "\uff0b", "\uff0d", "\uff20")
# A spreadsheet cuts what is longer.
LONGEST_CELL = 32_767
# Of a text that was cut, at least so much is left (programs differ).
SHORTEST_CUT = 30_000


@dataclass(frozen=True, slots=True, eq=False)
class GoldSheet:
    """The rows of one data set, n of them.

    Attributes:
        dataset: Its name.
        view: What was shown of each dialogue.
        unit: What was drawn: `pair` or `text`.
        item_ids: str [n], distinct.
        rows: Number of the row in the file, as an editor shows it, int64 [n].
        strata: Name of the stratum, str [n].
        drawn: Units drawn of the row's stratum, int64 [n].
        sizes: Units in the row's stratum, int64 [n].
        labels: The first annotator's, float64 [n, n_labels], 1 or 0; rows of NaN are not labelled.
        second: The second annotator's, likewise; None where there is none.
        texts: What stands in column `text`, str [n]; None without that column.
    """

    dataset: str
    view: str
    unit: str
    item_ids: np.ndarray
    rows: np.ndarray
    strata: np.ndarray
    drawn: np.ndarray
    sizes: np.ndarray
    labels: np.ndarray
    second: np.ndarray | None
    texts: np.ndarray | None = None


def item_id(dataset: str, pair_id: str, side: str, view: str, text: str) -> str:
    """Return the id of a response: a letter, so that no spreadsheet takes it for a number, and 60 bits of a digest."""
    parts = json.dumps([dataset, pair_id, side, view, text], ensure_ascii=False)
    return f"g{hashlib.sha256(parts.encode()).hexdigest()[:15]}"


def shown_items(data: PreferenceData, view: ViewName) -> Iterator[tuple[tuple[str, str], tuple[str, str]]]:
    """Yield the ids and the texts of both sides of every pair: all of the view, however little a classifier reads."""
    for pair in data.read():
        first, second = ("".join(view_parts(dialogue, view)) for dialogue in (pair.first, pair.second))
        ids = [
            item_id(data.name, pair.pair_id, side, view, text)
            for side, text in zip(pair.sides, (first, second), strict=True)
        ]
        yield (ids[0], ids[1]), (first, second)


def is_same_text(cell: str, text: str) -> bool:
    """Tell whether a cell holds a text, by letters and digits alone: programs change blanks, quotes and long ends."""
    one, other = ("".join(filter(str.isalnum, normalize("NFKC", each))) for each in (cell, text))
    return one == other or (len(cell) >= SHORTEST_CUT and other.startswith(one))


def write_gold_file(path: Path, columns: Sequence[str], rows: Sequence[dict[str, Any]]) -> None:
    """Write rows for labelling as csv (UTF-8 with a mark that spreadsheets know it by) or jsonl, by the ending.

    In csv a cell that a spreadsheet would run as a formula begins with an apostrophe; jsonl holds texts as they are.

    Raises:
        InputError: Something is there already: it may hold somebody's labels; or a text that csv cannot hold.
    """
    if path.suffix == ".csv" and any("\0" in cell for row in rows for cell in row.values() if isinstance(cell, str)):
        raise InputError("a NUL character in a text", "a format that can hold it", "an --output that ends in .jsonl")
    with whole_file(path) as part:
        if path.suffix == ".jsonl":
            lines = [json.dumps({name: row.get(name) for name in columns}, ensure_ascii=False) for row in rows]
            part.write_text("".join(f"{line}\n" for line in lines), encoding="utf-8")
        else:
            with part.open("w", encoding="utf-8-sig", newline="") as file:
                writer = csv.writer(file)
                writer.writerow(columns)
                writer.writerows([[_guarded(row.get(name)) for name in columns] for row in rows])
        if path.exists():
            raise InputError(f"{path}, which is there already", "a new file: labels are never overwritten", "--output")


def read_gold_file(path: Path, labels: Sequence[str], fix: str) -> dict[str, GoldSheet]:
    """Read a labelled file (csv, jsonl, json or parquet) strictly, by data set.

    Args:
        path: The file.
        labels: The classifier's labels, in the order wanted.
        fix: The setting that names the file; becomes the `fix` of errors.

    Raises:
        InputError: An unreadable file, missing or foreign columns, an id twice or missing, a row that was not drawn as
            it says or was drawn and is missing, labels that are none, a row labelled in part, or none labelled.
    """
    table = read_table_file(path, fix)
    is_csv = path.name.removesuffix(".gz").endswith(".csv")
    numbers = np.array([k for k, row in enumerate(table.rows) if not _is_blank(row)], dtype=np.int64)
    table = Table(path, table.columns, tuple(table.rows[k] for k in numbers))
    numbers += 2 if is_csv else 1
    has_second = _check_columns(table, labels, fix)
    ids = _ids(table, numbers, fix)
    design = {name: [_unguarded(cell_text(row.get(name))) for row in table.rows] for name in DESIGN[:4]}
    drawn, sizes = _counts(table, numbers, fix)
    first = _labels(table, numbers, labels, labels, fix)
    second = _labels(table, numbers, labels, [f"{label}{SECOND}" for label in labels], fix) if has_second else None
    texts = None
    if "text" in table.columns:
        texts = np.array([cell_text(row.get("text")) for row in table.rows], dtype=np.object_)
    if np.isnan(first).all():
        what = f"{len(table.rows):,} rows in {path}, none of them labelled"
        raise InputError(what, "1 or 0 in every label column of some rows", fix)
    sheets = {}
    for dataset in dict.fromkeys(design["dataset"]):
        own = np.array([name == dataset for name in design["dataset"]])
        said = {name: {cell for cell, mine in zip(design[name], own, strict=True) if mine} for name in ("view", "unit")}
        for name, cells in said.items():
            if len(cells) > 1:
                found = f"{' and '.join(sorted(cells))} as {name} of {dataset} in {path}"
                raise InputError(found, "the rows of one draw of a data set", fix)
        sheets[dataset] = GoldSheet(
            dataset=dataset,
            view=said["view"].pop(),
            unit=said["unit"].pop(),
            item_ids=np.array(ids)[own],
            rows=numbers[own],
            strata=np.array(design["stratum"])[own],
            drawn=drawn[own],
            sizes=sizes[own],
            labels=first[own],
            second=None if second is None or np.isnan(second[own]).all() else second[own],
            texts=None if texts is None else texts[own],
        )
        _check_strata(sheets[dataset], path, fix)
    return sheets


def _check_columns(table: Table, labels: Sequence[str], fix: str) -> bool:
    """Raise InputError for missing columns and those of another taxonomy; tell whether there is a second annotator."""
    if len(table.columns) == 1 and ";" in table.columns[0]:
        found = f"{table.path} with semicolons between its cells"
        raise InputError(found, "commas", f"save it as comma-separated UTF-8 (or keep labels in .jsonl), or {fix}")
    table.require(("item_id", *DESIGN), fix)
    second = [f"{label}{SECOND}" for label in labels]
    has_second = any(name in table.columns for name in second)
    wanted = [*labels, *(second if has_second else [])]
    known = {"item_id", *DESIGN, *FREE, *wanted, *(f"{label}{PREDICTED}" for label in labels)}
    missing = [name for name in wanted if name not in table.columns]
    foreign = [
        name for name in table.columns if name not in known and any(not is_missing(r.get(name)) for r in table.rows)
    ]
    # A spreadsheet may leave an empty column at the end.
    foreign = [name for name in foreign if name or any(cell_text(row.get(name)) for row in table.rows)]
    if missing or foreign:
        parts = [("no column", missing), ("unknown columns", foreign)]
        found = "; ".join(f"{what} {some_of(names)}" for what, names in parts if names)
        needed = f"columns of the classifier's labels, {some_of(list(labels))} (free text goes into `comment`)"
        raise InputError(f"{found} in {table.path}", needed, f"the file that was drawn for this classifier, or {fix}")
    return has_second


def _ids(table: Table, numbers: np.ndarray, fix: str) -> list[str]:
    """Return the ids of the rows, each of which must be there and be distinct."""
    seen: dict[str, int] = {}
    for row, number in zip(table.rows, numbers.tolist(), strict=True):
        own = cell_text(row.get("item_id"))
        if not own:
            raise InputError(f"no item_id in row {number} of {table.path}", "the id as it was written", fix)
        if own in seen:
            found = f"item_id {own} in rows {seen[own]} and {number} of {table.path}"
            raise InputError(found, "each item once (a second person's labels are columns LABEL_2)", fix)
        seen[own] = number
    return list(seen)


def _counts(table: Table, numbers: np.ndarray, fix: str) -> tuple[np.ndarray, np.ndarray]:
    """Return units drawn of the stratum of each row and its size, which must give the row's inclusion probability."""
    counts = np.empty((len(table.rows), 2), dtype=np.int64)
    for k, (row, number) in enumerate(zip(table.rows, numbers.tolist(), strict=True)):
        place = f"in row {number} of {table.path}"
        given = [cell_number(row.get(name)) for name in DESIGN[4:]]
        drawn, size, probability = (math.nan if value is None else value for value in given)
        if not 0 < probability <= 1:
            found = f"inclusion_probability {cell_text(row.get('inclusion_probability'))!r} {place}"
            raise InputError(found, "a number above 0 and at most 1, as it was written", fix)
        if not (drawn >= 1 and drawn.is_integer() and size >= drawn and size.is_integer()):
            found = f"stratum_drawn {cell_text(row.get('stratum_drawn'))!r} of {cell_text(row.get('stratum_size'))!r}"
            raise InputError(f"{found} {place}", "whole numbers as they were written", fix)
        if not math.isclose(probability, drawn / size, rel_tol=RELATIVE_ROUNDING):
            found = f"inclusion_probability {probability:g} {place}, which was changed"
            raise InputError(found, f"{drawn / size:g}, that is {drawn:g} of {size:g}, as it was drawn", fix)
        counts[k] = drawn, size
    return counts[:, 0], counts[:, 1]


def _labels(table: Table, numbers: np.ndarray, labels: Sequence[str], columns: Sequence[str], fix: str) -> np.ndarray:
    """Return the labels of one annotator, float64 [n, n_labels]; a row has all or none."""
    values = np.full((len(table.rows), len(labels)), np.nan)
    for k, (row, number) in enumerate(zip(table.rows, numbers.tolist(), strict=True)):
        for j, column in enumerate(columns):
            values[k, j] = _label(row.get(column), f"{column} of row {number} of {table.path}", fix)
        blank = [column for column, value in zip(columns, values[k], strict=True) if np.isnan(value)]
        if blank and len(blank) < len(columns):
            found = f"no {some_of(blank)} in row {number} of {table.path}, which has other labels"
            raise InputError(found, "1 or 0 in every label column of a row, or none at all", fix)
    return values


def _label(cell: Any, place: str, fix: str) -> float:
    """Return a label as 1 or 0, NaN where the cell is blank."""
    written = cell_text(cell).casefold()
    if written in YES:
        return 1.0
    if written in NO:
        return 0.0
    if written:
        raise InputError(f"{cell_text(cell)[:40]!r} for {place}", "1, 0, true, false, yes, no or nothing", fix)
    return math.nan


def _check_strata(sheet: GoldSheet, path: Path, fix: str) -> None:
    """Raise InputError unless all drawn rows of every stratum are there, with one size."""
    if sheet.unit not in UNITS:
        raise InputError(f"unit {sheet.unit!r} of {sheet.dataset} in {path}", " or ".join(UNITS), fix)
    for stratum in np.unique(sheet.strata):
        own = sheet.strata == stratum
        for name, values in (("stratum_drawn", sheet.drawn[own]), ("stratum_size", sheet.sizes[own])):
            if len(np.unique(values)) > 1:
                found = f"{name} {values.min()} and {values.max()} in stratum {stratum} of {sheet.dataset} in {path}"
                raise InputError(found, "one number a stratum, as it was drawn", fix)
        n_rows = int(sheet.drawn[own][0]) * UNITS[sheet.unit]
        if own.sum() != n_rows:
            found = f"{own.sum():,} rows of stratum {stratum} of {sheet.dataset} in {path}"
            raise InputError(found, f"all {n_rows:,} that were drawn: a row without labels stays, blank", fix)


def _is_blank(row: dict[str, Any]) -> bool:
    return not any(cell_text(cell) for cell in row.values())


def _guarded(cell: Any) -> Any:
    """Return a cell for csv: nothing for None, and no text that a spreadsheet would run."""
    if isinstance(cell, str) and cell.startswith(FORMULA_STARTS):
        return f"'{cell}"
    return "" if cell is None else cell


def _unguarded(cell: str) -> str:
    return cell[1:] if cell.startswith("'") and cell[1:].startswith(FORMULA_STARTS) else cell
