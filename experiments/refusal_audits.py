"""`imprint audit --completions FILE`: which model refuses what?"""

from typing import Any

from audits.refusals import refusal_table
from audits.table import stamp, write_table
from datamodules.completions import read_completions
from datamodules.errors import InputError
from datamodules.storage import writing
from experiments.completions_report import completions_text
from experiments.table_output import NOT_OF_FILES, require_none_of, require_table_output


def audit_completions(settings: Any) -> int:
    """Audit the file that `--completions` names, print the report and write the rows to `--output`.

    Raises:
        InputError: See `read_completions`; no output or one that cannot be written; a flag about something else.
    """
    path, output = settings.completions, settings.output
    flags = (*NOT_OF_FILES, "target_vectors")
    require_none_of(flags, settings, "--completions", "--completions and --output alone")
    if output is None:
        raise InputError("--completions without --output", "a file for the rows", "--output table.parquet")
    require_table_output(output, [path])
    file = read_completions(path)
    # The rows stand for this very file: its digest tells them from those of a changed one.
    rows = refusal_table(file.name, file.models)
    table = stamp(rows, run_id="", step=None, epoch=None, weights="", audit_key=file.digest)
    with writing(output, "start the command again"):
        write_table(table, output)
    print(completions_text(table, file.layout, file.n_rows), end="")
    print(f"{table.num_rows} rows written to {output}")
    return 0
