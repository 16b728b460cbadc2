"""What did the audits that need no checkpoint find in a run's data? One sentence per audit and data set."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import pyarrow as pa

from audits.dataset_quality import NAME as QUALITY
from audits.findings import p_text, percent
from experiments.quality_report import quality_finding
from train.data_audits import DataAudit

Row = dict[str, Any]
SIDES = ("chosen", "rejected")
RATES = {"refusal_rate": "refused", "incapable_rate": "not understood or known"}


def counted(made: Sequence[DataAudit]) -> str:
    """Say how many audits of data there are, and how many of them are new."""
    n_new = sum(one.is_new for one in made)
    return f"{len(made)} audit{'s' * (len(made) != 1)} of data: {n_new} made now, {len(made) - n_new} there before"


def data_finding(made: DataAudit) -> str:
    """Say in one sentence what an audit found in a data set."""
    finding = quality_finding(made.table) if made.audit == QUALITY else refusals_finding(made.table)
    return f"{made.audit} of {made.dataset}: {finding}"


def refusals_finding(table: pa.Table) -> str:
    """Say how often chosen and rejected responses refuse, and how often they show no understanding or knowledge.

    Args:
        table: Rows of `audits.pair_refusals.pair_refusal_table`.
    """
    rows = {(r["metric"], r["slice"]): r for r in table.to_pylist() if not r["subset"] and r["metric"] != "left_out"}
    if ("refusal_rate", SIDES[0]) not in rows:
        return "no pair states a preference"
    said = []
    for metric, name in RATES.items():
        chosen, rejected = (rows[metric, side] for side in SIDES)
        both = rows.get((f"{metric}_difference", "chosen-rejected"))
        apart = "" if both is None else f" ({_difference(both)})"
        said.append(f"{name} {_rate(chosen)} chosen vs {_rate(rejected)} rejected{apart}")
    return "; ".join(said)


def _rate(row: Row) -> str:
    return f"{percent(row['estimate'])} of {row['n']:,}" if np.isfinite(row["estimate"]) else f"- of {row['n']:,}"


def _difference(row: Row) -> str:
    p_value = f", p {p_text(row['p_value'])}" if np.isfinite(row["p_value"]) else ""
    return f"{100 * row['estimate']:+.1f} points{p_value}"
