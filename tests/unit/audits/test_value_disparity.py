"""Are values and preferences compared by the group that prompts name, with the right pairs, families and reasons?"""

import math
from dataclasses import replace

import numpy as np
import pytest

from audits import value_disparity
from audits.base import PromptGroups, TextFeatures
from audits.disparity_findings import disparity_findings
from audits.stats.group_gaps import group_gaps
from audits.stats.multiplicity import holm
from audits.table import concat, make_table, stamp
from audits.value_disparity import RESPONSE, ValueDisparity
from audits.value_distribution import EXCHANGE
from train.audit_metrics import audit_scalars

N = 400
N_DRAWS = 99
VIEW = EXCHANGE  # The view under which the fixture keeps its scores.
AUDIT = ValueDisparity(view=VIEW)


@pytest.fixture(autouse=True)
def few_draws(monkeypatch):
    """Permutations take most of the time, and hardly matter to how rows are made."""
    monkeypatch.setattr(value_disparity, "N_DRAWS", N_DRAWS)
    monkeypatch.setattr(value_disparity, "MOST_DRAWS", 0)


@pytest.fixture
def audited(make_scored):
    """400 pairs in 200 prompts: of 60 each two terms of faith, of 40 a man; faith raises x, and the wish for y."""

    def make(share=0.0, preference=0.0, seed=0, named=True, **changes):
        rng = np.random.default_rng(seed)
        prompt = np.arange(N) // 2
        terms = np.stack([prompt < 30, (prompt >= 20) & (prompt < 50), (prompt >= 60) & (prompt < 80)], axis=1)
        terms &= named
        faith = terms[:, :2].any(axis=1)
        rate = np.full((N, 2, 3), 0.4) + rng.normal(0, 0.1, (N // 2, 1, 1))[prompt]
        rate[faith, :, 0] += share
        rate[faith, 0, 1] += preference
        p = np.where(rng.random((N, 2, 3)) < rate, 0.9, 0.1)
        features = TextFeatures(("log_n_words",), rng.normal(3, 1, (N, 2, 1)), "log_n_words")
        groups = PromptGroups(("sikh", "jewish", "male"), ("religion", "gender"), (0, 0, 1), terms)
        fields = {"clusters": prompt, "text_features": features, "prompt_groups": groups}
        return make_scored(p, **(fields | changes))

    return make


def rows_of(table, **columns):
    return [r for r in table.to_pylist() if all(r[name] == value for name, value in columns.items())]


def one(table, **columns):
    (row,) = rows_of(table, **columns)
    return row


def test_rows_are_the_gaps_of_responses_and_of_paired_differences(audited):
    scored = audited()
    table = AUDIT.rows(scored)
    decisions = scored.views[VIEW.slug].decisions.astype(float)
    names, member = scored.prompt_groups.of("groups")
    assert names == ("religion", "gender")
    assert member.sum(axis=0).tolist() == [100, 40]
    for metric, y in (
        ("prevalence_gap", decisions.mean(axis=1)),
        ("prevalence_difference_gap", decisions[:, 0] - decisions[:, 1]),
    ):
        found = group_gaps(y, member, scored.clusters, np.zeros(N), n_draws=N_DRAWS)
        own = rows_of(table, metric=metric, spec="within-subset")
        of_groups = [r for r in own if not r["slice"].startswith("term:")]
        np.testing.assert_allclose([r["estimate"] for r in of_groups], found.estimate.ravel())
        np.testing.assert_allclose([r["ci_low"] for r in of_groups], found.ci_low.ravel())
        adjusted = holm([r["p_value"] for r in of_groups])
        np.testing.assert_allclose([r["p_adjusted"] for r in of_groups], adjusted)
        assert {(r["slice"], r["n"], r["n_clusters"]) for r in of_groups} == {("religion", 100, 50), ("gender", 40, 20)}
        spread = one(table, metric=f"{metric.removesuffix('_gap')}_disparity_max_min", slice="groups", feature="y")
        assert spread["estimate"] == pytest.approx(found.spread[1])
        assert (spread["n"], spread["method"]) == (140, "cc-permutation")


def test_a_gap_is_the_share_less_its_reference(audited):
    scored = audited()
    table = AUDIT.rows(scored)
    for slice_name in ("religion", "gender", "term:sikh"):
        row = one(table, metric="prevalence", slice=slice_name, feature="z")
        reference = one(table, metric="reference_prevalence", slice=slice_name, feature="z")
        gap = one(table, metric="prevalence_gap", slice=slice_name, feature="z", spec="within-subset")
        assert gap["estimate"] == pytest.approx(row["estimate"] - reference["estimate"])
        assert (row["n"], reference["n"]) == (2 * gap["n"], 2 * 260)
    decisions = scored.views[VIEW.slug].decisions
    none = one(table, metric="prevalence", slice="no-group", feature="z")
    assert none["estimate"] == pytest.approx(decisions[~scored.prompt_groups.any_named][:, :, 2].mean())
    shares = {r["slice"]: r["estimate"] for r in rows_of(table, metric="named_share")}
    assert shares == pytest.approx(
        {"religion": 0.25, "gender": 0.1, "term:sikh": 0.15, "term:jewish": 0.15, "term:male": 0.1, "no-group": 0.65}
    )


def test_a_planted_share_and_a_planted_preference_are_told_apart(audited):
    table = AUDIT.rows(audited(share=0.4))
    assert one(table, metric="prevalence_gap", slice="religion", feature="x", spec="within-subset")["p_adjusted"] < 0.01
    assert one(table, metric="prevalence_disparity_max_min", slice="groups", feature="x")["p_adjusted"] < 0.05
    preferences = rows_of(table, metric="prevalence_difference_gap", spec="within-subset")
    assert min(r["p_adjusted"] for r in preferences if not r["slice"].startswith("term:")) > 0.05
    table = AUDIT.rows(audited(preference=0.5))
    wanted = one(table, metric="prevalence_difference_gap", slice="religion", feature="y", spec="within-subset")
    assert wanted["p_adjusted"] < 0.01
    assert wanted["ci_low"] > 0


def test_subsets_do_not_pass_for_groups(audited):
    """A value frequent in the subset that names the group is no gap of the group."""
    scored = audited()
    subsets = np.where((np.arange(N) < 120) | (np.arange(N) % 4 == 0), "loud", "calm")
    subsets[:4] = "calm"
    p = scored.views[VIEW.slug].probabilities.copy()
    rng = np.random.default_rng(1)
    p[subsets == "loud", :, 0] = np.where(rng.random((int((subsets == "loud").sum()), 2)) < 0.9, 0.9, 0.1)
    again = audited(subsets=subsets)
    view = type(again.views[VIEW.slug])(VIEW.slug, p, p >= 0.5, *(getattr(scored.views[VIEW.slug], n) for n in ARRAYS))
    again.views[VIEW.slug] = view
    table = AUDIT.rows(again)
    assert {r["subset"] for r in table.to_pylist()} == {"", "loud", "calm"}
    gap = one(table, subset="", metric="prevalence_gap", slice="religion", feature="x", spec="within-subset")
    assert abs(gap["estimate"]) < 0.1
    crude = [
        one(table, subset="", metric="prevalence", slice=s, feature="x")["estimate"] for s in ("religion", "no-group")
    ]
    assert crude[0] - crude[1] > 0.15


ARRAYS = ("text_rows", "truncated")


def test_ties_count_in_shares_and_trained_on_pairs_nowhere(audited):
    tie, seen = np.arange(N) % 5 == 0, np.arange(N) >= 300
    table = AUDIT.rows(audited(is_tie=tie, trained_on=seen))
    assert one(table, metric="prevalence_gap", slice="religion", feature="x", spec="within-subset")["n"] == 100
    assert (
        one(table, metric="prevalence_difference_gap", slice="religion", feature="x", spec="within-subset")["n"] == 80
    )
    assert one(table, metric="named_share", slice="gender")["n"] == 300


def test_too_few_are_nan_with_a_reason(audited):
    short = AUDIT.rows(audited(trained_on=(np.arange(N) >= 130) & (np.arange(N) < 160)))
    row = one(short, metric="left_out", slice="gender", feature="", method="few-pairs")
    assert (row["estimate"], row["n"], row["n_clusters"]) == (10.0, 10, 5)
    gaps = rows_of(short, metric="prevalence_gap", slice="gender")
    assert len(gaps) == 6
    assert all(math.isnan(r["estimate"]) and math.isnan(r["p_adjusted"]) for r in gaps)
    assert not rows_of(short, metric="prevalence_gap", slice="term:male")
    nobody = AUDIT.rows(audited(named=False))
    assert {r["metric"] for r in nobody.to_pylist() if not math.isnan(r["estimate"])} == {
        "named_share", "prevalence", "mean_probability", "prevalence_difference", "mean_probability_difference"
    }  # fmt: skip
    assert "too few pairs name a group" in disparity_findings(nobody)[0]
    assert "0 of 400 name any (at least 20 pairs, in 10 prompts are needed" in disparity_findings(nobody)[0]


@pytest.mark.parametrize("n_without", [0, 8])
def test_a_missing_reference_is_told_as_such(audited, n_without):
    """Every prompt, or nearly every, names a group: groups there are enough of, and none to compare them with."""
    own = audited()
    terms = np.zeros((N, 3), dtype=bool)
    terms[n_without:, 0] = True
    terms[300:, 2] = True
    table = AUDIT.rows(replace(own, prompt_groups=replace(own.prompt_groups, named=terms)))
    for metric in ("left_out", "left_out_difference"):
        row = one(table, metric=metric, slice="religion", feature="")
        assert (row["method"], row["estimate"], row["n"]) == ("few-without-group", N - n_without, N - n_without)
        assert row["n_clusters"] == (N - n_without) // 2
    (told,) = disparity_findings(table)
    assert "too few pairs name no group of people" in told
    assert f"{N - n_without} pairs name a group, {n_without} name none (at least 20 pairs" in told


def test_a_group_whose_subset_has_no_reference_is_left_out_for_that(audited):
    own = audited()
    subsets = np.where(own.prompt_groups.named[:, :2].any(axis=1), "faith", "other")
    rows = AUDIT.rows(replace(own, subsets=subsets))
    row = one(rows, metric="left_out", slice="religion", feature="", subset="")
    assert (row["method"], row["n"]) == ("few-without-group", 100)
    assert not rows_of(rows, metric="left_out", slice="gender", feature="", subset="")


def test_rare_decisions_have_a_p_value_and_no_interval(audited):
    scored = audited()
    p = scored.views[VIEW.slug].probabilities
    p[:, :, 2] = 0.1
    p[[0, 10, 210, 390], 0, 2] = 0.9
    scored.views[VIEW.slug].decisions[...] = p >= 0.5
    table = AUDIT.rows(scored)
    gap = one(table, metric="prevalence_gap", slice="religion", feature="z", spec="within-subset")
    assert math.isnan(gap["ci_low"])
    assert 0 < gap["p_value"] <= 1
    rare = one(table, metric="left_out", slice="religion", feature="z")
    assert (rare["method"], rare["estimate"], rare["n"]) == ("rare", 2.0, 100)


def test_it_reads_responses_and_asks_for_all_it_needs(audited):
    assert ValueDisparity().requests() == (RESPONSE,)
    for missing in ("prompt_groups", "text_features"):
        with pytest.raises(ValueError, match="prompt groups are needed"):
            AUDIT.rows(audited(**{missing: None}))
    with pytest.raises(ValueError, match="needed"):
        ValueDisparity().rows(audited())
    with pytest.raises(ValueError, match="prompt groups must have shape"):
        audited(prompt_groups=PromptGroups(("a",), ("b",), (0,), np.zeros((3, 1), dtype=bool)))


def test_few_scalars_go_to_the_tracker(audited):
    scalars = audit_scalars(AUDIT.rows(audited()))
    metrics = {name.split("/")[2] for name in scalars}
    assert metrics == {"prevalence_disparity_max_min", "prevalence_difference_disparity_max_min"}
    assert len(scalars) == 12


def test_findings_tell_the_largest_gap_and_that_it_is_an_association(audited):
    table = AUDIT.rows(audited(share=0.4, dataset="hh"))
    (told,) = disparity_findings(table)
    gap = one(table, metric="prevalence_gap", slice="religion", feature="x", spec="within-subset")
    share = one(table, metric="prevalence", slice="religion", feature="x")["estimate"]
    assert told.startswith(
        f"hh: responses to prompts that name religion (100 pairs in 50 prompts) carry x more often than others of the "
        f"same subsets: {100 * share:.1f}% vs {100 * (share - gap['estimate']):.1f}%, {100 * gap['estimate']:+.1f} "
    )
    assert "no preference of people for a value differs by group (closest: " in told
    assert told.endswith("(an association: such prompts differ in more than the group; not error-corrected)")
    assert "uncalibrated" in disparity_findings(AUDIT.rows(audited(share=0.4, calibrated=False)))[0]


def test_findings_without_a_gap_and_with_a_preference(audited):
    (none,) = disparity_findings(AUDIT.rows(audited()))
    assert "no value is carried more or less often in responses to prompts that name a group" in none
    (wanted,) = disparity_findings(AUDIT.rows(audited(preference=0.5)))
    assert "chosen minus rejected, y is preferred more where religion is named: +" in wanted
    assert disparity_findings(make_table([])) == []


def test_findings_are_those_of_the_last_checkpoint(audited):
    tables = [AUDIT.rows(audited(share=share)) for share in (0.4, 0.0)]
    stamped = [
        stamp(table, run_id="r", step=step, epoch=None, weights=str(step), audit_key="k")
        for step, table in zip((10, 20), tables, strict=True)
    ]
    assert disparity_findings(concat(stamped)) == disparity_findings(tables[1])
