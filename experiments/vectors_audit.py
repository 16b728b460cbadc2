"""`imprint audit --vectors FILE ..`: which values do models answer with, and what pays for them?"""

from typing import Any

from audits.table import make_table, stamp, write_table
from audits.value_panel import panel_rows, reward_fits, reward_rows
from datamodules.errors import InputError
from datamodules.files import require_output
from datamodules.storage import writing
from datamodules.target_vectors import read_targets
from datamodules.taxonomy import load_taxonomy
from datamodules.value_vectors import read_value_vectors
from experiments.vectors_report import regression_lines, vectors_text

# Flags of `imprint audit` that are about something else than value vectors.
OTHER_FLAGS = ("run_dir", "checkpoint", "thresholds", "datasets", "audits", "gold", "root", "max_length", "pending")
TAXONOMY = "schwartz"


def audit_vectors(settings: Any) -> int:
    """Audit the files that `--vectors` names, print the report and write the rows to `--output`.

    Raises:
        InputError: See `read_value_vectors` and `read_targets`; no output or one that cannot be written; a flag about
            something else.
    """
    paths, output = settings.vectors, settings.output
    if given := [name for name in (*OTHER_FLAGS, "completions") if getattr(settings, name, None)]:
        flag = "a run directory" if given[0] == "run_dir" else f"--{given[0]}"
        raise InputError(f"{flag} with --vectors", "--vectors, --target_vectors and --output alone", "leave it out")
    if output is None:
        raise InputError("--vectors without --output", "a file for the rows", "--output table.parquet")
    if output.suffix != ".parquet":
        raise InputError(f"--output {output}", "a name that ends in .parquet", "--output")
    if output.resolve() in [path.resolve() for path in paths]:
        raise InputError(f"{output} as input and as output", "two files", "--output")
    require_output(output, "--output")
    taxonomy = load_taxonomy(TAXONOMY)
    targets = read_targets(settings.target_vectors)
    data = read_value_vectors(paths, taxonomy)
    fits = reward_fits(data)
    table = make_table([*panel_rows(data, taxonomy, targets), *reward_rows(fits, data, taxonomy)])
    # The rows stand for these very files: their digest tells them from those of changed ones.
    table = stamp(table, run_id="", step=None, epoch=None, weights="", audit_key=data.digest)
    with writing(output, "start the command again"):
        write_table(table, output)
    print(vectors_text(data, taxonomy, targets, table))
    for line in regression_lines(fits):
        print(line)
    print(f"{table.num_rows} rows written to {output}")
    return 0
