"""Is a YAML file read as plain data, and is what nobody means by one refused?"""

import pytest

from datamodules.errors import InputError
from datamodules.strict_yaml import read_strict_yaml


def read(tmp_path, content):
    path = tmp_path / "mine.yaml"
    path.write_text(content, encoding="utf-8")
    return read_strict_yaml(path, "--config", "edit it")


@pytest.mark.parametrize(
    ("content", "text"),
    [
        ("a: 1\nb: {c: 1, c: 2}\n", r"mine\.yaml, line 2, that is not YAML \(key c occurs twice\).*fix: edit it"),
        ("a: 2020-13-01\n", r"not YAML \(month must be in 1\.\.12\)"),
        ("a: " + "9" * 5_000, "not YAML .Exceeds the limit"),
        ("a: 0x" + "f" * 5_000, "line 1, that is not YAML .a number beyond 64 bits"),
        ("a: 1\nb: " + "[" * 51 + "]" * 51, "line 2, that is not YAML .nested too deeply"),
        ("a: " + "[" * 20_000, "nested too deeply"),
        ('a: 1\nb: ["\\ud800"]\n', "line 2, that is not YAML .half a surrogate pair"),
        ('"\\udfff": 1\n', "line 1, that is not YAML .half a surrogate pair"),
        ("", "nothing in"),
    ],
)
def test_what_nobody_means_is_refused(tmp_path, content, text):
    with pytest.raises(InputError, match=text):
        read(tmp_path, content)


def test_plain_values_are_read(tmp_path):
    content = "a: [1, -0x10, 1e3, 1.5, yes, null, 'é😀']\nb: &x {c: {d: []}}\ne: *x\n"
    inner = {"c": {"d": []}}
    assert read(tmp_path, content) == {"a": [1, -16, "1e3", 1.5, True, None, "é😀"], "b": inner, "e": inner}
    deepest = read(tmp_path, "[" * 50 + "]" * 50)
    for _ in range(49):
        (deepest,) = deepest
    assert deepest == []
