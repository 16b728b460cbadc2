"""Which audit rows of a run count now? Those of the newest audit of every checkpoint."""

from pathlib import Path

import pyarrow as pa

from audits.table import concat, read_table, write_table
from train.ledger import Ledger
from train.run_directory import RunDirectory


def newest_audits(run: RunDirectory, ledger: Ledger) -> pa.Table | None:
    """Read the rows of the newest finished audit of every checkpoint; None when there are none."""
    tables = [read_table(run.path / path / "table.parquet") for path in ledger.newest_audits]
    return concat(tables) if tables else None


def write_newest_audits(run: RunDirectory, ledger: Ledger) -> Path | None:
    """Write those rows to `audits/table.parquet`, where a changed threshold never mixes with the one before."""
    table = newest_audits(run, ledger)
    if table is None:
        return None
    write_table(table, run.audit_table_file)
    return run.audit_table_file
