"""What did the audits find with this checkpoint? The part of its model card that says it."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import pyarrow as pa

from audits.findings import notable_findings, p_text
from audits.prevalence import GOLD_METHOD, UNCALIBRATED

MOST_ROWS = 40
HEADINGS = ("value", "chosen (95% CI)", "rejected (95% CI)", "difference (95% CI)", "Holm p")
SLICES = ("chosen", "rejected", "chosen-rejected")
Row = dict[str, Any]


@dataclass(frozen=True, slots=True, eq=False)
class AuditFacts:
    """One audit of the checkpoint.

    Attributes:
        rows: Its audit table.
        view: Slug of the view that it read, e.g. `exchange-head-256`.
        datasets: Digest of each data set, by name.
    """

    rows: pa.Table
    view: str
    datasets: dict[str, str]


def audit_section(audit: AuditFacts | None, labels: Sequence[str]) -> str:
    """Return findings, and per data set the share of responses that carry each value.

    Shares are those of all subsets together: error-corrected where gold labels allow it, else counts of decisions.

    Args:
        audit: The checkpoint's newest audit; None when there is none.
        labels: The labels to tell of.
    """
    heading = "## What audits of preference data found with this checkpoint\n\n"
    if audit is None:
        return f"{heading}None: no audit of it was at hand."
    rows = [row for row in audit.rows.to_pylist() if _is_headline(row, labels)]
    if not rows:
        return f"{heading}Its audit counted no shares of values."
    about = (
        "Share of the chosen and of the rejected responses of preference pairs for which this classifier says that "
        f"they carry a value (view `{audit.view}`: part of the dialogue, what a cut keeps, most tokens). These are its "
        "decisions with its errors, except where they are marked as corrected; intervals and p-values (Holm's, over "
        "the values of a data set) are about which pairs were drawn, not about these errors."
    )
    findings = "\n".join(f"* {finding}" for finding in notable_findings(audit.rows, 2))
    datasets = dict.fromkeys(row["dataset"] for row in rows)
    tables = [_dataset_part(name, [row for row in rows if row["dataset"] == name]) for name in datasets]
    return heading + "\n\n".join([about, findings, *tables])


def _is_headline(row: Row, labels: Sequence[str]) -> bool:
    """Tell rows on shares of decisions in all subsets together, as this project counts."""
    return (
        row["audit"] == "value-distribution"
        and not row["subset"]
        and row["mode"] == "corrected"
        and row["metric"] in ("prevalence", "prevalence_difference")
        and row["method"].removesuffix(UNCALIBRATED) in ("cc", GOLD_METHOD)
        and row["slice"] in SLICES
        and row["feature"] in labels
        and math.isfinite(row["estimate"])
    )


def _dataset_part(name: str, rows: Sequence[Row]) -> str:
    """Write the table of one data set: per value one method, the better one where there are two."""
    found: dict[str, dict[str, Row]] = {}
    for row in rows:
        own = found.setdefault(row["feature"], {})
        if row["slice"] not in own or row["method"] == GOLD_METHOD:
            own[row["slice"]] = row
    # Of many values those that differ most, in their own order.
    most = sorted(found, key=lambda feature: -abs(found[feature].get(SLICES[2], {}).get("estimate", 0.0)))[:MOST_ROWS]
    lines = [_cells(feature, own) for feature, own in found.items() if feature in most]
    largest = max(rows, key=lambda row: row["n"])
    left_out = len(found) - len(lines)
    more = f" The other {left_out} values differ less." if left_out else ""
    marked = any(row["method"] == GOLD_METHOD for row in rows)
    more += f" † corrected for the classifier's errors with labels by people ({GOLD_METHOD})." if marked else ""
    counts = f"{largest['n']:,} pairs in {largest['n_clusters']:,} prompts"
    return f"**{name}**: % of {counts}, and the difference in points.{more}\n\n{table(HEADINGS, lines)}"


def _cells(feature: str, own: dict[str, Row]) -> list[str]:
    p_value = own.get(SLICES[2], {}).get("p_adjusted", math.nan)
    shares = [_share(own.get(part), "+" if part == SLICES[2] else "") for part in SLICES]
    return [feature, *shares, "-" if math.isnan(p_value) else p_text(p_value)]


def _share(row: Row | None, sign: str) -> str:
    if row is None:
        return "-"
    estimate, low, high = (f"{100 * row[name]:{sign}.1f}" for name in ("estimate", "ci_low", "ci_high"))
    mark = "†" if row["method"] == GOLD_METHOD else ""
    return f"{estimate}{mark}" if math.isnan(row["ci_low"]) else f"{estimate}{mark} ({low} to {high})"


def table(headings: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """Write a Markdown table whose first column alone stands to the left."""
    rules = ["---", *["---:"] * (len(headings) - 1)]
    cells = ([cell.replace("|", "\\|") for cell in row] for row in (headings, rules, *rows))
    return "\n".join(f"| {' | '.join(row)} |" for row in cells)
