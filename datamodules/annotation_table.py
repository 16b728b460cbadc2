"""How is a table of the user's own read?

Labels stand either in columns of their own, named by label or value (0, 1 or nothing; for a signed taxonomy -1, 0, 1 or
nothing under the name of a value), or in one column that lists what holds.
"""

from collections.abc import Callable
from pathlib import Path
from typing import Any

from datamodules.annotated_text import UNKNOWN, AnnotatedText
from datamodules.annotation_labels import label_list, listed_labels, signed_states, state
from datamodules.annotation_tally import AnnotationTally
from datamodules.errors import InputError
from datamodules.read_report import ReadReport
from datamodules.tabular import Table, cell_text, is_missing, read_table_file, some_of
from datamodules.taxonomy import Taxonomy

FIX = "correct the file, or name another with --data.path"
_LIST_COLUMN = "labels"


def read_table(
    path: Path,
    taxonomy: Taxonomy,
    text_column: str = "text",
    label_column: str | None = None,
    group_column: str | None = None,
    id_column: str | None = None,
) -> tuple[tuple[AnnotatedText, ...], ReadReport]:
    """Read annotated texts from csv, jsonl or parquet.

    * Label columns: a value without a column, and an empty cell, are unknown. A row with nothing known is dropped.
    * A label list (JSON list; in csv separated by semicolons): what is not listed is 0. An empty list is a text without
      a value; a missing list drops the row. Unknown labels are left out.

    Texts stay as they stand; rows with an empty text are dropped. Everything left out is counted. Without `id_column`,
    ids are `<file stem>-<row number>`; without `group_column`, or where its cell is empty, `dialogue_group` gives the
    group.

    Args:
        path: The file.
        taxonomy: What the labels mean.
        text_column: Column with the text.
        label_column: Column with the list of labels. When left out: label columns, or else the list in column `labels`.
        group_column: Column with a group that must not straddle splits.
        id_column: Column with unique ids.

    Raises:
        InputError: Unreadable file, missing or ambiguous columns, an id that is empty or occurs twice, a cell that is
            none of the above, or nothing to keep.
    """
    table = read_table_file(path, FIX)
    named = {"text": text_column, "label": label_column, "group": group_column, "id": id_column}
    for what, column in named.items():
        if column is not None:
            table.require((column,), f"--data.{what}_column, or --data.path")
    tally = AnnotationTally(path.stem, taxonomy, [path], len(table.rows), has_own_ids=id_column is not None, fix=FIX)
    taken = [column for column in named.values() if column is not None]
    labels_of = _label_reader(table, label_column, taken, tally)
    for number, row in enumerate(table.rows, 1):
        text = row.get(text_column)
        if not cell_text(text):
            tally.drop("empty text")
            continue
        if not isinstance(text, str):
            raise InputError(
                f"{text!r} in column {text_column}, row {number} of {path}", "a text", "--data.text_column"
            )
        labels = labels_of(row, number)
        if labels is None:
            tally.drop("no labels")
            continue
        group = cell_text(row.get(group_column)) if group_column else ""
        tally.keep(number, _row_id(row, number, id_column, path), text, labels, group)
    return tally.finish()


def _row_id(row: dict[str, Any], number: int, id_column: str | None, path: Path) -> str:
    if id_column is None:
        return f"{path.stem}-{number}"
    if not (text_id := cell_text(row.get(id_column))):
        raise InputError(
            f"no id in column {id_column}, row {number} of {path}", "an id in every row", "--data.id_column"
        )
    return text_id


def _label_reader(
    table: Table, label_column: str | None, taken: list[str], tally: AnnotationTally
) -> Callable[[dict[str, Any], int], list[int] | None]:
    """Return what reads the labels of a row: states, or None where the row has none."""
    columns = {} if label_column else _label_columns(table, taken, tally.taxonomy)
    if columns:
        has_list = _LIST_COLUMN in table.columns
        if has_list and _LIST_COLUMN not in taken:
            raise InputError(
                f"label columns ({', '.join(columns)}) and a column {_LIST_COLUMN} in {table.path}",
                "one or the other",
                "--data.label_column labels to read the list, or remove it",
            )
        _count_unread(table, [*taken, *columns], tally)
        return lambda row, number: _states(row, columns, tally.taxonomy, f"row {number} of {table.path}")
    if label_column is None and (_LIST_COLUMN not in table.columns or _LIST_COLUMN in taken):
        raise InputError(
            f"no label column in {table.path} (its columns: {some_of(table.columns)})",
            f"columns named by values of taxonomy {tally.taxonomy.name} ({', '.join(tally.taxonomy.slugs)}), "
            f"or a column {_LIST_COLUMN} that lists them",
            "--data.label_column, --data.taxonomy or --data.path",
        )
    column = label_column or _LIST_COLUMN
    _count_unread(table, [*taken, column], tally)

    def listed(row: dict[str, Any], number: int) -> list[int] | None:
        cell = row.get(column)
        if is_missing(cell):
            return None
        return listed_labels(label_list(cell, f"{column} of row {number} of {table.path}"), tally)

    return listed


def _label_columns(table: Table, taken: list[str], taxonomy: Taxonomy) -> dict[str, tuple[str, ...]]:
    """Return column -> the labels that it holds: one, or for and against of a signed value."""
    columns: dict[str, tuple[str, ...]] = {}
    owners: dict[str, str] = {}
    for column in table.columns:
        labels = _labels_named(column, taxonomy)
        if column in taken or not labels:
            continue
        for label in labels:
            if (owner := owners.setdefault(label, column)) != column:
                raise InputError(f"columns {owner} and {column} of {table.path}, both for {label}", "one of them", FIX)
        columns[column] = labels
    return columns


def _labels_named(column: str, taxonomy: Taxonomy) -> tuple[str, ...]:
    folded = column.strip().casefold()
    if folded in taxonomy.labels:
        return (folded,)
    slug = taxonomy.resolve(column)
    if slug is None:
        return ()
    return (f"{slug}-for", f"{slug}-against") if taxonomy.signed else (slug,)


def _states(
    row: dict[str, Any], columns: dict[str, tuple[str, ...]], taxonomy: Taxonomy, place: str
) -> list[int] | None:
    states: dict[str, int] = {}
    for column, labels in columns.items():
        where = f"{column} of {place}"
        found = (state(row.get(column), where),) if len(labels) == 1 else signed_states(row.get(column), where)
        states.update(zip(labels, found, strict=True))
    if all(known == UNKNOWN for known in states.values()):
        return None
    return [states.get(label, UNKNOWN) for label in taxonomy.labels]


def _count_unread(table: Table, read: list[str], tally: AnnotationTally) -> None:
    """Note every column that is not read, so that a misspelt label column does not vanish unseen."""
    for column in table.columns:
        if column not in read:
            tally.notes[f"cells in column {column} (not read)"] = sum(
                bool(cell_text(r.get(column))) for r in table.rows
            )
