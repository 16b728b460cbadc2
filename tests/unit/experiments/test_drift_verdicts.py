"""A value moved when it is apart from 0 and further than the arithmetic moves it; sentences say which."""

import math
from dataclasses import replace
from pathlib import Path

import pytest

from audits.table import make_table
from experiments.drift_report import drift_notes, format_drift, moved_lines
from experiments.drift_verdicts import MOVED, NUMERICAL, SAME, UNTESTED, drift_summary
from train.drift import Drift
from train.drift_series import Series
from train.run_directory import RunDirectory
from train.siblings import SeedRange
from train.stored_audits import StoredAudit

NAN = float("nan")


def audit(step):
    meta = {"datasets": [{"name": "toy"}], "labels": ["a", "b", "c"], "taxonomy": {"name": "t"}}
    return StoredAudit(RunDirectory(Path("run-1")), Path("x"), f"w{step}", "key", step, 1.0, "float32", meta)


def change(feature, step, estimate, low, high, p, part="chosen"):
    metric = "prevalence_difference_change" if part == "chosen-rejected" else "prevalence_change"
    row = {"audit": "drift", "dataset": "toy", "slice": part, "feature": feature, "metric": metric, "step": step}
    row |= {"run_id": "run-1", "estimate": estimate, "ci_low": low, "ci_high": high, "p_adjusted": p}
    return row | {"spec": "from-step-1", "method": "max-t", "mode": "corrected", "n": 100, "n_clusters": 90}


def churn(feature, step, estimate):
    return change(feature, step, estimate, NAN, NAN, NAN) | {"metric": "churn", "method": "cc"}


def drift_of(rows, steps=(2, 3), numerical=None, seeds=None, planned=None):
    series = Series("toy", "exchange-head-256", audit(1), tuple(map(audit, steps)), ("a note",))
    levels = {("chosen", "a"): 0.25}
    return Drift(
        series, make_table(rows), levels, {("chosen", "a"): 0.5}, {}, 120, 20, numerical or {}, seeds, planned, ("one",)
    )


@pytest.mark.parametrize(
    ("low", "high", "p", "floor", "verdict"),
    [
        (0.05, 0.15, 0.01, 0.02, MOVED),
        (-0.15, -0.05, 0.01, 0.02, MOVED),
        (0.05, 0.15, 0.05, 0.0, SAME),
        (0.05, 0.15, 0.01, 0.05, NUMERICAL),
        (-0.15, -0.05, 0.01, 0.06, NUMERICAL),
        (-0.01, 0.2, 0.01, 0.0, NUMERICAL),
        (NAN, NAN, 0.01, 0.02, MOVED),
        (NAN, NAN, 0.01, 0.2, NUMERICAL),
        (NAN, NAN, NAN, 0.0, UNTESTED),
        (NAN, NAN, 1.0, 0.0, SAME),
    ],
)
def test_verdicts(low, high, p, floor, verdict):
    estimate = 0.1 if math.isnan(low) else (low + high) / 2
    (row,) = drift_summary(drift_of([change("a", 3, estimate, low, high, p)], numerical={"a": floor}))
    assert row["verdict"] == verdict
    assert row["first_moved"] == (3 if verdict == MOVED else None)


def test_a_contrast_is_moved_by_the_noise_of_both_sides():
    found = {
        part: drift_summary(drift_of([change("a", 3, 0.1, 0.05, 0.15, 0.01, part)], numerical={"a": 0.03}))[0]
        for part in ("chosen", "rejected", "chosen-rejected")
    }
    assert [row["verdict"] for row in found.values()] == [MOVED, MOVED, NUMERICAL]
    assert found["chosen-rejected"]["numerical_churn"] == 0.06


def test_a_net_is_moved_by_the_noise_of_both_labels():
    rows = [change(name, 3, 0.1, 0.05, 0.15, 0.01) for name in ("a-for", "a-net")]
    found = {row["value"]: row for row in drift_summary(drift_of(rows, numerical={"a-for": 0.03, "a-against": 0.04}))}
    assert found["a-net"]["numerical_churn"] == pytest.approx(0.07)
    assert [found[name]["verdict"] for name in ("a-for", "a-net")] == [MOVED, NUMERICAL]


def test_what_moved_first_is_found_and_the_most_moved_stands_first():
    rows = [change("a", 2, 0.1, 0.05, 0.15, 0.01), change("a", 3, 0.11, 0.05, 0.15, 0.01), churn("a", 3, 0.3)]
    rows += [change("b", 2, 0.3, -0.1, 0.7, 0.9), change("b", 3, -0.2, -0.3, -0.1, 0.001)]
    rows += [change("c", 2, 0.1, 0.05, 0.15, 0.01), change("c", 3, 0.9, -0.1, 1.0, 0.5)]
    rows += [change("a", 3, 0.9, 0.8, 1.0, 0.001) | {"subset": "other"}]
    found = drift_summary(drift_of(rows))
    assert [(row["value"], row["first_moved"], row["verdict"]) for row in found] == [
        ("b", 3, MOVED),
        ("a", 2, MOVED),
        ("c", 2, SAME),
    ]
    assert (found[1]["before"], found[1]["after"], found[1]["churn"]) == (0.25, 0.5, 0.3)
    assert math.isnan(found[0]["before"])
    assert math.isnan(found[0]["numerical_churn"]), "not measured is not 0"


def test_seeds_stand_beside_the_verdict():
    rows = [change(name, 3, -0.1, -0.15, -0.05, 0.01) for name in ("a", "b")]
    seeds = SeedRange(("run-1", "run-2"), {("chosen", "a"): 0.2, ("chosen", "b"): 0.05})
    drift = drift_of(rows, seeds=seeds)
    assert {row["value"]: row["beyond_seeds"] for row in drift_summary(drift)} == {"a": False, "b": True}
    text = format_drift([drift], "text")
    assert "seeds: 2 runs" in text
    assert "within" in text
    without = format_drift([drift_of(rows)], "text")
    assert "seed noise unknown: no sibling run" in without
    assert drift_summary(drift_of(rows))[0]["beyond_seeds"] is None


def test_notes_tell_denominators_family_and_what_was_not_measured():
    rows = [change("a", step, 0.1, 0.05, 0.15, 0.01) for step in (2, 3)]
    told = "\n".join(drift_notes(drift_of(rows, planned=7)))
    assert "100 pairs with a preferred side in 90 prompts of 120 pairs, 20 left out" in told
    assert "2 tests (values, slices and 2 looks); Bonferroni over 7 planned looks" in told
    assert "numerical noise not measured" in told
    assert told.endswith("toy: one")
    told = "\n".join(drift_notes(drift_of(rows, numerical={"a": 0.0012})))
    assert "max-T over all 2 tests" in told
    assert "flips at most 0.12% of decisions (a)" in told


def slope(feature, step, estimate, p):
    row = change(feature, step, estimate, NAN, NAN, p) | {"metric": "beta_change", "slice": "", "scorer": "rm"}
    return row | {"spec": "within-from-step-1"}


def test_a_slope_that_is_there_at_one_look_only_is_not_tested_and_those_at_none_are_named():
    drift = replace(
        drift_of([slope("a", 3, 0.1, 0.5), slope("b", 3, NAN, NAN), slope("c", 3, NAN, NAN)]),
        slopes={("rm", "", "within", "a"): 1.0, ("rm", "", "within", "b"): 2.0},
    )
    assert [(row["value"], row["verdict"]) for row in drift_summary(drift)] == [
        ("a", SAME),
        ("b", UNTESTED),
        ("c", UNTESTED),
    ]
    text = format_drift([drift], "text")
    lines = {line.split()[0]: line for line in text.splitlines() if line.startswith((" a ", " b ", " c "))}
    assert lines["a"].endswith("not apart")
    assert lines["b"].endswith("not tested")
    assert "c" not in lines
    assert "no slope at the first look: c" in text


def test_nets_of_signed_values_are_not_counted_as_values():
    rows = [change(name, 3, 0.1, 0.05, 0.15, 0.01) for name in ("care-for", "care-net")]
    assert "2 of 2 labels and nets moved in chosen responses" in moved_lines([drift_of(rows)])[0]


def test_sentences_name_what_moved_or_what_came_closest():
    moved = drift_of([change("a", 3, 0.1, 0.05, 0.15, 0.01), change("b", 3, 0.1, -0.05, 0.15, 0.6)])
    assert moved_lines([moved]) == [
        "toy, step 1 to step 3: 1 of 2 values moved in chosen responses, most a +10.0 (+5.0 to +15.0) points "
        "(adjusted p 0.010, 100 pairs)"
    ]
    (line,) = moved_lines([drift_of([change("b", 3, 0.1, -0.05, 0.15, 0.6)])])
    assert "none of 1 values moved beyond noise in chosen responses, closest b +10.0" in line
    (line,) = moved_lines([drift_of([change("b", 3, 0.0, NAN, NAN, NAN)])])
    assert line.endswith("no change of 1 values in chosen responses could be tested")
    both = [change("a", 3, 0.1, 0.05, 0.15, 0.01), change("a", 3, 0.1, 0.05, 0.15, 0.01, "chosen-rejected")]
    assert "chosen minus rejected" in moved_lines([drift_of(both)])[1]
    lines = moved_lines([drift_of(both)] * 5)
    assert len(lines) == 6
    assert lines[-1] == "(5 more: imprint drift)"
