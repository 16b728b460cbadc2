"""Did a value move, or is its change within noise? The last look judged, value by value."""

import math
from typing import Any

from audits.drift_description import slices
from audits.findings import SIGNIFICANT
from audits.item_table import HEADLINE_SPEC
from train.drift import Drift

MOVED, NUMERICAL, SAME = "moved", "within noise", "not told apart from 0"
# What could not be tested is not the same as what was tested and not told apart.
UNTESTED = "not tested"
CONTRAST = "chosen-rejected"
CHANGES = {part.name: f"prevalence{part.mark}_change" for part in slices(tie=False)}

Row = dict[str, Any]


def drift_summary(drift: Drift) -> list[Row]:
    """Judge the last look: one row per slice and value, then per slope of a reward; what moved most stands first.

    A value without a p-value was not tested. It `moved` when p_adjusted < 0.05 and the whole simultaneous interval lies
    beyond what the arithmetic alone flips (twice that for chosen minus rejected, which two sides move).
    """
    found = drift.table.to_pylist()
    rows = [row for part in CHANGES for row in _ordered(_of_values(drift, found, part))]
    return rows + _ordered(_of_slopes(drift, found))


def _ordered(rows: list[Row]) -> list[Row]:
    order = (MOVED, NUMERICAL, SAME, UNTESTED)
    return sorted(rows, key=lambda row: (order.index(row["verdict"]), -abs(_or_zero(row["change"]))))


def _or_zero(value: float) -> float:
    return value if math.isfinite(value) else 0.0


def _of_values(drift: Drift, found: list[Row], part: str) -> list[Row]:
    changes = _by_feature(found, CHANGES[part], part)
    beside = {name: _by_feature(found, name, part) for name in ("churn", "kappa", "psi")}
    rows = []
    for feature, trajectory in changes.items():
        last = trajectory[-1]
        if last["step"] != drift.last.step:
            continue
        floor = _floor(drift, feature) * (2 if part == CONTRAST else 1)
        seeds = drift.seeds.ranges.get((part, feature), math.nan) if drift.seeds is not None else math.nan
        row = _judged(drift, trajectory, floor) | {
            "slice": part,
            "measure": "prevalence",
            "before": drift.before.get((part, feature), math.nan),
            "after": drift.after.get((part, feature), math.nan),
            "seed_range": seeds,
            "beyond_seeds": None if math.isnan(seeds) else abs(last["estimate"]) > seeds,
        }
        rows.append(row | {name: _last(own.get(feature)) for name, own in beside.items()})
    return rows


def _of_slopes(drift: Drift, found: list[Row]) -> list[Row]:
    """Slopes within pairs; the arithmetic's noise in a slope is not known, so that it cannot hide in it."""
    rows = []
    slopes = [
        row for row in found if row["metric"] == "beta_change" and row["spec"].startswith(f"{HEADLINE_SPEC}-from-")
    ]
    for scorer, part in dict.fromkeys((row["scorer"], row["slice"]) for row in slopes):
        own = [row for row in slopes if (row["scorer"], row["slice"]) == (scorer, part)]
        for feature, trajectory in _by_feature(own, "beta_change", part).items():
            before = drift.slopes.get((scorer, part, HEADLINE_SPEC, feature), math.nan)
            row = _judged(drift, trajectory, 0.0) | {"slice": part, "scorer": scorer, "measure": "slope"}
            rows.append(row | {"before": before, "after": before + row["change"]})
    return rows


def _judged(drift: Drift, trajectory: list[Row], floor: float) -> Row:
    """Judge the last of the looks at one value, and find the first at which it had moved."""
    last = trajectory[-1]
    moved = [row["step"] for row in trajectory if _verdict(row, floor) == MOVED]
    return {
        "dataset": drift.series.dataset,
        "view": drift.series.view,
        "compared_with": drift.compared_with,
        "run_id": last["run_id"],
        "step": last["step"],
        "scorer": "",
        "value": last["feature"],
        "change": last["estimate"],
        **{name: last[name] for name in ("ci_low", "ci_high", "p_adjusted", "n", "n_clusters", "method")},
        "first_moved": moved[0] if moved else None,
        "numerical_churn": floor if drift.numerical else math.nan,
        "verdict": _verdict(last, floor),
    }


def _verdict(row: Row, floor: float) -> str:
    if math.isnan(row["p_adjusted"]):
        return UNTESTED
    if not row["p_adjusted"] < SIGNIFICANT:
        return SAME
    nearest = min(abs(row["ci_low"]), abs(row["ci_high"])) if row["ci_low"] * row["ci_high"] > 0 else 0.0
    # All pairs changed alike: there is no interval, and nothing that could vary.
    nearest = abs(row["estimate"]) if math.isnan(row["ci_low"]) else nearest
    return MOVED if nearest > floor else NUMERICAL


def _floor(drift: Drift, feature: str) -> float:
    """What the arithmetic alone flips; a net of signed values moves with both its labels."""
    if feature in drift.numerical or not feature.endswith("-net"):
        return drift.numerical.get(feature, 0.0)
    slug = feature.removesuffix("-net")
    return drift.numerical.get(f"{slug}-for", 0.0) + drift.numerical.get(f"{slug}-against", 0.0)


def _by_feature(found: list[Row], metric: str, part: str) -> dict[str, list[Row]]:
    """Rows on all subsets together of one metric and slice, by feature and in the order of the looks."""
    own = [row for row in found if (row["metric"], row["slice"], row["subset"]) == (metric, part, "")]
    own.sort(key=lambda row: row["step"] or 0)
    return {
        feature: [r for r in own if r["feature"] == feature] for feature in dict.fromkeys(r["feature"] for r in own)
    }


def _last(rows: list[Row] | None) -> float:
    return float(rows[-1]["estimate"]) if rows else math.nan
