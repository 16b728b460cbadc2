"""Both layouts of completions give the same thing, and every bad file is told with what is needed."""

import json

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from datamodules.completions import read_completions
from datamodules.errors import InputError

WIDE = (
    "small,large,prompts,small_is_compliant,large_is_compliant,type,focus\n"
    "I cannot.,Bake it.,How do I bake?,0,1,homonyms,oven\n"
    ",I don't know.,Why are tall people so?,1,,contrast_discr,tall\n"
)
LONG = [
    {"prompt": "How do I bake?", "completion": "I cannot.", "model": "small", "type": "homonyms", "group": "oven"},
    {
        "prompt": "Why are tall people so?",
        "completion": None,
        "model": "small",
        "type": "contrast_discr",
        "group": "tall",
    },
    {"prompt": "How do I bake?", "completion": "Bake it.", "model": "large", "type": "homonyms", "group": "oven"},
]


def written(tmp_path, content, name):
    path = tmp_path / name
    path.write_text(content, encoding="utf-8")
    return path


def jsonl(rows):
    return "".join(json.dumps(row) + "\n" for row in rows)


def test_wide(tmp_path):
    file = read_completions(written(tmp_path, WIDE, "mine.csv"))
    assert (file.name, file.layout, file.n_rows) == ("mine", "wide", 2)
    small, large = file.models
    assert (small.model, large.model) == ("small", "large")
    assert small.texts == ("I cannot.", "")
    np.testing.assert_array_equal(small.published, [1.0, 0.0])
    np.testing.assert_array_equal(large.published, [0.0, np.nan])
    assert small.is_unsafe.tolist() == [False, True]
    assert small.groups.tolist() == ["oven", "tall"]


@pytest.mark.parametrize("ending", ["jsonl", "json", "parquet"])
def test_long_in_every_format(tmp_path, ending):
    path = tmp_path / f"mine.{ending}"
    if ending == "parquet":
        pq.write_table(pa.Table.from_pylist(LONG), path)
    else:
        path.write_text(jsonl(LONG) if ending == "jsonl" else json.dumps(LONG))
    file = read_completions(path)
    assert (file.layout, [own.model for own in file.models]) == ("long", ["small", "large"])
    assert file.models[0].texts == ("I cannot.", "")
    assert file.models[1].rows.tolist() == [3]
    assert np.isnan(file.models[0].published).all()


def test_long_without_model_is_named_after_the_file(tmp_path):
    path = written(tmp_path, "prompt,completion,type\na,b,unsafe\n", "tiny.csv")
    own = read_completions(path).models[0]
    assert (own.model, own.is_unsafe.tolist(), own.groups.tolist()) == ("tiny", [True], [""])


def test_flags_in_the_long_layout(tmp_path):
    path = written(tmp_path, "prompt,completion,type,is_compliant\na,b,safe,TRUE\na,b,safe,0\n", "tiny.csv")
    np.testing.assert_array_equal(read_completions(path).models[0].published, [0.0, 1.0])


@pytest.mark.parametrize(
    ("content", "found", "fix"),
    [
        ("text,type\na,b\n", "no completions", "rename"),
        ("prompt,completion\na,b\n", "no column type", "add the type"),
        ("completion,type\na,b\n", "no column prompt or prompts", "rename"),
        ("prompt,completion,type\n", "no rows", "--completions"),
        ("prompt,completion,type\na,b,\n", "no type in any row", "--completions"),
        ("prompt,completion,type\na,,x\n", "no completion in any row", "--completions"),
        ("prompt,completion,type\n,b,x\n", "no prompt in any row", "--completions"),
        ("prompt,completion,type,model\na,b,x,one|two\n", "a model named 'one|two'", "rename"),
        ("prompt,completion,model,type\na,b,,x\n", "no model in row 1", "--completions"),
        ("prompts,m,m_is_compliant,completion,type\na,b,1,c,x\n", "both layouts", "drop"),
        ("prompts,m_is_compliant,type\na,1,x\n", "no column m ", "column with the completions"),
        ("prompts,m,m_is_compliant,type\na,b,1,x\na,b,maybe,x\n", "'maybe' in column m_is_compliant, row 2", "mend"),
        ("prompts,m,m_is_compliant,type\na,b,2,x\n", "'2' in column", "mend"),
    ],
)
def test_bad_files(tmp_path, content, found, fix):
    with pytest.raises(InputError) as error:
        read_completions(written(tmp_path, content, "bad.csv"))
    assert found in error.value.found
    assert fix in error.value.fix


def test_nan_is_no_flag(tmp_path):
    content = "prompt,completion,type,is_compliant\na,b,safe,nan\nc,d,safe,1\n"
    own = read_completions(written(tmp_path, content, "tiny.csv")).models[0]
    np.testing.assert_array_equal(own.published, [np.nan, 0.0])


def test_a_cell_that_is_no_text(tmp_path):
    row = {"prompt": "a", "completion": ["b"], "type": "safe"}
    with pytest.raises(InputError, match="completion, row 1, that is list"):
        read_completions(written(tmp_path, jsonl([row]), "bad.jsonl"))
