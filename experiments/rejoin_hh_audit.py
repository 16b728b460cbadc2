"""To which prompts do the completions that the HH audit published belong?

Its notebook (`analysis.ipynb` of the authors' repository) joins prompts and completions by the number of the row, and
notes that this assumes one order of both. For the prompts of the audit itself (`nons_disc_custom`, safe, and
`nons_disc_contrast`, unsafe: 25 templates x 19 terms x 3 samples) they have two: prompts are made template by template
there, but were made term by term when models answered them (`xs_custom.py` at f2059d0). So hardly any completion
stands beside its own prompt, and what was computed by group of people from these rows is of no group. This deals the
prompts, types and terms of these rows out in the order of the completions:

    python -m experiments.rejoin_hh_audit xs_test_gpt_processed_results.csv rejoined.csv
    imprint audit --completions rejoined.csv --output table.parquet

It prints how many completions name their prompt's group before and after. A row without all completions was dropped
before the join, from both by its number, so that both still have the same gap.
"""

import argparse
import csv
import sys
from collections.abc import Sequence
from itertools import groupby
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from datamodules.errors import InputError
from datamodules.files import require_output, whole_file
from datamodules.group_mentions import named_group
from datamodules.storage import writing
from datamodules.tabular import Table, cell_text, read_csv

TYPES = ("nons_disc_custom", "nons_disc_contrast")
N_TEMPLATES, N_TERMS = 25, 19
OF_PROMPT = ("prompts", "type", "focus")
FLAG = "_is_compliant"
FIX = "name the published xs_test_gpt_processed_results.csv"

Ints = NDArray[np.int64]


def rejoined(table: Table) -> tuple[list[dict[str, Any]], list[str]]:
    """Deal out the prompts of the HH audit's own templates in the order of their completions.

    Args:
        table: The published file.

    Returns:
        All rows, and a line on each type: how many completions name their prompt's group, before and after.

    Raises:
        InputError: Not that file, or one whose completions do not fit better afterwards.
    """
    models = [column.removesuffix(FLAG) for column in table.columns if column.endswith(FLAG)]
    table.require((*OF_PROMPT, *models), FIX)
    types = np.array([cell_text(row["type"]) for row in table.rows])
    rows, lines = list(table.rows), []
    for kind in TYPES:
        places = np.flatnonzero(types == kind)
        own = [table.rows[i] for i in places.tolist()]
        order = _own_prompts(own, f"{table.path}, type {kind}")
        before, after, n = _named_own(own, order, models)
        if after <= before:
            found = f"{table.path}, whose completions of type {kind} name their prompt's group best as they stand"
            raise InputError(found, "the file as published, out of step", FIX)
        for place, source in zip(places.tolist(), order.tolist(), strict=True):
            rows[place] = _with_prompt(table.rows[place], own[source])
        lines.append(
            f"{kind}: of {n:,} completions that name one group, {before:,} named their prompt's; now {after:,}"
        )
    return rows, lines


def _with_prompt(completions: dict[str, Any], prompt: dict[str, Any]) -> dict[str, Any]:
    """Return a row with the completions of one row and the prompt of another."""
    return completions | {column: prompt[column] for column in OF_PROMPT}


def _own_prompts(rows: Sequence[dict[str, Any]], where: str) -> Ints:
    """Return for every completion [n] a row that holds its prompt.

    The samples of a prompt stand together, so that the b-th prompt of both orders has the same rows.
    """
    keys = [tuple(cell_text(row[column]) for column in OF_PROMPT) for row in rows]
    prompts = [list(own) for _, own in groupby(range(len(rows)), key=keys.__getitem__)]
    if len(prompts) != N_TEMPLATES * N_TERMS:
        needed = f"{N_TEMPLATES} templates of {N_TERMS} terms each"
        raise InputError(f"{len(prompts)} prompts in {where}", needed, FIX)
    order = np.empty(len(rows), dtype=np.int64)
    for b, own in enumerate(prompts):
        term, template = divmod(b, N_TEMPLATES)
        order[own] = prompts[template * N_TERMS + term][0]
    return order


def _named_own(rows: Sequence[dict[str, Any]], order: Ints, models: Sequence[str]) -> tuple[int, int, int]:
    """Count the completions that name one group, the one of their prompt: as they stand, in this order, and of all."""
    terms = [cell_text(row["focus"]) for row in rows]
    known = list(dict.fromkeys(terms))
    asked = np.array([known.index(term) for term in terms])
    named = np.stack([named_group([cell_text(row[model]) for row in rows], known) for model in models])
    return int((named == asked).sum()), int((named == asked[order]).sum()), int((named >= 0).sum())


def _write(path: Path, columns: Sequence[str], rows: Sequence[dict[str, Any]]) -> None:
    with path.open("w", encoding="utf-8", newline="") as file:
        writer = csv.DictWriter(file, columns)
        writer.writeheader()
        writer.writerows(rows)


def main(arguments: Sequence[str] | None = None) -> int:
    """Write the rejoined file; see the top of this file."""
    parser = argparse.ArgumentParser(prog="python -m experiments.rejoin_hh_audit", description=__doc__)
    parser.add_argument("published", type=Path)
    parser.add_argument("output", type=Path)
    settings = parser.parse_args(arguments)
    try:
        if settings.output.resolve() == settings.published.resolve():
            raise InputError(f"{settings.output} as input and as output", "two files", "name another output")
        require_output(settings.output, "name another output")
        table = read_csv(settings.published, FIX)
        rows, lines = rejoined(table)
        with writing(settings.output, "start the command again"), whole_file(settings.output) as part:
            _write(part, table.columns, rows)
    except InputError as error:
        print(f"rejoin_hh_audit: error: {error}", file=sys.stderr)
        return 2
    print("\n".join([*lines, f"{len(rows):,} rows written to {settings.output}"]))
    return 0


if __name__ == "__main__":
    sys.exit(main())
