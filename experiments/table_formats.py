"""How is a table written for a paper, a page, a spreadsheet, a program or a terminal?"""

import csv
import io
import json
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal, get_args

from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.table import Table
from rich.text import Text

from datamodules.errors import InputError

Format = Literal["text", "md", "csv", "latex", "json"]
FORMATS: tuple[str, ...] = get_args(Format)
WIDTH = 100


def plain_cell(value: Any) -> str:
    """Write a cell for readers: undefined is a dash, numbers have three digits."""
    match value:
        case None:
            return "-"
        case bool():
            return "yes" if value else "no"
        case float():
            return f"{value:.3g}" if math.isfinite(value) else "-"
        case int():
            return f"{value:,}"
        case _:
            return str(value)


@dataclass(frozen=True, slots=True)
class Column:
    """One column of a table.

    Attributes:
        name: Key of the rows, and its name in csv and json, which hold whole numbers.
        heading: What readers of text, md and latex see.
        write: Writes a cell for them.
        numeric: Whether it stands to the right.
    """

    name: str
    heading: str
    write: Callable[[Any], str] = plain_cell
    numeric: bool = False


def format_table(
    columns: Sequence[Column],
    rows: Sequence[Mapping[str, Any]],
    how: str,
    title: str = "",
    notes: Sequence[str] = (),
) -> str:
    """Write a table in one of the formats, with a line end at the end.

    Args:
        columns: What to show, in order.
        rows: Cells by column name: texts, numbers, None; NaN is undefined.
        how: One of `FORMATS`: `text` (a terminal, 100 columns), `md`, `latex` (needs booktabs), `csv` or `json`. The
            last two hold every digit, undefined cells empty or null; csv has no room for title and notes.
        title: Stands above.
        notes: Stand below.

    Raises:
        InputError: Another format.
    """
    require_format(how)
    match how:
        case "csv":
            return _csv(columns, rows)
        case "json":
            content = {"title": title, "rows": [_objects(columns, row) for row in rows], "notes": list(notes)}
            return json.dumps(content, indent=2, ensure_ascii=False, allow_nan=False) + "\n"
    cells = [[column.write(row.get(column.name)) for column in columns] for row in rows]
    match how:
        case "md":
            return _markdown(columns, cells, title, notes)
        case "latex":
            return _latex(columns, cells, title, notes)
        case _:
            return _text(columns, cells, title, notes)


def require_format(how: str) -> None:
    """Raise InputError unless this is a format."""
    if how not in FORMATS:
        raise InputError(f"format {how!r}", f"one of {', '.join(FORMATS)}", "--format")


def _objects(columns: Sequence[Column], row: Mapping[str, Any]) -> dict[str, Any]:
    return {column.name: _defined(row.get(column.name)) for column in columns}


def _defined(value: Any) -> Any:
    return None if isinstance(value, float) and not math.isfinite(value) else value


def _csv(columns: Sequence[Column], rows: Sequence[Mapping[str, Any]]) -> str:
    file = io.StringIO()
    writer = csv.writer(file, lineterminator="\n")
    writer.writerow([column.name for column in columns])
    writer.writerows([list(_objects(columns, row).values()) for row in rows])
    return file.getvalue()


def _markdown(columns: Sequence[Column], cells: list[list[str]], title: str, notes: Sequence[str]) -> str:
    lines = [f"**{title}**", ""] if title else []
    lines.append(_pipes([column.heading for column in columns]))
    lines.append(_pipes(["---:" if column.numeric else "---" for column in columns]))
    lines += [_pipes(row) for row in cells]
    lines += ["", *(f"* {note}" for note in notes)] if notes else []
    return "\n".join(lines) + "\n"


def _pipes(cells: Sequence[str]) -> str:
    escaped = (cell.replace("\\", "\\\\").replace("|", "\\|").replace("\n", " ") for cell in cells)
    return f"| {' | '.join(escaped)} |"


_LATEX = {
    "\\": r"\textbackslash{}",
    **{mark: f"\\{mark}" for mark in "&%$#_{}"},
    "~": r"\textasciitilde{}",
    "^": r"\textasciicircum{}",
    "<": "$<$",
    ">": "$>$",
    "\n": " ",
}


def latex_text(text: str) -> str:
    """Escape what LaTeX would read as more than text."""
    return "".join(_LATEX.get(mark, mark) for mark in text)


def _latex(columns: Sequence[Column], cells: list[list[str]], title: str, notes: Sequence[str]) -> str:
    lines = [f"% {line}" for line in (title, *notes) if line]
    lines.append(f"\\begin{{tabular}}{{{''.join('r' if column.numeric else 'l' for column in columns)}}}")
    lines += [r"\toprule", _ampersands([column.heading for column in columns]), r"\midrule"]
    lines += [_ampersands(row) for row in cells]
    return "\n".join([*lines, r"\bottomrule", r"\end{tabular}"]) + "\n"


def _ampersands(cells: Sequence[str]) -> str:
    return " & ".join(latex_text(cell) for cell in cells) + r" \\"


def _text(columns: Sequence[Column], cells: list[list[str]], title: str, notes: Sequence[str]) -> str:
    widths = [max(map(len, each)) for each in zip([column.heading for column in columns], *cells, strict=True)]
    # Two spaces between columns, one where the table would be too wide.
    gap = 1 if 1 + sum(widths) + 2 * len(widths) <= WIDTH else 0
    shown = Table(box=SIMPLE_HEAD, pad_edge=False, padding=(0, gap, 0, 0))
    for column in columns:
        right: Literal["right", "left"] = "right" if column.numeric else "left"
        shown.add_column(Text(column.heading), justify=right, no_wrap=column.numeric, overflow="fold")
    for row in cells:
        shown.add_row(*map(Text, row))
    console = Console(width=WIDTH, file=io.StringIO(), highlight=False)
    if title:
        console.print(title, markup=False)
    console.print(shown)
    for note in notes:
        console.print(note, markup=False)
    written: str = console.file.getvalue()  # type: ignore[attr-defined]  # the StringIO above
    # Rich fills lines up with spaces.
    return "\n".join(line.rstrip() for line in written.splitlines()) + "\n"
