"""Are the slopes those of the rewards and values at hand, and is every feature without one named?"""

import math

import numpy as np
import pytest
import statsmodels.api as sm

from audits.base import Reward, TextFeatures
from audits.reward_imprint import RewardImprint, fit_identified, item_table, reward_sets
from audits.stats.multiplicity import bonferroni, holm
from audits.value_distribution import EXCHANGE

AUDIT = RewardImprint()
EXACT = 1e-9
N = 60
TEXTS = ("length", "hedges")
SPECS = ("pooled", "pooled-clustered", "within", "within-item")


@pytest.fixture
def imprinted(make_scored):
    """60 pairs in 30 prompts with two values, two text features and a reward; arrays can be changed in place."""

    def make(rewards=None, texts=None, n=N, n_labels=2, decisions=None, names=TEXTS, **changes):
        rng = np.random.default_rng(3)
        p = rng.random((n, 2, n_labels))
        if decisions is not None:
            p = np.where(decisions, 0.9, 0.1)
        own = rng.normal(size=(n, 2, len(names)))
        if rewards is None:
            y = (p >= 0.5) @ np.linspace(1, 2, p.shape[2]) + own[:, :, 0] + rng.normal(size=(n, 2))
            rewards = (Reward("rm", "none", y),)
        features = TextFeatures(names, own if texts is None else texts, names[0])
        fields = {"clusters": np.arange(n) // 2, "rewards": rewards, "text_features": features}
        return make_scored(p, **(fields | changes))

    return make


def pick(table, **columns):
    rows = table.to_pylist() if hasattr(table, "to_pylist") else table
    return [row for row in rows if all(row[name] == value for name, value in columns.items())]


def slopes(table, metric="beta", **columns):
    return {row["feature"]: row for row in pick(table, metric=metric, **columns)}


def differences(scored, names):
    """Chosen minus rejected of decisions and text features in that order, and of the first reward."""
    features = np.concatenate([scored.views[EXCHANGE.slug].decisions, scored.text_features.values], axis=2)
    all_names = (*scored.labels, *scored.text_features.names)
    columns = [all_names.index(name) for name in names]
    reward = scored.rewards[0].values
    return features[:, 0, columns] - features[:, 1, columns], reward[:, 0] - reward[:, 1]


@pytest.mark.parametrize(("spec", "names"), [("within", ("x", "y", "hedges")), ("within-length", ("x", "y", *TEXTS))])
def test_within_is_the_regression_of_differences(imprinted, spec, names):
    scored = imprinted()
    dx, dy = differences(scored, names)
    by = {"cov_type": "cluster", "cov_kwds": {"groups": scored.clusters}, "use_t": True}
    reference = sm.OLS(dy, dx).fit(**by)
    found = slopes(AUDIT.rows(scored), spec=spec)
    assert tuple(found) == names
    np.testing.assert_allclose([found[name]["estimate"] for name in names], reference.params, rtol=EXACT)
    # Small-sample factors count rows: 120 items here, 60 differences there.
    factor = np.sqrt((2 * N - 1) / (2 * N - len(names)) * (N - len(names)) / (N - 1))
    np.testing.assert_allclose([found[n]["std_error"] for n in names], factor * reference.bse, rtol=EXACT)
    np.testing.assert_allclose([found[n]["p_adjusted"] for n in names], holm([found[n]["p_value"] for n in names]))
    assert {(row["n"], row["n_clusters"], row["mode"]) for row in found.values()} == {(2 * N, N // 2, "corrected")}


def test_pooled_is_one_regression_of_stacked_texts_as_published(imprinted):
    scored = imprinted()
    values = scored.views[EXCHANGE.slug].decisions.reshape(2 * N, 2)
    x = np.column_stack([values, scored.text_features.values[:, :, 1].ravel()]).astype(float)
    reference = sm.OLS(scored.rewards[0].values.ravel(), sm.add_constant(x)).fit()
    found = slopes(AUDIT.rows(scored), spec="pooled")
    assert tuple(found) == ("(intercept)", "x", "y", "hedges")
    for column, theirs in (("estimate", reference.params), ("std_error", reference.bse)):
        np.testing.assert_allclose([row[column] for row in found.values()], theirs, rtol=EXACT)
    adjusted = [row["p_adjusted"] for row in found.values()]
    np.testing.assert_allclose(adjusted, bonferroni(reference.pvalues), rtol=1e-6)
    assert {row["mode"] for row in found.values()} == {"as_published"}


def test_every_row_says_what_it_is_of(imprinted):
    for row in AUDIT.rows(imprinted()).to_pylist():
        assert (row["audit"], row["dataset"], row["taxonomy"], row["scorer"]) == (
            "reward-imprint",
            "toy",
            "toy-values",
            "rm",
        )
        assert row["spec"].removesuffix("-length") in SPECS
        assert row["mode"] in ("as_published", "corrected")
        assert row["method"]
        assert row["n"] == 2 * N
        assert row["n_clusters"] == N // 2


def test_pre_and_post_belong_together_and_others_stand_alone(imprinted):
    rng = np.random.default_rng(0)
    rewards = tuple(Reward(*of, rng.normal(size=(N, 2))) for of in (("a", "post"), ("b", "none"), ("c", "pre")))
    table = AUDIT.rows(imprinted(rewards))
    within = {(r["slice"], r["scorer"]): r["estimate"] for r in pick(table, metric="beta", spec="within", feature="x")}
    assert set(within) == {("pre", "c"), ("post", "a"), ("post-pre", "a-c"), ("", "b")}
    assert within["post-pre", "a-c"] == pytest.approx(within["post", "a"] - within["pre", "c"])
    assert [names for names, _ in reward_sets(rewards[:2])] == [{"": "a"}, {"": "b"}]


def test_two_rewards_in_one_role_are_refused(imprinted):
    rewards = tuple(Reward(name, "pre", np.zeros((N, 2))) for name in "ab")
    with pytest.raises(ValueError, match="a and b are both pre"):
        AUDIT.rows(imprinted(rewards))


@pytest.mark.parametrize("changes", [{"rewards": ()}, {"text_features": None}])
def test_what_is_needed_is_named(imprinted, changes):
    with pytest.raises(ValueError, match="rewards and text features are needed"):
        AUDIT.rows(imprinted(**changes))


def test_sides_without_a_reward_are_counted(imprinted):
    y = imprinted().rewards[0].values.copy()
    y[:5] = np.nan  # not scored
    y[5, 1] = np.nan  # one side only
    table = AUDIT.rows(imprinted((Reward("rm", "none", y),)))
    dropped = {r["method"]: (r["estimate"], r["n"]) for r in pick(table, metric="rows_dropped", spec="within")}
    assert dropped == {
        "reward-missing": (11, 120),
        "reward-infinite": (0, 120),
        "feature-missing": (0, 120),
        "single-item-group": (1, 120),
    }
    assert slopes(table, spec="within")["x"]["n"] == 108
    assert slopes(table, spec="pooled")["x"]["n"] == 109


def test_a_reward_that_scored_nothing_has_no_slopes_and_says_so(imprinted):
    table = AUDIT.rows(imprinted((Reward("rm", "none", np.full((N, 2), np.nan)),)))
    assert all(math.isnan(row["estimate"]) for row in pick(table, metric="beta"))
    assert {row["n"] for row in pick(table, metric="beta")} == {0}
    assert {row["spec"] for row in pick(table, metric="not_fitted")} == {
        f"{s}{e}" for s in SPECS for e in ("", "-length")
    }


def test_ties_of_people_are_items_but_have_no_side(imprinted):
    ties = np.arange(N) < 20
    scored = imprinted(is_tie=ties)
    table = AUDIT.rows(scored)
    plain = AUDIT.rows(imprinted())
    for spec in ("pooled", "pooled-clustered", "within", "within-length"):
        assert repr(slopes(table, spec=spec)) == repr(slopes(plain, spec=spec))
        assert pick(table, metric="rows_dropped", spec=spec, method="tie") == []
    # With effects of sides only the 40 pairs that have a chosen one; chosen and rejected differ by one effect.
    found = slopes(table, spec="within-item")
    assert tuple(found) == ("x", "y", "hedges", "(item rejected)")
    assert {(row["n"], row["n_clusters"]) for row in found.values()} == {(80, 20)}
    dx, dy = differences(scored, ("x", "y", "hedges"))
    reference = sm.OLS(dy[20:], np.column_stack([dx[20:], -np.ones(40)])).fit()
    np.testing.assert_allclose([row["estimate"] for row in found.values()], reference.params, rtol=EXACT)
    (dropped,) = pick(table, metric="rows_dropped", spec="within-item", method="tie")
    assert (dropped["estimate"], dropped["n"], dropped["n_clusters"]) == (40, 120, 30)


def test_only_ties_leave_nothing_for_effects_of_sides(imprinted):
    table = AUDIT.rows(imprinted(is_tie=np.ones(N, dtype=bool)))
    assert np.isfinite(slopes(table, spec="within")["x"]["estimate"])
    (reason,) = pick(table, metric="not_fitted", spec="within-item")
    assert reason["method"] == "no group with two usable items"


@pytest.fixture
def values():
    return np.random.default_rng(8).random((N, 2, 3)) < 0.5


def test_the_later_of_two_equal_values_is_left_out_by_name(imprinted, values):
    values[:, :, 2] = values[:, :, 0]
    scored = imprinted(decisions=values, n_labels=3)
    table = AUDIT.rows(scored)
    rewards = scored.rewards
    without = AUDIT.rows(imprinted(rewards, scored.text_features.values, decisions=values[:, :, :2]))
    for spec in ("pooled", "within", "within-length"):
        left = pick(table, metric="left_out", spec=spec)
        assert [(row["feature"], row["method"]) for row in left] == [("z", "combination-of:x")]
        assert math.isnan(slopes(table, spec=spec)["z"]["estimate"])
        expected = slopes(without, spec=spec)
        for name, row in slopes(table, spec=spec).items():
            if name != "z":
                assert row["estimate"] == pytest.approx(expected[name]["estimate"], rel=EXACT)
                assert row["p_adjusted"] == pytest.approx(expected[name]["p_adjusted"], rel=EXACT)
    assert pick(table, metric="not_fitted") == []


def test_values_that_are_one_within_pairs_only_are_two_in_the_pooled_specs(imprinted, values):
    values[:] = False
    values[:, :, 1] = np.random.default_rng(1).random((N, 2)) < 0.5
    values[4, 0, 0] = values[4, 0, 2] = True  # x and z differ in one pair, and alike
    values[10:20, :, 0] = True
    values[30:40, :, 2] = True
    table = AUDIT.rows(imprinted(decisions=values, n_labels=3))
    assert pick(table, metric="left_out", spec="pooled") == []
    assert [(r["feature"], r["method"]) for r in pick(table, metric="left_out", spec="within")] == [
        ("z", "combination-of:x")
    ]
    assert np.isfinite(slopes(table, spec="within")["y"]["p_value"])
    assert np.isfinite(slopes(table, spec="pooled")["z"]["estimate"])


def test_collinear_on_the_scored_pairs_only_is_found(imprinted, values):
    values[:30, :, 2] = values[:30, :, 0]
    y = np.random.default_rng(0).normal(size=(N, 2))
    y[30:] = np.nan
    table = AUDIT.rows(imprinted((Reward("rm", "none", y),), decisions=values, n_labels=3))
    assert [r["feature"] for r in pick(table, metric="left_out", spec="pooled")] == ["z"]
    assert np.isfinite(slopes(table, spec="pooled")["x"]["estimate"])


def test_the_length_that_is_held_equal_is_never_left_out(imprinted):
    texts = np.random.default_rng(2).normal(size=(N, 2, 2))
    texts[:, :, 1] = 3 - 2 * texts[:, :, 0]
    table = AUDIT.rows(imprinted(texts=texts))
    assert pick(table, metric="left_out", spec="within") == []
    assert [(r["feature"], r["method"]) for r in pick(table, metric="left_out", spec="within-length")] == [
        ("hedges", "combination-of:length")
    ]
    assert np.isfinite(slopes(table, spec="within-length")["length"]["estimate"])


def test_a_length_that_is_the_side_is_not_fitted_and_said(imprinted):
    texts = np.random.default_rng(2).normal(size=(N, 2, 2))
    texts[:, :, 0] = [5.0, 4.0]
    table = AUDIT.rows(imprinted(texts=texts))
    (reason,) = pick(table, metric="not_fitted")
    assert (reason["spec"], reason["method"]) == ("within-item-length", "(item rejected) is a combination of length")


def test_features_that_are_all_the_length_are_not_fitted_and_said(imprinted):
    values = np.random.default_rng(8).random((N, 2, 1)) < 0.5
    table = AUDIT.rows(imprinted(texts=values * [2.0, 3.0], n_labels=1, decisions=values))
    (reason,) = pick(table, metric="not_fitted", spec="within-length")
    assert reason["method"] == "length is a combination of x; hedges is a combination of x"
    assert [row["feature"] for row in pick(table, metric="left_out", spec="within")] == ["hedges"]


def test_a_value_that_marks_the_chosen_side_has_no_slope_beside_the_side(imprinted, values):
    values[:, 0, 2], values[:, 1, 2] = True, False
    table = AUDIT.rows(imprinted(decisions=values, n_labels=3))
    assert [(r["feature"], r["method"]) for r in pick(table, metric="left_out", spec="within-item")] == [
        ("z", "combination-of:(item rejected)")
    ]
    assert np.isfinite(slopes(table, spec="within")["z"]["estimate"])


def test_constant_features_are_named_and_cost_the_others_nothing(imprinted, values):
    values[:, :, 2] = False
    scored = imprinted(decisions=values, n_labels=3)
    table = AUDIT.rows(scored)
    without = AUDIT.rows(imprinted(scored.rewards, scored.text_features.values, decisions=values[:, :, :2]))
    for spec in ("pooled-clustered", "within"):
        assert [(r["feature"], r["method"]) for r in pick(table, metric="left_out", spec=spec)] == [("z", "constant")]
        assert math.isnan(slopes(table, spec=spec)["z"]["estimate"])
        for name, row in slopes(without, spec=spec).items():
            assert slopes(table, spec=spec)[name]["estimate"] == pytest.approx(row["estimate"], rel=EXACT)


@pytest.mark.parametrize("n", [1, 2, 3])
def test_a_few_pairs_are_too_few_and_nothing_is_left_out_for_it(imprinted, n):
    table = AUDIT.rows(imprinted(n=n, n_labels=4))
    assert pick(table, metric="left_out", spec="within", slice="") == []
    (reason,) = pick(table, metric="not_fitted", spec="within")
    assert reason["method"] == f"{2 * n} rows in {n} groups are too few for {_varying(imprinted, n)} features that vary"
    assert all(math.isnan(row["estimate"]) for row in pick(table, metric="beta", spec="within"))


def _varying(imprinted, n):
    dx, _ = differences(imprinted(n=n, n_labels=4), ("x", "y", "z", "u", "hedges"))
    return int((np.abs(dx).max(axis=0) > 0).sum())


def test_one_prompt_has_slopes_without_errors(imprinted):
    table = AUDIT.rows(imprinted(clusters=np.zeros(N, dtype=int)))
    row = slopes(table, spec="within")["x"]
    assert np.isfinite(row["estimate"])
    assert math.isnan(row["std_error"])
    assert math.isnan(row["p_adjusted"])
    assert row["n_clusters"] == 1
    (reason,) = pick(table, metric="no_error", spec="within")
    assert reason["method"] == "1 clusters are fewer than 3, which 3 terms need"
    assert pick(table, metric="no_error", spec="pooled") == []


def test_a_reward_without_spread_has_no_errors(imprinted):
    table = AUDIT.rows(imprinted((Reward("rm", "none", np.ones((N, 2))),)))
    row = slopes(table, spec="within")["x"]
    assert row["estimate"] == 0
    assert math.isnan(row["p_value"])
    assert len(pick(table, metric="no_error")) == 8


def test_subsets_have_rows_of_their_pairs(imprinted):
    subsets = np.where(np.arange(N) < 20, "s", "t")
    table = AUDIT.rows(imprinted(subsets=subsets))
    assert {s: slopes(table, spec="within", subset=s)["x"]["n"] for s in ("", "s", "t")} == {"": 120, "s": 40, "t": 80}
    scored = imprinted()
    dx, dy = differences(scored, ("x", "y", "hedges"))
    reference = sm.OLS(dy[:20], dx[:20]).fit()
    found = slopes(table, spec="within", subset="s")
    np.testing.assert_allclose([row["estimate"] for row in found.values()], reference.params, rtol=EXACT)


def test_pairs_that_the_classifier_was_trained_on_count_as_published_only(imprinted):
    everyone, some = imprinted(), imprinted(trained_on=np.arange(N) < 20)
    before, found = AUDIT.rows(everyone), AUDIT.rows(some)
    for spec in ("pooled", "pooled-length"):
        assert str(pick(found, spec=spec)) == str(pick(before, spec=spec))
    assert {row["n"] for row in pick(found, metric="beta", mode="corrected")} == {2 * (N - 20)}


def test_signed_labels_are_features(imprinted):
    table = AUDIT.rows(imprinted(n_labels=4, signed=True))
    assert list(slopes(table, spec="within")) == ["x-for", "x-against", "y-for", "y-against", "hedges"]


def test_uncalibrated_decisions_are_marked(imprinted):
    methods = {row["method"] for row in pick(AUDIT.rows(imprinted(calibrated=False)), metric="beta")}
    assert methods == {"ols-uncalibrated"}
    assert {row["method"] for row in pick(AUDIT.rows(imprinted()), metric="beta")} == {"ols"}


def test_a_text_feature_named_like_a_value_keeps_a_name_of_its_own(imprinted):
    scored = imprinted(names=("length", "x"))
    assert item_table(scored, EXCHANGE, np.ones(N, dtype=bool), {"none": scored.rewards[0].values}).feature_names == (
        "x",
        "y",
        "length",
        "text-x",
    )
    assert "text-x" in slopes(AUDIT.rows(scored), spec="within")


def test_fit_identified_tells_what_it_left_out(imprinted, values):
    values[:, :, 1] = values[:, :, 0]
    scored = imprinted(decisions=values, n_labels=3)
    table = item_table(scored, EXCHANGE, np.ones(N, dtype=bool), {"none": scored.rewards[0].values})
    fit, combined, reason = fit_identified(table, "", "within")
    assert (combined, reason) == ({"y": ("x",)}, "")
    assert fit.fit.names == ("x", "z", "hedges")
