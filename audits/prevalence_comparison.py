"""How far is a share of values as published from the corrected one, and why?

The published number is the share of argmax votes of whole dialogues cut after 128 tokens. It becomes the corrected one
in steps that the audit table holds: the view (another part of the text is read, and pairs that the classifier was
trained on are left out), several values at once (a response carries each value whose probability is above its
threshold, not only the most probable one) and, with gold labels, the errors of the classifier (`ppi++`). Without gold
labels the last step is unknown; the band from held-out rates of error says how large it could be.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa

from audits.prevalence import UNCALIBRATED

Row = dict[str, Any]
# Data set, score column, metric, mode and estimator of a row.
Key = tuple[str, str, str, str, str]

STEPS = ("view", "several values", "classifier errors")
# Shares that differ by less differ by rounding.
SAME = 1e-12


@dataclass(frozen=True, slots=True)
class PrevalenceComparison:
    """One value on one side of a data set at one checkpoint; shares in [0, 1], NaN where the table has none.

    Attributes:
        dataset: Name of the data set.
        feature: Score column.
        published: Share of argmax votes, as published.
        corrected: Share of responses that carry the value.
        method: How that was estimated: `cc` (by the classifier's decisions) or `ppi++` (with gold labels).
        ci_low: Lower end of its 95% interval; of `cc` it speaks of sampling alone.
        ci_high: Upper end.
        band_low: Lower end of the sensitivity band from held-out TPR and FPR.
        band_high: Upper end.
        steps: What each of `STEPS` adds to the published share; NaN where unknown.
        n: Responses behind the corrected share; with `ppi++` the labelled ones.
        n_counted: Responses behind the classifier's own count.
        n_published: Responses behind the published share.
        calibrated: Whether the thresholds of that count were fitted.
        refused: Why there is no band (or, with gold labels, no corrected number), or empty.
    """

    dataset: str
    feature: str
    published: float
    corrected: float
    method: str
    ci_low: float
    ci_high: float
    band_low: float
    band_high: float
    steps: tuple[float, float, float]
    n: int
    n_counted: int
    n_published: int
    calibrated: bool
    refused: str

    @property
    def reason(self) -> str:
        """The step that changes most, and whether held-out errors put the share outside where it is counted."""
        known = [(step, size) for step, size in zip(STEPS, self.steps, strict=True) if not np.isnan(size)]
        if not known:
            return "no published share"
        step, size = max(known, key=lambda part: abs(part[1]))
        step = step if abs(size) > SAME else "no difference"
        # Gold labels leave no error to ask about; a band that is NaN compares as inside.
        if not np.isnan(self.steps[2]):
            return step
        if self.corrected < self.band_low:
            return f"{step}; too low by the band"
        return f"{step}; too high by the band" if self.corrected > self.band_high else step


def compare_prevalence(table: pa.Table, side: str = "chosen") -> list[PrevalenceComparison]:
    """Compare the shares of one checkpoint's `value-distribution` rows over all subsets together.

    Args:
        table: Audit table of one checkpoint.
        side: Slice: `chosen`, `rejected`, `a` or `b`.

    Returns:
        One comparison per data set and score column, in the order of the table.

    Raises:
        ValueError: Rows of several checkpoints.
    """
    if len(set(table["weights"].to_pylist())) > 1:
        raise ValueError("rows of one checkpoint are needed")
    rows = [r for r in table.to_pylist() if r["audit"] == "value-distribution" and not r["subset"]]
    found: dict[Key, Row] = {_key(row): row for row in rows if row["slice"] == side}
    keys = dict.fromkeys((d, f) for d, f, metric, mode, _ in found if (metric, mode) == ("prevalence", "corrected"))
    # Nets of signed values are no shares: nothing was published for them.
    shares = [key for key in keys if (*key, "top1_share", "as_published", "cc") in found]
    reasons = dict(_refusals(rows, side))
    return [_comparison(found, reasons, dataset, feature) for dataset, feature in shares]


def _comparison(
    found: dict[Key, Row], reasons: dict[tuple[str, str, str], str], dataset: str, feature: str
) -> PrevalenceComparison:
    def share(metric: str, mode: str, method: str) -> Row | None:
        return found.get((dataset, feature, metric, mode, method))

    as_published = share("top1_share", "as_published", "cc")
    published = _estimate(as_published)
    votes = _estimate(share("top1_share", "corrected", "cc"))
    counted, gold, band = (share("prevalence", "corrected", method) for method in ("cc", "ppi++", "acc"))
    assert counted is not None
    assert as_published is not None
    best = counted if gold is None or np.isnan(gold["estimate"]) else gold
    errors = float("nan") if best is counted else best["estimate"] - counted["estimate"]
    ends = (np.nan, np.nan) if band is None else (band["ci_low"], band["ci_high"])
    refused = [reasons.get((dataset, feature, method), "") for method in ("ppi++", "acc")]
    return PrevalenceComparison(
        dataset=dataset,
        feature=feature,
        published=published,
        corrected=best["estimate"],
        method=_estimator(best),
        ci_low=best["ci_low"],
        ci_high=best["ci_high"],
        band_low=ends[0],
        band_high=ends[1],
        steps=(votes - published, counted["estimate"] - votes, errors),
        n=best["n"],
        n_counted=counted["n"],
        n_published=as_published["n"],
        calibrated=not str(counted["method"]).endswith(UNCALIBRATED),
        refused="; ".join(reason for reason in refused if reason),
    )


def _refusals(rows: Sequence[Row], side: str) -> Iterator[tuple[tuple[str, str, str], str]]:
    """Data set, score column and method of every refused estimate -> why."""
    for row in rows:
        if row["metric"] == "refused" and row["slice"] == side:
            method, _, reason = row["method"].partition(": ")
            yield (row["dataset"], row["feature"], method.removesuffix(UNCALIBRATED)), reason


def _key(row: Row) -> Key:
    return row["dataset"], row["feature"], row["metric"], row["mode"], _estimator(row)


def _estimator(row: Row) -> str:
    """Method of a row without the mark of thresholds that were not fitted."""
    return str(row["method"]).removesuffix(UNCALIBRATED)


def _estimate(row: Row | None) -> float:
    return float("nan") if row is None else float(row["estimate"])
