"""Does the value distribution count what it says, of whom it says?"""

import math

import numpy as np
import pytest

from audits.base import TextFeatures, ViewRequest
from audits.stats.clustered import clustered_mean, clustered_rate
from audits.stats.discordance import no_contrast_p_value
from audits.value_contrast import ValueContrast
from audits.value_distribution import EXCHANGE, PUBLISHED, ValueDistribution

AUDIT = ValueDistribution()


def find(table, **columns):
    """The one row of the table with these columns."""
    rows = [r for r in table.to_pylist() if all(r[name] == value for name, value in columns.items())]
    assert len(rows) == 1, f"{len(rows)} rows for {columns}"
    return rows[0]


def metrics_of(table, **columns):
    return {r["metric"] for r in table.to_pylist() if all(r[name] == value for name, value in columns.items())}


# Six pairs of two values; the last is a tie, pairs 0 and 1 share a prompt.
P = np.array(
    [
        [[0.9, 0.1], [0.2, 0.8]],
        [[0.8, 0.6], [0.7, 0.1]],
        [[0.4, 0.6], [0.6, 0.3]],
        [[0.7, 0.2], [0.1, 0.4]],
        [[0.3, 0.4], [0.2, 0.3]],
        [[0.9, 0.9], [0.1, 0.6]],
    ]
)
CLUSTERS = [0, 0, 1, 2, 3, 4]
TIES = [False] * 5 + [True]


@pytest.fixture
def scored(make_scored):
    return make_scored(P, clusters=CLUSTERS, is_tie=TIES)


def test_prevalence_counts_decisions_per_side(scored):
    table = AUDIT.rows(scored)
    chosen = find(table, metric="prevalence", slice="chosen", feature="x")
    assert (chosen["estimate"], chosen["n"], chosen["n_clusters"]) == (3 / 5, 5, 4)
    expected = clustered_rate(P[:5, 0, :1] >= 0.5, CLUSTERS[:5])
    assert chosen["std_error"] == pytest.approx(expected.std_error[0])
    assert (chosen["ci_low"], chosen["ci_high"]) == (expected.ci_low[0], expected.ci_high[0])
    assert math.isnan(chosen["p_value"])
    assert find(table, metric="prevalence", slice="rejected", feature="y")["estimate"] == 1 / 5
    assert find(table, metric="prevalence", slice="b", feature="y")["estimate"] == 1.0
    assert find(table, metric="top1_share", slice="chosen", feature="x", mode="corrected")["estimate"] == 3 / 5
    assert find(table, metric="mean_probability", slice="rejected", feature="x")["estimate"] == pytest.approx(1.8 / 5)


def test_names_and_columns(scored):
    table = AUDIT.rows(scored)
    for row in table.to_pylist():
        assert (row["audit"], row["dataset"], row["taxonomy"]) == ("value-distribution", "toy", "toy-values")
        assert (row["scorer"], row["subset"], row["step"]) == ("", "", None)
    corrected = {"mode": "corrected", "spec": "pooled-clustered"}
    assert metrics_of(table, slice="a", **corrected) == {"prevalence", "top1_share", "mean_probability"}
    assert metrics_of(table, slice="chosen-rejected", spec="within") == {
        "prevalence_difference",
        "top1_share_difference",
        "mean_probability_difference",
    }
    assert {r["method"] for r in table.to_pylist()} == {"cc", "mean", "count"}


def test_differences_are_paired_and_clustered_and_leave_ties_out(scored):
    row = find(AUDIT.rows(scored), metric="mean_probability_difference", feature="x")
    expected = clustered_mean(P[:5, 0, :1] - P[:5, 1, :1], CLUSTERS[:5])
    assert row["estimate"] == pytest.approx(expected.estimate[0])
    assert (row["std_error"], row["p_value"]) == (pytest.approx(expected.std_error[0]), expected.p_value[0])
    assert (row["n"], row["n_clusters"], row["method"]) == (5, 4, "mean")
    assert find(AUDIT.rows(scored), metric="prevalence_difference", feature="x")["estimate"] == pytest.approx(1 / 5)


def test_holm_family_is_the_values_of_one_metric(scored):
    table = AUDIT.rows(scored)
    rows = [find(table, metric="mean_probability_difference", feature=f) for f in "xy"]
    small, large = sorted(r["p_value"] for r in rows)
    adjusted = sorted(r["p_adjusted"] for r in rows)
    assert adjusted == pytest.approx([min(1, 2 * small), min(1, max(2 * small, large))])


def test_as_published_is_two_raw_argmax_shares_of_the_published_view(make_scored):
    published = P[:, ::-1]  # sides swapped, so that the view shows
    table = AUDIT.rows(make_scored(P, published, is_tie=TIES))
    columns = {"mode": "as_published", "spec": "pooled", "method": "cc", "feature": "x"}
    chosen = find(table, metric="top1_share", slice="chosen", **columns)
    difference = find(table, metric="top1_share_difference", slice="chosen-rejected", **columns)
    assert chosen["estimate"] == 2 / 5  # argmax x on the rejected sides
    assert difference["estimate"] == pytest.approx(2 / 5 - 3 / 5)
    assert difference["n"] == 5
    for name in ("std_error", "ci_low", "ci_high", "p_value", "p_adjusted"):
        assert math.isnan(difference[name])
    assert find(table, metric="top1_share", slice="b", **columns)["n"] == 1


def test_counted_shares_have_their_denominators(make_scored):
    rows = np.arange(12).reshape(6, 2)
    rows[[0, 3, 5], 1] = rows[[0, 3, 5], 0]  # two preferred pairs and the tie are the same text twice
    cut = np.zeros((6, 2), dtype=bool)
    cut[0] = True
    cut[5, 1] = True
    scored = make_scored(P, is_tie=TIES, text_rows={PUBLISHED.slug: rows}, truncated={PUBLISHED.slug: cut})
    table = AUDIT.rows(scored)
    published = find(table, metric="indistinguishable_share", mode="as_published")
    assert (published["estimate"], published["n"], published["slice"]) == (2 / 5, 5, "chosen-rejected")
    assert find(table, metric="indistinguishable_share", mode="corrected")["estimate"] == 0
    assert find(table, metric="truncated_share", mode="as_published", slice="rejected")["estimate"] == 1 / 5
    assert find(table, metric="truncated_share", mode="as_published", slice="b")["estimate"] == 1.0
    tie = find(table, metric="tie_share")
    assert (tie["estimate"], tie["n"], tie["feature"]) == (pytest.approx(1 / 6), 6, "")


def test_each_subset_and_all_of_them(make_scored):
    table = AUDIT.rows(make_scored(P, subsets=["s", "s", "t", "t", "t", "t"], is_tie=TIES))
    rows = {s: find(table, metric="prevalence", slice="chosen", feature="x", subset=s) for s in ("", "s", "t")}
    assert {s: (r["estimate"], r["n"]) for s, r in rows.items()} == {"": (3 / 5, 5), "s": (1.0, 2), "t": (1 / 3, 3)}


def test_signed_values_have_net_rows_in_a_family_of_their_own(make_scored):
    rng = np.random.default_rng(0)
    p = rng.random((40, 2, 4))
    scored = make_scored(p, signed=True)
    table = AUDIT.rows(scored)
    d = (p >= 0.5).astype(float)
    net = find(table, metric="prevalence", slice="chosen", feature="y-net")
    assert net["estimate"] == pytest.approx((d[:, 0, 2] - d[:, 0, 3]).mean())
    change = d[:, 0, 0::2] - d[:, 0, 1::2] - d[:, 1, 0::2] + d[:, 1, 1::2]
    expected, p_values = clustered_mean(change, np.arange(40)), no_contrast_p_value(change, np.arange(40))
    for k, slug in enumerate(("x-net", "y-net")):
        row = find(table, metric="prevalence_difference", feature=slug)
        assert (row["estimate"], row["p_value"]) == (pytest.approx(expected.estimate[k]), p_values[k])
    small = min(p_values)
    adjusted = [find(table, metric="prevalence_difference", feature=f)["p_adjusted"] for f in ("x-net", "y-net")]
    assert min(adjusted) == pytest.approx(min(1, 2 * small))  # a family of two, not of six
    assert "top1_share" not in metrics_of(table, feature="x-net")


def test_uncalibrated_decisions_are_marked(make_scored):
    table = AUDIT.rows(make_scored(P, calibrated=False))
    methods = {(r["metric"], r["method"]) for r in table.to_pylist() if r["mode"] == "corrected" and r["feature"]}
    assert ("prevalence", "cc-uncalibrated") in methods
    assert ("prevalence_difference", "cc-uncalibrated") in methods
    assert ("mean_probability", "mean-uncalibrated") in methods
    assert ("top1_share", "cc") in methods
    assert ("prevalence", "cc") not in methods


def test_a_value_that_never_differs_stays_in_the_family(make_scored):
    p = P.copy()
    p[:, :, 1] = 0.1
    table = AUDIT.rows(make_scored(p))
    same = find(table, metric="prevalence_difference", feature="y")
    assert same["estimate"] == 0
    assert math.isnan(same["std_error"])
    assert same["p_value"] == 1
    other = find(table, metric="prevalence_difference", feature="x")
    n_values = sum(r["metric"] == "prevalence_difference" for r in table.to_pylist())
    assert other["p_adjusted"] == min(1, n_values * other["p_value"])


def test_pairs_that_all_differ_alike_are_tested_exactly_and_have_no_interval(make_scored):
    p = np.tile([[0.9, 0.1], [0.1, 0.1]], (8, 1, 1))
    row = find(AUDIT.rows(make_scored(p)), metric="prevalence_difference", feature="x")
    assert row["estimate"] == 1
    assert math.isnan(row["ci_low"])
    assert row["p_value"] == 2 / 2 ** row["n_clusters"]


def test_intervals_stay_inside_what_is_possible(make_scored):
    rng = np.random.default_rng(0)
    p = np.where(rng.random((12, 2, 2)) < 0.9, [[0.99, 0.5], [0.01, 0.5]], 0.5)
    rows = [r for r in AUDIT.rows(make_scored(p)).to_pylist() if math.isfinite(r["ci_low"])]
    assert any(r["ci_high"] == 1 for r in rows)
    for row in rows:
        low = -1 if row["metric"].endswith("difference") else 0
        assert low <= row["ci_low"] <= row["estimate"] <= row["ci_high"] <= 1


def test_only_ties_make_no_difference_rows(make_scored):
    table = AUDIT.rows(make_scored(P, is_tie=[True] * 6))
    assert {r["slice"] for r in table.to_pylist() if r["feature"]} == {"a", "b"}
    empty = find(table, metric="indistinguishable_share", mode="corrected")
    assert empty["n"] == 0
    assert math.isnan(empty["estimate"])


def test_one_view_for_both_modes_is_asked_for_once(make_scored):
    audit = ValueDistribution(view=PUBLISHED)
    assert audit.requests() == (PUBLISHED,)
    assert len(audit.rows(make_scored(P))) == len(AUDIT.rows(make_scored(P)))


def test_a_view_that_was_not_scored_is_named(scored):
    audit = ValueDistribution(view=ViewRequest("response", "tail", 64))
    with pytest.raises(ValueError, match=f"response-tail-64 was not scored, only {EXCHANGE.slug}"):
        audit.rows(scored)


def test_pairs_with_and_without_a_subset_in_one_data_set(make_scored):
    rng = np.random.default_rng(0)
    scored = make_scored(rng.random((30, 2, 2)), subsets=np.array(["x"] * 10 + [""] * 20))
    rows = ValueDistribution().rows(scored).to_pylist()
    n = {r["subset"]: r["n"] for r in rows if r["metric"] == "prevalence" and r["slice"] == "chosen"}
    assert n == {"": 30, "x": 10}


def test_a_difference_has_the_p_value_that_the_contrast_has(make_scored):
    """Four discordant pairs of four: 1 in 8 by chance, whatever the number of pairs beside them."""
    p = np.full((300, 2, 2), 0.1)
    p[:4, 0, 0] = 0.9
    p[::2, 0, 1], p[:200, 1, 1] = 0.9, 0.9
    scored = make_scored(p, text_features=TextFeatures(("words",), np.ones((300, 2, 1)), "words"))
    contrasts, table = ValueContrast().rows(scored), AUDIT.rows(scored)
    for feature in "xy":
        row = find(table, metric="prevalence_difference", feature=feature)
        strength = find(contrasts, metric="strength", feature=feature)
        assert [row[name] for name in ("estimate", "p_value", "p_adjusted")] == [
            pytest.approx(strength[name]) for name in ("estimate", "p_value", "p_adjusted")
        ]
    assert find(table, metric="prevalence_difference", feature="x")["p_value"] == pytest.approx(1 / 8)
