"""What should a reader notice first in an audit table? A few sentences with their numbers."""

from typing import Any

import numpy as np
import pyarrow as pa

from audits.prevalence import BAND_METHOD, GOLD_METHOD, UNCALIBRATED

Row = dict[str, Any]

SIGNIFICANT = 0.05
COUNT_METHOD = "cc"
BAND = " [band "


def notable_findings(table: pa.Table, n: int = 3) -> list[str]:
    """Put the n most notable findings of value-distribution rows into words.

    Shares and differences are error-corrected ones (`ppi++`) in a data set with gold labels, else counts of decisions,
    with the sensitivity band where there is one, and each sentence says which.

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


def gold_findings(table: pa.Table) -> list[str]:
    """Say per data set with gold labels which shares of chosen responses these could not correct, and why.

    Args:
        table: An audit table; rows on all subsets together are read, of the last checkpoint (the largest step).

    Returns:
        One-line sentences; none where every share was corrected.
    """
    rows = [r for r in last_checkpoint(table).to_pylist() if r["audit"] == "value-distribution" and not r["subset"]]
    rows = [r for r in _without_nets(rows) if r["slice"] == "chosen"]
    refused: dict[str, dict[str, list[str]]] = {}
    for row in rows:
        method, _, reason = row["method"].partition(": ")
        if row["metric"] == "refused" and method == GOLD_METHOD:
            refused.setdefault(row["dataset"], {}).setdefault(reason, []).append(row["feature"])
    findings = []
    for dataset, by_reason in refused.items():
        n = len({r["feature"] for r in rows if r["dataset"] == dataset and r["metric"] == "prevalence"})
        names = "; ".join(f"{', '.join(features)}: {reason}" for reason, features in by_reason.items())
        n_refused = sum(map(len, by_reason.values()))
        findings.append(
            f"{dataset}: gold labels correct {n - n_refused} of {n} shares of chosen responses; the others stay the "
            f"classifier's count ({names})"
        )
    return findings


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
    tested = _best_rows([r for r in rows if r["metric"] == "prevalence_difference" and r["mode"] == "corrected"])
    if not tested:
        return []
    significant = [r for r in tested if r["p_adjusted"] < SIGNIFICANT]
    if not significant:
        return [_none_significant(tested)]
    largest: dict[str, Row] = {}
    for row in sorted(significant, key=lambda r: -abs(r["estimate"])):
        largest.setdefault(row["dataset"], row)
    return [_difference(row, rows) for row in largest.values()]


def _best_rows(rows: list[Row]) -> list[Row]:
    """Keep one method per data set: `ppi++` where gold labels could correct any label, else the count of decisions."""
    corrected = {r["dataset"] for r in rows if r["method"] == GOLD_METHOD and np.isfinite(r["estimate"])}
    gold = [r for r in rows if r["method"] == GOLD_METHOD and np.isfinite(r["estimate"])]
    return gold + [r for r in rows if _estimator(r) == COUNT_METHOD and r["dataset"] not in corrected]


def _difference(row: Row, rows: list[Row]) -> str:
    """Word a significant paired difference."""
    chosen, rejected = (_share_text(rows, row, side) for side in ("chosen", "rejected"))
    more = "more" if row["estimate"] > 0 else "less"
    low, high = 100 * row["ci_low"], 100 * row["ci_high"]
    interval = "all pairs differ alike" if np.isnan(low) else f"95% CI {low:+.1f} to {high:+.1f}"
    return (
        f"{row['dataset']}: chosen responses carry {row['feature']} {more} often than rejected ones: "
        f"{chosen} vs {rejected}, difference {100 * row['estimate']:+.1f} points "
        f"({interval}, Holm p {p_text(row['p_adjusted'])}, {_counts(row)}){_caveat(row, chosen + rejected)}"
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
        f"Holm p {p_text(r['p_adjusted'])}, {_counts(r)}){_caveats([(row, '') for row in known])}"
    )


def _dominant(rows: list[Row]) -> list[str]:
    """One sentence on the most frequent value in the chosen responses of each data set."""
    shares = [r for r in rows if r["metric"] == "prevalence" and r["slice"] == "chosen" and r["mode"] == "corrected"]
    top = _top_of([r for r in shares if _estimator(r) == COUNT_METHOD])
    corrected = [r for r in shares if r["method"] == GOLD_METHOD and np.isfinite(r["estimate"])]
    for dataset, row in _top_of(corrected).items():
        # Without a corrected share of the value that is counted most, it is unknown which is the largest.
        if any(r["feature"] == top[dataset]["feature"] for r in corrected if r["dataset"] == dataset):
            top[dataset] = row
    # Where nothing was decided for any text, no value dominates.
    winners = [r for r in top.values() if r["estimate"] > 0]
    if not winners:
        return []
    features = {r["feature"] for r in winners}
    if len(features) == 1 and len(winners) > 1:
        parts = ", ".join(f"{percent(r['estimate'])} in {r['dataset']}{_band(rows, r)}" for r in winners)
        start = f"{winners[0]['feature']} is the most frequent value of chosen responses everywhere"
    else:
        parts = ", ".join(
            f"{r['feature']} in {r['dataset']} ({percent(r['estimate'])} of {_responses(r)}){_band(rows, r)}"
            for r in winners
        )
        start = "Most frequent value of chosen responses"
    return [f"{start}: {parts}{_caveats([(row, _band(rows, row)) for row in winners])}"]


def _caveats(told: list[tuple[Row, str]]) -> str:
    """Say what was done about errors in rows and the bands told with them: once, or by data set where they differ."""
    caveats: dict[str, dict[str, None]] = {}
    for row, band in told:
        caveats.setdefault(_caveat(row, band), {})[row["dataset"]] = None
    if len(caveats) == 1:
        return next(iter(caveats))
    return "".join(f"; {', '.join(names)}: {caveat.removeprefix('; ')}" for caveat, names in caveats.items())


def _top_of(shares: list[Row]) -> dict[str, Row]:
    """Data set -> the row with its largest share (the first of equals)."""
    top: dict[str, Row] = {}
    for row in shares:
        if row["estimate"] > top.setdefault(row["dataset"], row)["estimate"]:
            top[row["dataset"]] = row
    return top


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


def _share_text(rows: list[Row], of: Row, side: str) -> str:
    """Format the prevalence on one side that belongs to a difference, with its band where there is one."""
    same = ("dataset", "feature", "method", "mode", "audit_key")
    found = [
        r
        for r in rows
        if r["metric"] == "prevalence" and r["slice"] == side and all(r[name] == of[name] for name in same)
    ]
    return percent(found[0]["estimate"]) + _band(rows, found[0]) if found else percent(float("nan"))


def _band(rows: list[Row], of: Row) -> str:
    """Format the sensitivity band beside a counted prevalence; empty where there is none."""
    if _estimator(of) != COUNT_METHOD:
        return ""
    same = ("dataset", "feature", "slice", "metric", "mode", "audit_key")
    bands = [r for r in rows if _estimator(r) == BAND_METHOD and all(r[name] == of[name] for name in same)]
    if not bands or np.isnan(bands[0]["ci_low"]):
        return ""
    return f"{BAND}{100 * bands[0]['ci_low']:.1f}-{percent(bands[0]['ci_high'])}]"


def _caveat(row: Row, told: str = "") -> str:
    """Say what was done about the classifier's errors in shares `told`, and whether thresholds were not fitted."""
    if row["method"] == GOLD_METHOD:
        return "; error-corrected with gold labels (ppi++)"
    caveat = "; band from held-out TPR/FPR, not error-corrected" if BAND in told else "; not error-corrected"
    if row["method"].endswith(UNCALIBRATED):
        caveat += "; uncalibrated: a value counts where p is above 1/L"
    return caveat


def _estimator(row: Row) -> str:
    """Method of a row without the mark of thresholds that were not fitted."""
    return str(row["method"]).removesuffix(UNCALIBRATED)


def _responses(row: Row) -> str:
    """Format the denominator of a prevalence."""
    return f"{row['n']:,} labelled" if row["method"] == GOLD_METHOD else f"{row['n']:,}"


def _counts(row: Row) -> str:
    """Format the denominators of a difference."""
    if row["method"] == GOLD_METHOD:
        return f"{row['n']:,} labelled pairs in {row['n_clusters']:,} prompts"
    return counts_of(row)


def percent(share: float) -> str:
    """Format a share."""
    return f"{100 * share:.1f}%"


def p_text(p_value: float) -> str:
    """Format a p-value."""
    return "< 0.001" if p_value < 0.001 else f"{p_value:.3f}"


def counts_of(row: Row) -> str:
    """Format the denominators of a row on pairs."""
    return f"{row['n']:,} pairs in {row['n_clusters']:,} prompts"
