"""Are tables read the same whatever wrote them, and is every damage told with its line?"""

import csv
import gzip
import io
import json

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from datamodules.errors import InputError
from datamodules.tabular import iter_rows, read_csv, read_table_file, read_tsv
from datamodules.text_length import MAX_CHARACTERS, require_length

ROWS = [
    ["text", "calm"],
    ["one line", "1"],
    ["two\nlines, a comma", "0"],
    ['a "quoted" word', ""],
    ["", "1"],
    ["four\r\nlines", "0"],
]


def csv_bytes(line_end="\n", quoting=csv.QUOTE_MINIMAL, mark=b""):
    content = io.StringIO()
    csv.writer(content, lineterminator=line_end, quoting=quoting).writerows(ROWS)
    return mark + content.getvalue().encode()


def written(tmp_path, content, name="mine.csv"):
    path = tmp_path / name
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    return path


@pytest.mark.parametrize("line_end", ["\n", "\r\n", "\r"])
@pytest.mark.parametrize("quoting", [csv.QUOTE_MINIMAL, csv.QUOTE_ALL])
@pytest.mark.parametrize("mark", [b"", b"\xef\xbb\xbf"], ids=["no mark", "mark"])
def test_line_ends_quotes_and_marks_do_not_matter(tmp_path, line_end, quoting, mark):
    """A line feed inside a cell stays one, also where rows end with CRLF."""
    content = csv_bytes(line_end, quoting, mark)
    for name, packed in (("mine.csv", content), ("mine.csv.gz", gzip.compress(content))):
        table = read_table_file(written(tmp_path, packed, name), "--x")
        assert table.columns == ("text", "calm")
        assert [list(row.values()) for row in table.rows] == ROWS[1:]


@pytest.mark.parametrize("line_end", ["\n", "\r\n"])
@pytest.mark.parametrize("mark", [b"", b"\xef\xbb\xbf"], ids=["no mark", "mark"])
def test_tsv_and_jsonl_too(tmp_path, line_end, mark):
    tsv = mark + line_end.join(["id\ttext", '1\tan open " quote', "2\tmore", ""]).encode()
    assert [row["text"] for row in read_tsv(written(tmp_path, tsv, "a.tsv"), "--x").rows] == ['an open " quote', "more"]
    rows = [{"text": "two\nlines"}, {"text": "x", "calm": 1}]
    lines = mark + line_end.join([*map(json.dumps, rows), ""]).encode()
    table = read_table_file(written(tmp_path, lines, "a.jsonl"), "--x")
    assert table.rows == tuple(rows)
    assert table.columns == ("text", "calm")


def test_one_json_array_is_a_table(tmp_path):
    rows = [{"text": "a"}, {"text": "b", "calm": 1}]
    table = read_table_file(written(tmp_path, json.dumps(rows, indent=2), "a.json"), "--x")
    assert (table.columns, table.rows) == (("text", "calm"), tuple(rows))


@pytest.mark.parametrize(
    ("content", "text"),
    [
        (
            'text,calm\nfine,1\n"open,1\n' + "more,0\n" * 50,
            "a quote that is never closed in the row that starts at line 3",
        ),
        (
            'text,calm\nfine,1\n"open,1\n' + "many more words,0\n" * 70_000,
            r"more than 1,000,000 characters \(is a quote left open there\?\) in the row that starts at line 3",
        ),
        ('text,calm\n"open,1\na "word" more,0\n', "text behind a closing quote in the row that starts at line 2"),
        ('text,calm\n"two\nlines",1\nlast,1,0\n', "3 cells in the row that starts at line 4"),
        ("text,calm\nhello\0you,1\n", "a NUL character in .*, line 2; needed text without NUL"),
        (csv_bytes().decode().encode("utf-16-le"), "line 1: it looks like UTF-16LE; .*fix: iconv -f UTF-16LE -t UTF-8"),
        (csv_bytes().decode().encode("utf-16-be"), "line 1: it looks like UTF-16BE; .*fix: iconv -f UTF-16BE -t UTF-8"),
        ('[{"text": "a"}]', r"begins like JSON; .*rename it to \.json \(one array\) or \.jsonl"),
        ('{"text": "a"}\n', "begins like JSON"),
        ("", "no header line"),
        ("text,text\na,b\n", r"a column name twice in .* \(text, text\)"),
        ("\ntext,calm\na,1\n", "a first line without a column name in .*; fix: remove that line"),
        (",\na,1\n", "a first line without a column name"),
    ],
)
def test_damage_is_told_with_its_line(tmp_path, content, text):
    with pytest.raises(InputError, match=text):
        read_csv(written(tmp_path, content), "--x")


def test_a_cell_may_be_as_long_as_a_text(tmp_path):
    longest = "w" * MAX_CHARACTERS
    (row,) = read_csv(written(tmp_path, f"text\n{longest}\n"), "--x").rows
    require_length(row["text"], "row 1", "--x")
    with pytest.raises(InputError, match=r"a text of 1,000,001 characters, row 1 of a\.csv; .*at most 1,000,000.*--x"):
        require_length(longest + "w", "row 1 of a.csv", "--x")


def test_messages_name_a_few_columns_only(tmp_path):
    header = ",".join(f"column number {i} {'x' * 100}" for i in range(300))
    with pytest.raises(InputError, match=r"column number 0 x+\.\., .* and 280 more") as raised:
        read_csv(written(tmp_path, header), "--x").require(["text"], "--x")
    assert len(str(raised.value)) < 1500


FAR = (pa.array([2**30], pa.date32()), pa.array([2**62], pa.duration("s")), pa.array([2**62], pa.timestamp("us")))
NOT_UTF8 = pa.StringArray.from_buffers(1, pa.py_buffer(b"\0\0\0\0\1\0\0\0"), pa.py_buffer(b"\xff"))


@pytest.mark.parametrize(
    "column",
    [
        pa.array([2**30], pa.date32()),
        pa.array([2**62], pa.duration("s")),
        pa.array([2**62], pa.timestamp("us")),
        NOT_UTF8,
    ],
    ids=["date", "duration", "time", "not utf-8"],
)
def test_what_python_cannot_hold_is_told_with_its_column_or_left_alone(tmp_path, column):
    path = tmp_path / "a.parquet"
    pq.write_table(pa.table({"text": ["words"], "text.when": column}), path)
    text = r"a value in column text\.when of .*a\.parquet that cannot be read \(.*; fix: mend or drop that column"
    with pytest.raises(InputError, match=text):
        read_table_file(path, "--x")
    with pytest.raises(InputError, match=text):
        list(iter_rows(path, "--x"))
    assert list(iter_rows(path, "--x", ["text"])) == [{"text": "words"}]


def test_a_parquet_file_gives_its_columns_and_rows(tmp_path):
    path = tmp_path / "a.parquet"
    rows = [{"text": "a", "n": {"deep": [1, None]}}, {"text": None, "n": None}] * 700
    pq.write_table(pa.Table.from_pylist(rows), path)
    table = read_table_file(path, "--x")
    assert (table.columns, list(table.rows)) == (("text", "n"), rows)
    pq.write_table(pa.table({"text": pa.array([], pa.string())}), path)
    assert read_table_file(path, "--x").columns == ("text",)


def test_a_column_twice_in_parquet_is_refused(tmp_path):
    path = tmp_path / "a.parquet"
    pq.write_table(pa.Table.from_arrays([pa.array(["a"]), pa.array(["b"])], names=["text", "text"]), path)
    for read in (read_table_file, lambda path, fix: list(iter_rows(path, fix))):
        with pytest.raises(InputError, match=r"a column name twice in .*a\.parquet \(text, text\)"):
            read(path, "--x")
