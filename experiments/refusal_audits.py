"""`imprint audit --completions FILE`: which model refuses what?"""

from typing import Any

from audits.refusals import refusal_table
from audits.table import stamp, write_table
from datamodules.completions import read_completions
from datamodules.errors import InputError
from datamodules.files import require_output
from datamodules.storage import writing
from experiments.completions_report import completions_text

# Flags of `imprint audit` that are about something else than completions.
NOT_OF_COMPLETIONS = (
    "run_dir",
    "checkpoint",
    "thresholds",
    "datasets",
    "audits",
    "gold",
    "root",
    "max_length",
    "pending",
    "target_vectors",
)


def audit_completions(settings: Any) -> int:
    """Audit the file that `--completions` names, print the report and write the rows to `--output`.

    Raises:
        InputError: See `read_completions`; no output or one that cannot be written; a flag about something else.
    """
    path, output = settings.completions, settings.output
    if given := [name for name in NOT_OF_COMPLETIONS if getattr(settings, name)]:
        flag = "a run directory" if given[0] == "run_dir" else f"--{given[0]}"
        raise InputError(f"{flag} with --completions", "--completions and --output alone", "leave it out")
    if output is None:
        raise InputError("--completions without --output", "a file for the rows", "--output table.parquet")
    if output.suffix != ".parquet":
        raise InputError(f"--output {output}", "a name that ends in .parquet", "--output")
    if output.resolve() == path.resolve():
        raise InputError(f"{output} as input and as output", "two files", "--output")
    require_output(output, "--output")
    file = read_completions(path)
    # The rows stand for this very file: its digest tells them from those of a changed one.
    rows = refusal_table(file.name, file.models)
    table = stamp(rows, run_id="", step=None, epoch=None, weights="", audit_key=file.digest)
    with writing(output, "start the command again"):
        write_table(table, output)
    print(completions_text(table, file.layout, file.n_rows), end="")
    print(f"{table.num_rows} rows written to {output}")
    return 0
