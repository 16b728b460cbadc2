"""What should a reader notice first in the rows on value vectors? A few sentences with their numbers."""

from typing import Any

import numpy as np
import pyarrow as pa

from audits.findings import SIGNIFICANT, counts_of, last_checkpoint, p_text
from audits.pair_rows import uncalibrated_mark
from audits.value_vectors import AUDIT
from datamodules.circumplex import READINGS

Row = dict[str, Any]

SUPPORT = ("labelled_texts", "label_correlation")
# Held-out texts that are labelled with a value; fewer vouch for nothing.
FEWEST_LABELLED = 5
# What the circle is asked of -> how it is called.
CIRCLES = {"held-out-labels": "annotators' labels of held-out texts", "held-out": "its scores there", "": "both sides"}


def space_findings(table: pa.Table) -> list[str]:
    """Put value-space into words, per data set: which values and groups of values chosen responses speak for more.

    And once, of the first data set with held-out texts, whether the values lie on the circle of theory, in the labels
    and in what the classifier makes of them.

    Args:
        table: An audit table; rows on all subsets together are read, of the last checkpoint (the largest step).
    """
    rows = [r for r in last_checkpoint(table).to_pylist() if r["audit"] == AUDIT and not r["subset"]]
    datasets = dict.fromkeys(row["dataset"] for row in rows)
    by_dataset = {name: [row for row in rows if row["dataset"] == name] for name in datasets}
    findings = [f"{name}: {sentence}" for name, own in by_dataset.items() if (sentence := _differences(own))]
    circles = [(name, sentence) for name, own in by_dataset.items() if (sentence := _circle(own))]
    return findings + [f"{sentence} in {name}" for name, sentence in circles[:1]]


def _differences(rows: list[Row]) -> str:
    """Word the largest differences between chosen and rejected responses that survive Holm's adjustment."""
    doubts = _doubts(rows)
    values = _tested(rows, "mean_value_difference")
    if not values:
        return ""
    significant = [row for row in values if row["p_adjusted"] < SIGNIFICANT]
    groups = [row for row in _tested(rows, "mean_group_value_difference") if row["p_adjusted"] < SIGNIFICANT]
    caveat = "; means of the classifier's probabilities, not error-corrected"
    if values[0]["method"].endswith(uncalibrated_mark(False)):
        caveat += "; uncalibrated"
    if not significant:
        closest = min(values, key=lambda row: (row["p_adjusted"], -abs(row["estimate"])))
        return (
            f"chosen responses speak for (less against) no value more than rejected ones beyond chance (closest: "
            f"{_told(closest, doubts)}; {counts_of(closest)}){caveat}"
        )
    told = "; ".join(_told(row, doubts) for row in significant[:2])
    of_groups = f"; of the groups above the values {_told(groups[0], {})}" if groups else ""
    n = f"{len(significant)} of {len(values)} values differ"
    return (
        f"chosen minus rejected responses, mean for minus against in [-1, 1]: {told}{of_groups} ({n}, "
        f"{counts_of(significant[0])}){caveat}"
    )


def _doubts(rows: list[Row]) -> dict[str, str]:
    """Say of the values that held-out labels do not vouch for why not; nothing without held-out texts."""
    of = {metric: {r["feature"]: r for r in rows if r["metric"] == metric} for metric in SUPPORT}
    doubts = {}
    for feature, row in of["labelled_texts"].items():
        correlation = of["label_correlation"][feature]
        if row["estimate"] < FEWEST_LABELLED:
            doubts[feature] = f", of which {row['estimate']:.0f} of {row['n']:,} held-out texts tell anything"
        elif not correlation["ci_low"] > 0:
            doubts[feature] = ", which does not follow the held-out labels"
    return doubts


def _told(row: Row, doubts: dict[str, str]) -> str:
    interval = f" (95% CI {row['ci_low']:+.3f} to {row['ci_high']:+.3f}, " if np.isfinite(row["ci_low"]) else " ("
    told = f"{row['feature'].removesuffix('-net')} {row['estimate']:+.3f}{interval}Holm p {p_text(row['p_adjusted'])})"
    return told + doubts.get(row["feature"], "")


def _tested(rows: list[Row], metric: str) -> list[Row]:
    """Rows of paired differences with a p-value, the largest first."""
    found = [row for row in rows if row["metric"] == metric and np.isfinite(row["p_adjusted"])]
    return sorted(found, key=lambda row: -abs(row["estimate"]))


def _circle(rows: list[Row]) -> str:
    """Word how labels and scores fit the circle; empty where there are no held-out labels."""
    found = {
        row["slice"]: row
        for row in rows
        if row["metric"] == "correspondence_index" and row["spec"] == READINGS[0] and np.isfinite(row["estimate"])
    }
    if "held-out-labels" not in found:
        return ""
    told = [
        f"{name} {row['estimate']:+.2f} (one-sided p {p_text(row['p_value'])}, {row['n']:,} texts)"
        for key, name in CIRCLES.items()
        if (row := found.get(key)) is not None
    ]
    return f"fit of the values to Schwartz's circle (correspondence index, 1 perfect, 0 none): {', '.join(told)}"
