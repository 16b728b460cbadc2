"""What should a reader notice first in the audit of values by group named in the prompt? One sentence per data set."""

from typing import Any

import numpy as np
import pyarrow as pa

from audits.findings import SIGNIFICANT, last_checkpoint, p_text, percent
from audits.pair_rows import uncalibrated_mark
from audits.stats.group_gaps import FEWEST_CLUSTERS, FEWEST_ITEMS
from audits.value_disparity import AUDIT, LENGTH_SPEC, NO_GROUP, REASONS, SPEC

Row = dict[str, Any]
GAP, PREFERENCE_GAP = "prevalence_gap", "prevalence_difference_gap"
ASSOCIATION = "an association: such prompts differ in more than the group; not error-corrected"


def disparity_findings(table: pa.Table) -> list[str]:
    """Put the largest gaps of values between groups into words, of shares and of preferences.

    Args:
        table: An audit table; rows on all subsets together are read, of the last checkpoint (the largest step), of
            groups and not of single terms.

    Returns:
        One sentence per data set, also where no gap is significant or no group is named often enough.
    """
    rows = [r for r in last_checkpoint(table).to_pylist() if r["audit"] == AUDIT and not r["subset"]]
    findings: list[str] = []
    for dataset in dict.fromkeys(row["dataset"] for row in rows):
        own = [r for r in rows if r["dataset"] == dataset and not r["slice"].startswith("term:")]
        findings.append(f"{dataset}: {_told(own)}")
    return findings


def _told(rows: list[Row]) -> str:
    gaps = _tested(rows, GAP)
    if not gaps:
        return _too_few(rows)
    is_marked = any(row["method"].endswith(uncalibrated_mark(False)) for row in gaps)
    caveat = "; uncalibrated: a value counts where p is above 1/L" if is_marked else ""
    return f"{_shares(rows, gaps)}; {_preferences(_tested(rows, PREFERENCE_GAP))} ({ASSOCIATION}{caveat})"


def _too_few(rows: list[Row]) -> str:
    """Say which pairs are too few to compare: those that name a group, or those that name none."""
    pairs = next(row for row in rows if row["metric"] == "named_share" and row["slice"] == NO_GROUP)
    without = round(pairs["estimate"] * pairs["n"]) if pairs["n"] else 0
    needed = f"at least {FEWEST_ITEMS} pairs, in {FEWEST_CLUSTERS} prompts"
    if any(row["metric"] == "left_out" and row["method"] == REASONS["few-others"] for row in rows):
        return (
            f"too few pairs name no group of people in their prompts, which others could be compared with: "
            f"{pairs['n'] - without:,} pairs name a group, {without:,} name none ({needed}, of the same subsets are "
            "needed)"
        )
    return (
        "too few pairs name a group of people in their prompts to compare the values of responses: "
        f"{pairs['n'] - without:,} of {pairs['n']:,} name any ({needed} are needed for one group)"
    )


def _tested(rows: list[Row], metric: str, spec: str = SPEC) -> list[Row]:
    found = [row for row in rows if row["metric"] == metric and row["spec"] == spec]
    return [row for row in found if np.isfinite(row["p_adjusted"])]


def _significant(rows: list[Row]) -> list[Row]:
    """Keep gaps beyond chance, the largest first."""
    return sorted((r for r in rows if r["p_adjusted"] < SIGNIFICANT), key=lambda row: -abs(row["estimate"]))


def _shares(rows: list[Row], gaps: list[Row]) -> str:
    """Word the largest gap of a share, or the closest."""
    found = _significant(gaps)
    counts = "{n:,} pairs in {n_clusters:,} prompts"
    if not found:
        closest = min(gaps, key=lambda row: (row["p_adjusted"], -abs(row["estimate"])))
        return (
            f"no value is carried more or less often in responses to prompts that name a group of people (closest: "
            f"{closest['feature']}, {closest['slice']}, {_points(closest)}, Holm p {p_text(closest['p_adjusted'])}, "
            f"{counts.format(**closest)})"
        )
    top = found[0]
    same = ("slice", "feature")
    own, others = (
        next(r["estimate"] for r in rows if r["metric"] == metric and all(r[c] == top[c] for c in same))
        for metric in ("prevalence", "reference_prevalence")
    )
    at_length = [r for r in _tested(rows, GAP, LENGTH_SPEC) if all(r[c] == top[c] for c in same)]
    beside = f", {_points(at_length[0])} at equal length" if at_length else ""
    more = "more" if top["estimate"] > 0 else "less"
    return (
        f"responses to prompts that name {top['slice']} ({counts.format(**top)}) carry {top['feature']} "
        f"{more} often than others of the same subsets: {percent(own)} vs {percent(others)}, {_points(top)} "
        f"({_interval(top)}Holm p {p_text(top['p_adjusted'])}{beside}); {len(found)} of {len(gaps)} such gaps are "
        "significant"
    )


def _preferences(gaps: list[Row]) -> str:
    """Word the largest gap of chosen minus rejected, or the closest."""
    if not gaps:
        return "too few of them have a chosen side to compare preferences"
    found = _significant(gaps)
    if not found:
        closest = min(gaps, key=lambda row: (row["p_adjusted"], -abs(row["estimate"])))
        return (
            f"no preference of people for a value differs by group (closest: {closest['feature']}, {closest['slice']}, "
            f"{_points(closest)}, Holm p {p_text(closest['p_adjusted'])})"
        )
    top = found[0]
    more = "more" if top["estimate"] > 0 else "less"
    return (
        f"chosen minus rejected, {top['feature']} is preferred {more} where {top['slice']} is named: {_points(top)} "
        f"({_interval(top)}Holm p {p_text(top['p_adjusted'])}); {len(found)} of {len(gaps)} such gaps are significant"
    )


def _points(row: Row) -> str:
    return f"{100 * row['estimate']:+.1f} points"


def _interval(row: Row) -> str:
    """Format the interval of a gap, if it has one."""
    if not np.isfinite(row["ci_low"]):
        return ""
    return f"95% CI {100 * row['ci_low']:+.1f} to {100 * row['ci_high']:+.1f}, "
