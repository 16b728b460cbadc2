"""Every format holds the same table, and what is special in a format is escaped."""

import csv
import io
import json
import re

import pytest

from datamodules.errors import InputError
from experiments.table_formats import FORMATS, WIDTH, Column, format_table

COLUMNS = [
    Column("value", "value"),
    Column("share", "share", lambda x: "-" if x != x else f"{100 * x:.1f}%", numeric=True),
    Column("n", "n", numeric=True),
    Column("ok", "ok"),
]
ROWS = [
    {"value": "a|b_c & d\\e", "share": 1 / 3, "n": 1234, "ok": True},
    {"value": 'say "x", y', "share": float("nan"), "n": None, "ok": False},
]
NOTES = ["50% of {these}", "and more"]


def test_csv_holds_every_digit_and_leaves_the_undefined_empty():
    found = list(csv.DictReader(io.StringIO(format_table(COLUMNS, ROWS, "csv", "t", NOTES))))
    assert [row["value"] for row in found] == [row["value"] for row in ROWS]
    assert [row["share"] for row in found] == [repr(1 / 3), ""]
    assert [row["n"] for row in found] == ["1234", ""]


def test_json_holds_title_rows_and_notes():
    found = json.loads(format_table(COLUMNS, ROWS, "json", "t", NOTES))
    assert found["title"] == "t"
    assert found["notes"] == NOTES
    assert found["rows"] == [ROWS[0], ROWS[1] | {"share": None}]


def test_markdown_parses_back():
    lines = format_table(COLUMNS, ROWS, "md", "t", NOTES).splitlines()
    assert lines[0] == "**t**"
    head, rule, *rows = [line for line in lines if line.startswith("|")]
    split = [re.split(r"(?<!\\)\|", line)[1:-1] for line in (head, rule, *rows)]
    assert {len(cells) for cells in split} == {4}
    assert [cell.strip() for cell in split[1]] == ["---", "---:", "---:", "---"]
    first = [cell.strip().replace("\\|", "|").replace("\\\\", "\\") for cell in split[2]]
    assert first == ["a|b_c & d\\e", "33.3%", "1,234", "yes"]
    assert lines[-2:] == ["* 50% of {these}", "* and more"]


def test_latex_is_one_tabular_with_its_specials_escaped():
    text = format_table(COLUMNS, ROWS, "latex", "t", NOTES)
    assert text.startswith("% t\n% 50% of {these}\n% and more\n\\begin{tabular}{lrrl}\n\\toprule\n")
    assert text.endswith("\\bottomrule\n\\end{tabular}\n")
    row = next(line for line in text.splitlines() if line.startswith("a"))
    assert row == r"a|b\_c \& d\textbackslash{}e & 33.3\% & 1,234 & yes \\"
    assert len(re.split(r"(?<!\\)&", row)) == 4


def test_text_fits_a_terminal_and_keeps_every_cell():
    wide = [{"value": "z" * 150, "share": 0.5, "n": 3, "ok": True}, *ROWS]
    text = format_table(COLUMNS, wide, "text", "[not markup]", NOTES)
    assert max(map(len, text.splitlines())) <= WIDTH
    assert text.count("z") == 150
    assert text.startswith("[not markup]\n")
    assert text.splitlines()[-2:] == NOTES
    assert "33.3%" in text


def test_an_unknown_format_is_told():
    with pytest.raises(InputError, match=r"format 'html'; needed one of text, md, csv, latex, json; fix: --format"):
        format_table(COLUMNS, ROWS, "html")


@pytest.mark.parametrize("how", FORMATS)
def test_no_rows_are_no_error(how):
    assert "value" in format_table(COLUMNS, [], how) or how == "json"


def test_a_table_that_would_be_too_wide_stands_closer_before_its_names_are_broken():
    columns = [Column(name, name, str, numeric=name != "a") for name in "abcdefgh"]
    narrow, wide = ({name: "x" * n for name in "abcdefgh"} for n in (10, 11))
    assert "x  x" in format_table(columns, [narrow], "text")
    text = format_table(columns, [wide], "text")
    assert "x  x" not in text
    assert text.count("x" * 11) == 8
