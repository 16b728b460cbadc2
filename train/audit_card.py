"""What did the audits find with this checkpoint? The part of its model card that says it."""

import math
from collections.abc import Sequence
from typing import Any

import pyarrow as pa

from audits.findings import notable_findings, p_text
from audits.prevalence import GOLD_METHOD, UNCALIBRATED
from models.calibration import Calibration
from train.markdown import table

MOST_ROWS = 40
HEADINGS = ("value", "chosen (95% CI)", "rejected (95% CI)", "difference (95% CI)", "Holm p", "classifier's errors")
Row = dict[str, Any]


def audit_section(audited: pa.Table | None, calibration: Calibration) -> str:
    """Return findings, and per data set the share of responses that carry each value.

    Shares are those of all subsets together: error-corrected where gold labels allow it, else counts of decisions.

    Args:
        audited: Rows of the checkpoint's newest audit; None when there is none.
        calibration: Its thresholds, and the labels to tell of.
    """
    heading = "## What audits of preference data found with this checkpoint\n\n"
    rows = [] if audited is None else [row for row in audited.to_pylist() if _is_headline(row, calibration.labels)]
    if audited is None or not rows:
        return f"{heading}None was at hand."
    findings = "\n".join(f"* {finding}" for finding in notable_findings(audited))
    tables = [
        _dataset_part(name, [row for row in rows if row["dataset"] == name])
        for name in dict.fromkeys(row["dataset"] for row in rows)
    ]
    return heading + "\n\n".join([findings, *tables])


def _is_headline(row: Row, labels: Sequence[str]) -> bool:
    """Tell rows on shares of decisions in all subsets together, as this project counts."""
    return (
        row["audit"] == "value-distribution"
        and not row["subset"]
        and row["mode"] == "corrected"
        and row["metric"] in ("prevalence", "prevalence_difference")
        and row["method"].removesuffix(UNCALIBRATED) in ("cc", GOLD_METHOD)
        and row["feature"] in labels
        and math.isfinite(row["estimate"])
    )


def _dataset_part(name: str, rows: Sequence[Row]) -> str:
    """Write the table of one data set: per value one method, the better one where there are two."""
    found: dict[tuple[str, str], Row] = {}
    for row in rows:
        key = row["feature"], row["slice"]
        if key not in found or row["method"] == GOLD_METHOD:
            found[key] = row
    features = list(dict.fromkeys(row["feature"] for row in rows))
    # Of many values those that differ most, in their own order.
    most = sorted(features, key=lambda feature: -abs(_of(found, feature, "chosen-rejected")["estimate"]))[:MOST_ROWS]
    lines = [_cells(found, feature) for feature in features if feature in most]
    counted = max((row["n"] for row in rows if row["slice"] == "chosen"), default=0)
    left_out = len(features) - len(lines)
    more = f" The other {left_out} values differ less." if left_out else ""
    caption = f"**{name}**: % of {counted:,} responses a side that carry the value, and the difference in points.{more}"
    return f"{caption}\n\n{table(HEADINGS, lines)}"


_NOTHING: Row = {"estimate": 0.0, "ci_low": math.nan, "ci_high": math.nan, "p_adjusted": math.nan, "method": ""}


def _of(found: dict[tuple[str, str], Row], feature: str, side: str) -> Row:
    return found.get((feature, side), _NOTHING)


def _cells(found: dict[tuple[str, str], Row], feature: str) -> list[str]:
    sides = [found.get((feature, side)) for side in ("chosen", "rejected", "chosen-rejected")]
    difference = sides[2] or _NOTHING
    p_value = difference["p_adjusted"]
    corrected = {row["method"] == GOLD_METHOD for row in sides if row}
    how = {frozenset({True}): f"corrected ({GOLD_METHOD})", frozenset({False}): "not error-corrected"}
    return [
        feature,
        _share(sides[0], ""),
        _share(sides[1], ""),
        _share(sides[2], "+"),
        "-" if math.isnan(p_value) else p_text(p_value),
        how.get(frozenset(corrected), f"partly corrected ({GOLD_METHOD})"),
    ]


def _share(row: Row | None, sign: str) -> str:
    if row is None:
        return "-"
    estimate, low, high = (f"{100 * row[name]:{sign}.1f}" for name in ("estimate", "ci_low", "ci_high"))
    return estimate if math.isnan(row["ci_low"]) else f"{estimate} ({low} to {high})"
