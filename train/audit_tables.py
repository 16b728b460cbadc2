"""Which audit rows of a run count now? Those of the newest audit of every checkpoint."""

import json
from collections.abc import Callable
from pathlib import Path

import pyarrow as pa

from audits.table import concat, read_table, write_table
from datamodules.errors import InputError
from datamodules.storage import writing
from train.ledger import Ledger
from train.run_directory import RunDirectory


def newest_audits(run: RunDirectory, ledger: Ledger) -> pa.Table | None:
    """Read the rows of the newest finished audit of every checkpoint; None when there are none.

    Raises:
        InputError: A table that is gone or damaged.
    """
    tables = [_table_of(run, run.path / path / "table.parquet") for path in ledger.newest_audits]
    return concat(tables) if tables else None


def _table_of(run: RunDirectory, path: Path) -> pa.Table:
    try:
        return read_table(path)
    except InputError as error:
        raise InputError(error.found, error.needed, f"imprint audit {run.path} --pending makes it again") from error


def further_audits(folder: Path) -> dict[str, pa.Table]:
    """Read what a finished audit found with each further taxonomy of the classifier, by its name.

    Raises:
        InputError: A table that is damaged.
    """
    return {path.parent.name: read_table(path) for path in sorted(folder.glob("*/table.parquet"))}


def write_newest_audits(run: RunDirectory, ledger: Ledger) -> Path | None:
    """Write those rows to `audits/table.parquet`, of all taxonomies: a changed threshold never mixes with an older one.

    Raises:
        InputError: The file cannot be written.
    """
    table = newest_audits(run, ledger)
    if table is None:
        return None
    further = [own for path in ledger.newest_audits for own in further_audits(run.path / path).values()]
    table = concat([table, *further]) if further else table
    with writing(run.audit_table_file, f"imprint audit {run.path} --pending"):
        write_table(table, run.audit_table_file)
    return run.audit_table_file


def read_finished_audit(folder: Path, weights: str, audit_key: str) -> pa.Table | None:
    """Read the rows of a folder that holds this very audit; None where it does not, or is damaged."""
    try:
        meta = json.loads((folder / "meta.json").read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None
    owner = (meta.get("weights"), meta.get("audit_key")) if isinstance(meta, dict) else None
    return _readable(folder / "table.parquet") if owner == (weights, audit_key) else None


def forget_lost_audits(run: RunDirectory, ledger: Ledger, say: Callable[[str], None]) -> None:
    """Take finished audits whose table was deleted or damaged since for not done, and tell it."""
    for weights, audit_key, path in ledger.finished_audits:
        if _readable(run.path / path / "table.parquet") is None:
            say(f"  {path}/table.parquet is gone or damaged: that audit is to be done again")
            ledger.forget(weights, audit_key)


def _readable(path: Path) -> pa.Table | None:
    try:
        return read_table(path)
    except (InputError, OSError, pa.ArrowException):
        return None
