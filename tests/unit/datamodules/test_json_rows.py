import gzip
import json

import pytest

import datamodules.files as files
import datamodules.json_rows as json_rows
from datamodules.errors import InputError
from datamodules.json_rows import iter_json_array, read_json_array, read_json_lines

ROWS = [{"text": "é" * n, "n": [n, {"deep": "]},\n"}]} for n in range(40)]


@pytest.mark.parametrize("ending", ["", ".gz"])
@pytest.mark.parametrize("mark", [b"", b"\xef\xbb\xbf"])
@pytest.mark.parametrize("newline", ["\n", "\r\n"])
def test_lines_and_arrays_give_the_same_rows(tmp_path, ending, mark, newline):
    pack = gzip.compress if ending else bytes
    lines, array = tmp_path / f"a.jsonl{ending}", tmp_path / f"a.json{ending}"
    text = newline.join(["", *(json.dumps(row, ensure_ascii=False) for row in ROWS), ""])
    lines.write_bytes(pack(mark + text.encode()))
    array.write_bytes(pack(mark + newline.join(json.dumps(ROWS, ensure_ascii=False, indent=1).split("\n")).encode()))
    assert read_json_lines(lines, "") == ROWS
    assert read_json_array(array, "") == ROWS


@pytest.mark.parametrize("chunk", [1, 7, 64])
def test_an_array_does_not_depend_on_where_it_is_cut(tmp_path, monkeypatch, chunk):
    monkeypatch.setattr(json_rows, "_CHUNK", chunk)
    path = tmp_path / "a.json"
    path.write_text(json.dumps(ROWS, ensure_ascii=False), encoding="utf-8")
    assert read_json_array(path, "") == ROWS


def test_an_empty_array_has_no_rows(tmp_path):
    path = tmp_path / "a.json"
    path.write_text(" [\n] ")
    assert read_json_array(path, "") == []


@pytest.mark.parametrize(
    ("content", "text"),
    [
        (b'{"a": 1}\n{"a": \n', "line 2, is not JSON"),
        (b'{"a": 1}\n\n[1]\n', "line 3, is a JSON list"),
        (b"3\n", "line 1, is a JSON int"),
        (b'{"a": 1}\n{"a": 1, "a": 2}\n', r"line 2, is not JSON \(key 'a' occurs twice"),
        (b'{"a": {"b": 1, "\\ud800": 1, "\\ud800": 2}}\n', r"line 1, is not JSON \(key '.ud800' occurs twice"),
        (b'[{"a": 1},\n{"a": 2}]\n', r"begins with an array; needed one JSON object a line; fix: rename it to \.json"),
        (b'{\n  "a": 1\n}\n', r"line 1, is not JSON \(an object over several lines\?\)"),
        (b'{"a": 1}\n{"a": "\xe9"}\n', r"not UTF-8 in .*line 2; needed UTF-8 text; fix: re-encode .*WINDOWS-1252"),
        (b"\xff\xfe{\x00", "line 1, which looks like UTF-16; .*iconv -f UTF-16"),
        (b"\x1f\x8b\x08\x00", r"which looks like gzip; .*ending \.gz"),
        (b'{"a": "' + b"x" * 100 + b'"}', r"line 1, which is longer than .* MiB; needed one row a line"),
    ],
)
def test_lines_are_checked_line_by_line(tmp_path, monkeypatch, content, text):
    monkeypatch.setattr(files, "MOST_ROW_BYTES", 90)
    path = tmp_path / "a.jsonl"
    path.write_bytes(content)
    with pytest.raises(InputError, match=text):
        read_json_lines(path, "--data.path")


@pytest.mark.parametrize(
    ("content", "text"),
    [
        (b'{"a": 1}\n{"a": 2}', r"does not begin with an array; .*fix: rename it to \.jsonl"),
        (b"", "does not begin with an array"),
        (b"[1]", "item 1 is none"),
        (b'[{"a": 1}, 2]', "item 2 is none"),
        (b'[{"a": 1},]', "item 2 is none"),
        (b"[{]", "not JSON"),
        (b'[{"a": 1}', "'the end of the file' behind item 1"),
        (b'[{"a": 1} {"a": 2}]', "'{' behind item 1"),
        (b'[{"a": 1}] x', "goes on after its array"),
        (b'[{"a":\n"\xe9"}]', r"not UTF-8 in .*line 2"),
        (b'[{"a": 1, "a": 2}]', r"not JSON \(key 'a' occurs twice"),
        (b'[{"a": ' + b"[" * 100_000, "not JSON"),
        (b'[{"a": "' + b"x" * 400 + b'"}]', "item 1 is above .* MiB"),
    ],
)
def test_an_array_of_objects_is_needed(tmp_path, monkeypatch, content, text):
    monkeypatch.setattr(json_rows, "MOST_ROW_BYTES", 90)
    monkeypatch.setattr(json_rows, "_CHUNK", 64)
    path = tmp_path / "a.json"
    path.write_bytes(content)
    with pytest.raises(InputError, match=text):
        read_json_array(path, "--data.path")


def test_rows_before_the_damage_are_given_and_a_row_is_held_once(tmp_path):
    path = tmp_path / "a.json"
    path.write_text(json.dumps(ROWS[:5])[:-1] + ", oops]")
    rows = iter_json_array(path, "")
    assert [next(rows) for _ in range(5)] == ROWS[:5]
    with pytest.raises(InputError, match="item 6 is none"):
        next(rows)


def test_gzip_cut_off_is_told(tmp_path):
    path = tmp_path / "a.jsonl.gz"
    path.write_bytes(gzip.compress(json.dumps(ROWS).encode() + b"\n")[:-12])
    with pytest.raises(InputError, match="not a whole gzip file"):
        read_json_lines(path, "--data.path")


@pytest.mark.parametrize(("name", "content"), [("a.json", '[{"n": %s}]'), ("a.jsonl", '{"n": %s}')])
def test_an_endless_number_is_told(tmp_path, name, content):
    path = tmp_path / name
    path.write_text(content % ("9" * 5_000))
    read = read_json_array if name == "a.json" else read_json_lines
    with pytest.raises(InputError, match=r"is not JSON \(Exceeds the limit"):
        read(path, "--data.path")
