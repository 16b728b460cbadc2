"""What does an audit write down? One tidy table; every number of every audit is a row of it."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from datamodules.errors import InputError
from datamodules.files import require_file, whole_file

# Which checkpoint and audit set-up, which audit of what, and how: rows are unique over these columns.
KEY_FIELDS = (
    ("run_id", pa.string()),
    ("step", pa.int64()),  # null: computed once per data revision, without a checkpoint
    ("epoch", pa.float64()),
    ("weights", pa.string()),
    ("audit_key", pa.string()),
    ("audit", pa.string()),
    ("dataset", pa.string()),
    ("subset", pa.string()),
    ("slice", pa.string()),
    ("taxonomy", pa.string()),
    ("feature", pa.string()),
    ("scorer", pa.string()),
    ("metric", pa.string()),
    ("mode", pa.string()),
    ("spec", pa.string()),
    ("method", pa.string()),
)
ESTIMATE_FIELDS = tuple(
    (name, pa.float64()) for name in ("estimate", "std_error", "ci_low", "ci_high", "p_value", "p_adjusted")
)
COUNT_FIELDS = (("n", pa.int64()), ("n_clusters", pa.int64()))

SCHEMA: pa.Schema = pa.schema([*KEY_FIELDS, *ESTIMATE_FIELDS, *COUNT_FIELDS])
KEY_COLUMNS: tuple[str, ...] = tuple(name for name, _ in KEY_FIELDS)


def make_table(rows: Sequence[Mapping[str, Any]]) -> pa.Table:
    """Build an audit table from rows that give only the columns they know.

    A missing (or None) text is "", a missing whole number null, a missing float NaN.

    Raises:
        ValueError: A column that the schema does not have, a value of the wrong type, or two rows with one key.
    """
    unknown = {name for row in rows for name in row} - set(SCHEMA.names)
    if unknown:
        raise ValueError(f"no such audit table column: {', '.join(sorted(unknown))}")
    columns = [pa.array([_filled(row.get(f.name), f.type) for row in rows], type=f.type) for f in SCHEMA]
    return _unique(pa.table(columns, schema=SCHEMA))


def stamp(
    table: pa.Table, *, run_id: str, step: int | None, epoch: float | None, weights: str, audit_key: str
) -> pa.Table:
    """Return `table` with the columns that say which checkpoint and which audit set-up its rows come from.

    Args:
        table: An audit table; what stood in these columns is replaced.
        run_id: The run.
        step: Training step of the checkpoint; None for an audit that needs no checkpoint.
        epoch: Epoch of the checkpoint; None is NaN.
        weights: Digest of the state dict.
        audit_key: Digest of the audit set-up.
    """
    stamps = {"run_id": run_id, "step": step, "epoch": epoch, "weights": weights, "audit_key": audit_key}
    for name, value in stamps.items():
        field = SCHEMA.field(name)
        column = pa.array([_filled(value, field.type)] * len(table), type=field.type)
        table = table.set_column(SCHEMA.get_field_index(name), field, column)
    return _unique(table)


def concat(tables: Sequence[pa.Table]) -> pa.Table:
    """Join audit tables; an empty sequence gives an empty table.

    Raises:
        ValueError: Two rows share a key.
    """
    return _unique(pa.concat_tables([SCHEMA.empty_table(), *tables]))


def write_table(table: pa.Table, path: Path) -> None:
    """Write an audit table as Parquet (zstd), whole or not at all.

    Raises:
        ValueError: Not an audit table, or two rows share a key.
    """
    if not table.schema.equals(SCHEMA):
        raise ValueError(f"not an audit table: {_difference(table.schema)}")
    _unique(table)
    with whole_file(path) as temporary:
        pq.write_table(table, temporary, compression="zstd")


def read_table(path: Path) -> pa.Table:
    """Read an audit table from a Parquet file.

    Raises:
        InputError: No such file, not Parquet, or not an audit table.
    """
    needed, fix = "a Parquet file written by an audit", "pass the table.parquet of an audit folder"
    require_file(path, fix)
    try:
        # Not read_table: it would read `name=value` folders above the file as columns.
        with pq.ParquetFile(path) as file:
            table = file.read()
    except (pa.ArrowInvalid, OSError) as error:
        raise InputError(f"{path}, which does not read as Parquet ({error})", needed, fix) from error
    if not table.schema.equals(SCHEMA):
        raise InputError(f"{path}, which is not an audit table ({_difference(table.schema)})", needed, fix)
    return table.replace_schema_metadata(None)


def _filled(value: Any, kind: pa.DataType) -> Any:
    """Return the value, or what stands for its absence in a column of that type."""
    if value is not None:
        return value
    if pa.types.is_string(kind):
        return ""
    return float("nan") if pa.types.is_floating(kind) else None


def _unique(table: pa.Table) -> pa.Table:
    """Return `table`, or raise ValueError and name a key that occurs twice."""
    counts = table.group_by(list(KEY_COLUMNS)).aggregate([([], "count_all")])
    if len(counts) < len(table):
        twice = counts.filter(pc.greater(counts["count_all"], 1)).slice(0, 1).to_pylist()[0]
        named = ", ".join(f"{name}={twice[name]}" for name in KEY_COLUMNS if twice[name] not in ("", None))
        raise ValueError(f"audit table rows are not unique: {named}")
    return table


def _difference(schema: pa.Schema) -> str:
    """Say in a few words how a schema differs from the audit table's."""
    missing = [field.name for field in SCHEMA if field.name not in schema.names]
    extra = [name for name in schema.names if name not in SCHEMA.names]
    wrong = [f.name for f in SCHEMA if f.name in schema.names and not schema.field(f.name).type.equals(f.type)]
    parts = [("missing", missing), ("unknown", extra), ("of another type", wrong)]
    return "; ".join(f"{what}: {', '.join(names)}" for what, names in parts if names) or "columns in another order"
