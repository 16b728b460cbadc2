"""What should a reader notice first in an audit table? A few sentences with their numbers."""

from typing import Any

import numpy as np
import pyarrow as pa

Row = dict[str, Any]

SIGNIFICANT = 0.05


def notable_findings(table: pa.Table, n: int = 3) -> list[str]:
    """Put the n most notable findings of value-distribution rows into words.

    First the largest difference between chosen and rejected responses that survives Holm's adjustment (or that there
    is none), then which value dominates in each data set, then the pairs that the as-published view cannot tell
    apart, then the largest differences of the other data sets. Rows on all subsets together are read, of the last
    checkpoint (the largest step) if the table holds several.

    Args:
        table: An audit table.
        n: How many sentences at most.

    Returns:
        One-line sentences; fewer than n when the table has no more to say.
    """
    rows = [r for r in last_checkpoint(table).to_pylist() if r["audit"] == "value-distribution" and not r["subset"]]
    rows = _without_nets(rows)
    differences = _largest_differences(rows)
    findings = [*differences[:1], *_dominant(rows), *_indistinguishable(rows), *differences[1:]]
    return findings[:n]


def last_checkpoint(table: pa.Table) -> pa.Table:
    """Keep the rows of the largest step; all rows when no row has a step."""
    steps = table["step"].to_numpy(zero_copy_only=False).astype(np.float64)
    if np.isnan(steps).all():
        return table
    return table.filter(pa.array(steps == np.nanmax(steps)))


def _without_nets(rows: list[Row]) -> list[Row]:
    """Leave out the net rows of signed values, which restate the for- and against-rows."""
    nets = {r["feature"].removesuffix("-for") + "-net" for r in rows if r["feature"].endswith("-for")}
    return [r for r in rows if r["feature"] not in nets]


def _largest_differences(rows: list[Row]) -> list[str]:
    """One sentence per data set with a significant difference, the largest first; or one that there is none."""
    tested = [r for r in rows if r["metric"] == "prevalence_difference" and r["mode"] == "corrected"]
    if not tested:
        return []
    significant = [r for r in tested if r["p_adjusted"] < SIGNIFICANT]
    if not significant:
        return [_none_significant(tested)]
    largest: dict[str, Row] = {}
    for row in sorted(significant, key=lambda r: -abs(r["estimate"])):
        largest.setdefault(row["dataset"], row)
    return [_difference(row, rows) for row in largest.values()]


def _difference(row: Row, rows: list[Row]) -> str:
    """Word a significant paired difference."""
    chosen, rejected = (_prevalence(rows, row, side) for side in ("chosen", "rejected"))
    more = "more" if row["estimate"] > 0 else "less"
    low, high = 100 * row["ci_low"], 100 * row["ci_high"]
    interval = "all pairs differ alike" if np.isnan(low) else f"95% CI {low:+.1f} to {high:+.1f}"
    return (
        f"{row['dataset']}: chosen responses carry {row['feature']} {more} often than rejected ones: "
        f"{percent(chosen)} vs {percent(rejected)}, difference {100 * row['estimate']:+.1f} points "
        f"({interval}, Holm p {p_text(row['p_adjusted'])}, {counts_of(row)}){_caveat(row)}"
    )


def _none_significant(tested: list[Row]) -> str:
    """Say plainly that nothing is significant, with the value that came closest."""
    datasets = ", ".join(dict.fromkeys(r["dataset"] for r in tested))
    start = f"No value differs significantly between chosen and rejected responses in {datasets}"
    known = [r for r in tested if np.isfinite(r["p_adjusted"])]
    if not known:
        return f"{start}: no difference could be tested"
    r = min(known, key=lambda row: (row["p_adjusted"], -abs(row["estimate"])))
    return (
        f"{start} (closest: {r['feature']} in {r['dataset']}, {100 * r['estimate']:+.1f} points, "
        f"Holm p {p_text(r['p_adjusted'])}, {counts_of(r)}){_caveat(r)}"
    )


def _dominant(rows: list[Row]) -> list[str]:
    """One sentence on the most frequent value in the chosen responses of each data set."""
    top: dict[str, Row] = {}
    for row in rows:
        if row["metric"] == "prevalence" and row["slice"] == "chosen":
            known = top.setdefault(row["dataset"], row)
            if row["estimate"] > known["estimate"]:
                top[row["dataset"]] = row
    # Where nothing was decided for any text, no value dominates.
    winners = [r for r in top.values() if r["estimate"] > 0]
    if not winners:
        return []
    caveat = next((c for c in map(_caveat, winners) if c), "")
    features = {r["feature"] for r in winners}
    if len(features) == 1 and len(winners) > 1:
        parts = ", ".join(f"{percent(r['estimate'])} in {r['dataset']}" for r in winners)
        return [f"{winners[0]['feature']} is the most frequent value of chosen responses everywhere: {parts}{caveat}"]
    parts = ", ".join(f"{r['feature']} in {r['dataset']} ({percent(r['estimate'])} of {r['n']:,})" for r in winners)
    return [f"Most frequent value of chosen responses: {parts}{caveat}"]


def _indistinguishable(rows: list[Row]) -> list[str]:
    """One sentence on the data set with the largest share of pairs that the as-published view cannot tell apart."""
    shares = [r for r in rows if r["metric"] == "indistinguishable_share" and r["n"]]
    published = [r for r in shares if r["mode"] == "as_published"]
    if not published:
        return []
    worst = max(published, key=lambda r: r["estimate"])
    ours = [r for r in shares if r["mode"] == "corrected" and r["dataset"] == worst["dataset"]]
    beside = f"; {percent(ours[0]['estimate'])} in the corrected view" if ours else ""
    return [
        f"{worst['dataset']}: in the as-published view both sides of {percent(worst['estimate'])} of {worst['n']:,} "
        f"pairs are the same input, so chosen and rejected cannot differ there{beside}"
    ]


def _prevalence(rows: list[Row], of: Row, side: str) -> float:
    """Find the prevalence on one side that belongs to a difference."""
    same = ("dataset", "feature", "method", "mode", "audit_key")
    found = [
        r["estimate"]
        for r in rows
        if r["metric"] == "prevalence" and r["slice"] == side and all(r[name] == of[name] for name in same)
    ]
    return float(found[0]) if found else float("nan")


def _caveat(row: Row) -> str:
    """Say so when decisions were made without fitted thresholds."""
    return "; uncalibrated: a value counts where p is above 1/L" if row["method"].endswith("-uncalibrated") else ""


def percent(share: float) -> str:
    """Format a share."""
    return f"{100 * share:.1f}%"


def p_text(p_value: float) -> str:
    """Format a p-value."""
    return "< 0.001" if p_value < 0.001 else f"{p_value:.3f}"


def counts_of(row: Row) -> str:
    """Format the denominators of a row on pairs."""
    return f"{row['n']:,} pairs in {row['n_clusters']:,} prompts"
