"""Steps from the published share of a value to the corrected one."""

import math
from typing import Any

import pytest

from audits.prevalence_comparison import compare_prevalence
from audits.table import concat, make_table, stamp

SAME = {"audit": "value-distribution", "dataset": "d", "slice": "chosen", "n": 100, "n_clusters": 50}
PREVALENCE = SAME | {"metric": "prevalence", "mode": "corrected", "spec": "pooled-clustered"}


def rows(feature: str, published: float, votes: float, counted: float) -> list[dict[str, Any]]:
    top = SAME | {"metric": "top1_share", "method": "cc", "feature": feature}
    return [
        top | {"mode": "as_published", "spec": "pooled", "estimate": published},
        top | {"mode": "corrected", "spec": "pooled-clustered", "estimate": votes},
        PREVALENCE | {"method": "cc", "feature": feature, "estimate": counted, "ci_low": 0.1, "ci_high": 0.9},
    ]


def band(feature: str, low: float, high: float) -> dict[str, Any]:
    return PREVALENCE | {"method": "acc", "feature": feature, "estimate": 0.3, "ci_low": low, "ci_high": high}


def test_steps_add_up_to_the_corrected_share_and_the_largest_is_the_reason() -> None:
    (one,) = compare_prevalence(make_table([*rows("care", 0.50, 0.45, 0.65), band("care", 0.6, 0.7)]))
    assert one.published + sum(one.steps[:2]) == pytest.approx(one.corrected)
    assert (one.method, one.corrected, one.n, one.n_published) == ("cc", 0.65, 100, 100)
    assert math.isnan(one.steps[2])
    assert one.reason == "several values"


@pytest.mark.parametrize(("low", "high", "side"), [(0.1, 0.2, "high"), (0.7, 0.8, "low")])
def test_a_share_outside_its_band_is_told(low: float, high: float, side: str) -> None:
    (one,) = compare_prevalence(make_table([*rows("care", 0.2, 0.5, 0.52), band("care", low, high)]))
    assert one.reason == f"view; too {side} by the band"


def test_no_step_is_the_reason_of_no_difference() -> None:
    (one,) = compare_prevalence(make_table(rows("care", 0.3, 0.3, 0.1 + 0.2)))
    assert one.reason == "no difference"
    assert one.calibrated


def test_gold_labels_make_the_errors_a_step_of_their_own() -> None:
    gold = PREVALENCE | {"method": "ppi++", "feature": "care", "estimate": 0.3, "ci_low": 0.2, "ci_high": 0.4, "n": 20}
    (one,) = compare_prevalence(make_table([*rows("care", 0.5, 0.45, 0.65), gold]))
    assert (one.method, one.corrected, one.ci_low, one.n, one.n_counted) == ("ppi++", 0.3, 0.2, 20, 100)
    assert one.steps[2] == pytest.approx(-0.35)
    assert one.published + sum(one.steps) == pytest.approx(one.corrected)
    assert one.reason == "classifier errors"


def test_refused_gold_and_band_leave_the_count_and_say_why() -> None:
    gold = PREVALENCE | {"method": "ppi++", "feature": "care"}
    refused = SAME | {"metric": "refused", "mode": "corrected", "feature": "care"}
    table = make_table(
        [
            *rows("care", 0.5, 0.5, 0.6),
            gold,
            refused | {"method": "ppi++: 3 gold clusters"},
            refused | {"method": "acc-uncalibrated: no known negatives"},
        ]
    )
    (one,) = compare_prevalence(table)
    assert (one.method, one.corrected) == ("cc", 0.6)
    assert (one.reason, one.refused) == ("several values", "3 gold clusters; no known negatives")


def test_other_sides_subsets_and_nets_are_left_out() -> None:
    there = rows("care", 0.5, 0.5, 0.6)
    other = [row | {"slice": "rejected", "estimate": 0.9} for row in there]
    subset = [row | {"subset": "s", "estimate": 0.1} for row in there]
    net = PREVALENCE | {"method": "cc", "feature": "care-net", "estimate": 0.2}
    found = compare_prevalence(make_table([*there, *other, *subset, net]))
    assert [(one.feature, one.corrected) for one in found] == [("care", 0.6)]


def test_several_checkpoints_are_refused() -> None:
    table = make_table(rows("care", 0.5, 0.5, 0.6))
    stamped = [stamp(table, run_id="r", step=k, epoch=1.0, weights=str(k), audit_key="k") for k in (1, 2)]
    with pytest.raises(ValueError, match="one checkpoint"):
        compare_prevalence(concat(stamped))
