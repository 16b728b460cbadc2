"""`imprint audit --vectors FILE ..`: which values do models answer with, and what pays for them?"""

from typing import Any

from audits.table import make_table, stamp, write_table
from audits.value_panel import panel_rows, reward_fits, reward_rows
from datamodules.errors import InputError
from datamodules.storage import writing
from datamodules.target_vectors import TAXONOMY, read_targets
from datamodules.taxonomy import load_taxonomy
from datamodules.value_vectors import read_value_vectors
from experiments.table_output import NOT_OF_FILES, require_none_of, require_table_output
from experiments.vectors_report import regression_lines, vectors_text


def audit_vectors(settings: Any) -> int:
    """Audit the files that `--vectors` names, print the report and write the rows to `--output`.

    Raises:
        InputError: See `read_value_vectors` and `read_targets`; no output or one that cannot be written; a flag about
            something else.
    """
    paths, output = settings.vectors, settings.output
    flags = (*NOT_OF_FILES, "completions")
    require_none_of(flags, settings, "--vectors", "--vectors, --target_vectors and --output alone")
    if output is None:
        raise InputError("--vectors without --output", "a file for the rows", "--output table.parquet")
    require_table_output(output, paths)
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
