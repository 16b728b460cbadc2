"""Which features of one's own does a file hold for the responses of a data set, such as a language model's labels?

A row is one side: `pair_id`, `side` (chosen, rejected; a, b of a tie), and columns of numbers. Rows may stand in any
order: they are joined by key, as those of a file of rewards.
"""

from pathlib import Path
from typing import Any

import numpy as np

from datamodules.errors import InputError
from datamodules.preference_data import PairIndex
from datamodules.reward_file import join_rewards
from datamodules.tabular import is_missing, read_table_file

KEYS = ("pair_id", "side", "dataset")


def read_feature_file(
    path: Path, index: PairIndex, fix: str, dataset: str
) -> tuple[tuple[str, ...], np.ndarray, list[str]]:
    """Read the features of both sides of the pairs of a data set from a csv, jsonl, json or parquet file.

    Args:
        path: The file.
        index: The pairs.
        fix: The setting that names the file; becomes the `fix` of errors.
        dataset: Name of the data set; rows that name another in a column `dataset` are passed over.

    Returns:
        Names of the features, float64 [n_pairs, 2, n_features] with NaN where a side has none, and lines on what was
        joined.

    Raises:
        InputError: An unreadable file, no key columns or no other, a cell that is no number, or no row that joins.
    """
    table = read_table_file(path, fix)
    table.require(("pair_id", "side"), fix)
    names = tuple(column for column in table.columns if column not in KEYS)
    if not names:
        raise InputError(f"no column beside pair_id and side in {path}", "at least one feature", fix)
    values, lines = np.empty((len(index), 2, len(names))), []
    for k, name in enumerate(names):
        rows = [{**row, "reward": _number(row.get(name), name, path, fix)} for row in table.rows]
        values[..., k], report, example = join_rewards(rows, index, dataset)
        if not report.n_joined:
            found = f"{path}, of whose {report.n_rows:,} values of {name} none joins a pair (first row: {example})"
            first = str(index.pair_ids[0])
            raise InputError(found, f"the pair_id and side of the data set's pairs, such as {first!r}", fix)
        lines.append(f"{name}: {'; '.join(report.lines()).replace('both rewards', 'both values')}")
    return names, values, lines


def _number(cell: Any, name: str, path: Path, fix: str) -> float:
    if is_missing(cell) or cell == "":
        return float("nan")
    try:
        return float(cell)
    except (TypeError, ValueError, OverflowError) as error:
        found = f"{str(cell)[:40]!r} in column {name} of {path}"
        needed = "numbers in every column beside pair_id and side"
        raise InputError(found, needed, f"leave that column out, or {fix}") from error
