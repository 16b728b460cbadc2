import gzip
import os
import stat

import pytest

from datamodules.errors import InputError
from datamodules.files import digest_of, read_text, whole_file, write_json, write_text


def test_a_failed_write_leaves_the_old_file_and_no_rest(tmp_path):
    path = tmp_path / "a.txt"
    write_text(path, "old")

    def fail():
        with whole_file(path) as part:
            part.write_text("half")
            raise OSError("disk full")

    with pytest.raises(OSError, match="disk full"):
        fail()
    assert path.read_text() == "old"
    assert os.listdir(tmp_path) == ["a.txt"]


def test_written_files_have_the_usual_mode(tmp_path):
    write_text(tmp_path / "a", "x")
    (tmp_path / "b").write_text("x")
    assert stat.S_IMODE((tmp_path / "a").stat().st_mode) == stat.S_IMODE((tmp_path / "b").stat().st_mode)


def test_json_has_no_nan(tmp_path):
    with pytest.raises(ValueError, match="JSON compliant"):
        write_json(tmp_path / "a.json", {"x": float("nan")})
    assert not (tmp_path / "a.json").exists()


def test_bytes_that_are_not_utf8_are_told_with_their_line(tmp_path):
    path = tmp_path / "a.txt"
    path.write_bytes(b"fine\nbad \xff\n")
    with pytest.raises(InputError, match=r"not UTF-8 in .*a\.txt, line 2; needed UTF-8 text"):
        read_text(path, "--data.path")


def test_gzip_that_is_none_is_told(tmp_path):
    path = tmp_path / "a.jsonl.gz"
    path.write_bytes(b"plain")
    with pytest.raises(InputError, match="not a whole gzip file"):
        read_text(path, "--data.path")
    whole = gzip.compress(b"text " * 99)
    path.write_bytes(whole[:-12])
    with pytest.raises(InputError, match="not a whole gzip file"):
        read_text(path, "--data.path")


def test_a_byte_order_mark_is_no_text(tmp_path):
    path = tmp_path / "a.txt"
    path.write_bytes(b"\xef\xbb\xbfText")
    assert read_text(path, "") == "Text"


def test_a_missing_file_and_a_folder_are_told(tmp_path):
    with pytest.raises(InputError, match=r"no file at .*nothing"):
        read_text(tmp_path / "nothing", "--data.path")
    with pytest.raises(InputError, match="a folder at"):
        read_text(tmp_path, "--data.path")


def test_digests_do_not_depend_on_key_order():
    assert digest_of({"a": 1, "b": [2]}) == digest_of({"b": [2], "a": 1}) != digest_of({"a": 1, "b": [3]})
