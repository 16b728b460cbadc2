"""What should a reader notice first in the rows of the audit of contrasts? A few sentences with their numbers."""

from typing import Any

import numpy as np
import pyarrow as pa

from audits.findings import SIGNIFICANT, counts_of, last_checkpoint, p_text, percent
from audits.pair_rows import uncalibrated_mark
from audits.value_contrast import LENGTH_SPEC, STRATA

Row = dict[str, Any]


def contrast_findings(table: pa.Table, n: int = 2) -> list[str]:
    """Put the strongest contrasts between chosen and rejected responses into words, per data set.

    Args:
        table: An audit table; rows on all subsets together are read, of the last checkpoint (the largest step).
        n: How many values per data set at most: those with the largest strength among the significant ones.

    Returns:
        One-line sentences; one per data set that says so where no contrast is significant.
    """
    rows = [r for r in last_checkpoint(table).to_pylist() if r["audit"] == "value-contrast" and not r["subset"]]
    findings: list[str] = []
    for dataset in dict.fromkeys(row["dataset"] for row in rows):
        own = [row for row in rows if row["dataset"] == dataset]
        findings += [f"{dataset}: {sentence}" for sentence in _strongest(own, n)]
    return findings


def _strongest(rows: list[Row], n: int) -> list[str]:
    strengths = _of(rows, "strength")
    tested = [row for row in strengths.values() if np.isfinite(row["p_adjusted"])]
    if not tested:
        pairs = next(map(counts_of, strengths.values()), "")
        return [f"no value sets the sides of any of {pairs} apart{_caveat(rows[0])}"] if strengths else []
    significant = sorted((r for r in tested if r["p_adjusted"] < SIGNIFICANT), key=lambda r: -abs(r["estimate"]))
    if significant:
        return [_told(rows, row["feature"]) for row in significant[:n]]
    closest = min(tested, key=lambda row: (row["p_adjusted"], -abs(row["estimate"])))
    relevance, kappa = _of(rows, "relevance")[closest["feature"]], _of(rows, "preference_kappa")[closest["feature"]]
    return [
        f"no value sets chosen responses apart from rejected ones beyond chance (closest: {closest['feature']}, "
        f"carried by one side only in {percent(relevance['estimate'])} of {counts_of(relevance)}, kappa with people's "
        f"choice {_number(kappa)}, Holm p {p_text(closest['p_adjusted'])}){_caveat(closest)}"
    ]


def _told(rows: list[Row], feature: str) -> str:
    """Word one significant contrast."""
    relevance, kappa, strength = (_of(rows, name)[feature] for name in ("relevance", "preference_kappa", "strength"))
    side = "chosen" if kappa["estimate"] > 0 else "rejected"
    return (
        f"{feature} sides with {side} responses: one side only carries it in {percent(relevance['estimate'])} of "
        f"{counts_of(relevance)} (relevance), the {side} one in {percent((1 + abs(kappa['estimate'])) / 2)} of these: "
        f"kappa {_number(kappa)}, strength {strength['estimate']:+.3f}, Holm p {p_text(strength['p_adjusted'])}; "
        f"{_length(rows, feature)}{_caveat(strength)}"
    )


def _length(rows: list[Row], feature: str) -> str:
    """Word how much of a contrast goes along with the length of the response."""
    equal = _of(rows, "prevalence_difference", LENGTH_SPEC).get(feature)
    share = _of(rows, "length_explained_share", LENGTH_SPEC).get(feature)
    if equal is None or share is None or not np.isfinite(share["estimate"]):
        return "how much of it is length cannot be told"
    # Where few pairs are, the difference at equal length is a line drawn far from most of them.
    similar = percent(_of(rows, "stratum_share", STRATA[1])[""]["estimate"])
    part = min(max(share["estimate"], 0.0), 1.0)
    how_much = {0.0: "none of it", 1.0: "all of it"}.get(part, f"{100 * part:.0f}% of it")
    return (
        f"length explains {how_much} (95% CI {100 * share['ci_low']:.0f}% to {100 * share['ci_high']:.0f}%), at equal "
        f"length the difference is {100 * equal['estimate']:+.1f} points (Holm p {p_text(equal['p_adjusted'])}; "
        f"{similar} of pairs are of similar length)"
    )


def _of(rows: list[Row], metric: str, spec: str = "within") -> dict[str, Row]:
    """Pick the rows of one metric by value."""
    return {row["feature"]: row for row in rows if row["metric"] == metric and row["spec"] == spec}


def _number(row: Row) -> str:
    """Format a kappa with its interval, if it has one."""
    interval = f" (95% CI {row['ci_low']:+.2f} to {row['ci_high']:+.2f})" if np.isfinite(row["ci_low"]) else ""
    return f"{row['estimate']:+.2f}{interval}"


def _caveat(row: Row) -> str:
    """Say that contrasts are those of the classifier's decisions, and when its thresholds were not fitted."""
    uncalibrated = row["method"].endswith(uncalibrated_mark(False))
    return f"; not error-corrected{'; uncalibrated: a value counts where p is above 1/L' if uncalibrated else ''}"
