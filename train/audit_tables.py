"""Which audit rows of a run count now? Those of the newest audit of every checkpoint."""

import json
from pathlib import Path

import pyarrow as pa

from audits.table import concat, read_table, write_table
from train.ledger import Ledger
from train.run_directory import RunDirectory
from train.storage import writing


def newest_audits(run: RunDirectory, ledger: Ledger) -> pa.Table | None:
    """Read the rows of the newest finished audit of every checkpoint; None when there are none."""
    tables = [read_table(run.path / path / "table.parquet") for path in ledger.newest_audits]
    return concat(tables) if tables else None


def write_newest_audits(run: RunDirectory, ledger: Ledger) -> Path | None:
    """Write those rows to `audits/table.parquet`, where a changed threshold never mixes with the one before.

    Raises:
        InputError: The file cannot be written.
    """
    table = newest_audits(run, ledger)
    if table is None:
        return None
    with writing(run.audit_table_file, f"imprint audit {run.path} --pending"):
        write_table(table, run.audit_table_file)
    return run.audit_table_file


def is_finished_audit(folder: Path, weights: str, audit_key: str) -> bool:
    """Tell whether a folder holds this very audit; it is there as a whole or not at all."""
    try:
        meta = json.loads((folder / "meta.json").read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return False
    return isinstance(meta, dict) and (meta.get("weights"), meta.get("audit_key")) == (weights, audit_key)
