"""Does the audit table keep its schema, its keys and its missing values?"""

import math

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from audits.table import KEY_COLUMNS, SCHEMA, concat, make_table, read_table, stamp, write_table
from datamodules.errors import InputError

STAMPS = {"run_id": "demo-s1", "step": 12, "epoch": 1.5, "weights": "abcd", "audit_key": "ef01"}


def test_schema_is_the_designs():
    which = ["run_id", "step", "epoch", "weights", "audit_key", "audit", "dataset", "subset", "slice", "taxonomy"]
    how = ["feature", "scorer", "metric", "mode", "spec", "method"]
    numbers = ["estimate", "std_error", "ci_low", "ci_high", "p_value", "p_adjusted", "n", "n_clusters"]
    assert SCHEMA.names == which + how + numbers
    assert SCHEMA.names[: len(KEY_COLUMNS)] == list(KEY_COLUMNS)
    assert KEY_COLUMNS[-1] == "method"
    assert (SCHEMA.field("step").type, SCHEMA.field("epoch").type) == (pa.int64(), pa.float64())


def test_missing_columns_are_empty_null_or_nan():
    row = make_table([{"audit": "a", "estimate": 0.5, "ci_low": None}]).to_pylist()[0]
    assert (row["audit"], row["estimate"], row["dataset"], row["step"], row["n"]) == ("a", 0.5, "", None, None)
    assert all(math.isnan(row[name]) for name in ("epoch", "std_error", "ci_low", "p_adjusted"))


def test_no_rows_make_an_empty_table_of_the_schema():
    assert make_table([]).schema.equals(SCHEMA)
    assert len(concat([])) == 0


def test_unknown_column_is_rejected():
    with pytest.raises(ValueError, match="no such audit table column: colour"):
        make_table([{"audit": "a", "colour": "red"}])


def test_rows_with_one_key_are_rejected_and_named():
    same = {"audit": "a", "feature": "wisdom"}
    with pytest.raises(ValueError, match=r"not unique.*feature=wisdom"):
        make_table([same | {"estimate": 0.1}, same | {"estimate": 0.2}])
    assert len(make_table([same, same | {"slice": "chosen"}])) == 2


def test_stamp_replaces_the_checkpoint_columns_and_keeps_the_schema():
    table = stamp(stamp(make_table([{"audit": "a"}, {"audit": "b"}]), **(STAMPS | {"step": 7})), **STAMPS)
    assert table.schema.equals(SCHEMA)
    assert [{name: row[name] for name in STAMPS} for row in table.to_pylist()] == [STAMPS, STAMPS]


def test_stamp_without_step_is_null_and_still_keyed():
    table = stamp(make_table([{"audit": "a"}]), **(STAMPS | {"step": None, "epoch": None}))
    assert table["step"].to_pylist() == [None]
    with pytest.raises(ValueError, match="not unique"):
        concat([table, table])


def test_concat_joins_checkpoints():
    table = make_table([{"audit": "a"}])
    joined = concat([stamp(table, **STAMPS), stamp(table, **(STAMPS | {"step": 13}))])
    assert joined["step"].to_pylist() == [12, 13]


def test_write_and_read_back(tmp_path):
    path = tmp_path / "step=3" / "table.parquet"  # such a folder must not become a column
    table = stamp(make_table([{"audit": "a", "estimate": 0.25, "n": 4, "p_value": 0.5}]), **STAMPS)
    write_table(table, path)
    again = read_table(path)
    assert again.schema.equals(table.schema, check_metadata=True)
    assert again.select(["step", "audit", "estimate", "n"]).equals(table.select(["step", "audit", "estimate", "n"]))
    assert pq.ParquetFile(path).metadata.row_group(0).column(0).compression == "ZSTD"
    assert [p.name for p in path.parent.iterdir()] == ["table.parquet"]


def test_write_rejects_other_tables_and_leaves_nothing(tmp_path):
    with pytest.raises(ValueError, match="missing: run_id"):
        write_table(pa.table({"audit": ["a"]}), tmp_path / "t.parquet")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (None, "no file"),
        (b"not parquet", "does not read as Parquet"),
        (pa.table({"audit": ["a"], "colour": ["red"]}), "missing: run_id.*unknown: colour"),
        (make_table([{}]).set_column(1, "step", pa.array(["x"])), "of another type: step"),
    ],
)
def test_read_says_what_is_wrong_with_a_file(tmp_path, content, message):
    path = tmp_path / "t.parquet"
    if isinstance(content, bytes):
        path.write_bytes(content)
    elif content is not None:
        pq.write_table(content, path)
    with pytest.raises(InputError, match=message):
        read_table(path)
