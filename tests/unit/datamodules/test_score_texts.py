"""Is every row of a file of texts checked before any is scored?"""

import json

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from datamodules.errors import InputError
from datamodules.score_texts import check_texts


def written(tmp_path, content, name):
    path = tmp_path / name
    path.write_text(content)
    return path


def lines(*rows):
    return "".join(f"{json.dumps(row)}\n" for row in rows)


@pytest.mark.parametrize(
    ("name", "content", "text"),
    [
        (
            "a.csv",
            "text_id,text\n1,a\n,b\n3,c\n",
            "1 rows without text_id in .*; needed an id in every row, or",
        ),
        ("a.csv", "text_id,text\n1,a\n,b\n ,c\n", "2 rows without text_id"),
        ("a.jsonl", lines({"text_id": "", "text": "a"}, {"text_id": None, "text": "b"}), "2 rows without text_id"),
        ("a.jsonl", lines({"text_id": "x", "text": "a"}, {"text_id": "x", "text": "b"}), "ids that occur twice"),
        (
            "a.jsonl",
            lines({"text_id": "x", "text": "a"}, {"text_id": "\ud800", "text": "b"}),
            r"half a surrogate pair in the id '.ud800' of row 1 of .*needed ids that are Unicode; fix: .*--id_column",
        ),
        (
            "a.jsonl",
            lines({}, {}),
            r"no column text in .* \(its columns: none\); needed the column text; fix: --te",
        ),
        ("a.jsonl", "", "no row in"),
        ("a.csv", "text_id,text\n", "no row in"),
        ("a.csv", "id,body\n1,a\n", r"no column text in .* \(its columns: id, body\)"),
    ],
)
def test_mistakes_are_told(tmp_path, name, content, text):
    with pytest.raises(InputError, match=text):
        check_texts(written(tmp_path, content, name), "text", None)


@pytest.mark.parametrize("id_column", [None, "name"])
def test_only_the_columns_asked_for_are_read(tmp_path, id_column):
    path = tmp_path / "a.parquet"
    far = pa.array([2**30, 0], pa.date32())
    pq.write_table(pa.table({"text": ["a", "b"], "name": ["x", "y"], "when": far}), path)
    texts = check_texts(path, "text", id_column)
    assert list(texts.read()) == list(zip("01" if id_column is None else "xy", "ab", strict=True))
    with pytest.raises(InputError, match=r"no column body in .* \(its columns: text, name, when\)"):
        check_texts(path, "body", id_column)
    with pytest.raises(InputError, match=r"no column label in .* \(its columns: text, name, when\).*--id_column"):
        check_texts(path, "text", "label")
