"""Are the specs what they say, on tables small enough to check otherwise?"""

import numpy as np
import pytest
import statsmodels.api as sm

from audits.item_table import deviations
from audits.reward_regression import ItemTable, fit_specs, regression_rows
from audits.stats.multiplicity import bonferroni, holm
from audits.table import make_table

EXACT = 1e-9
NAMES = ("a", "b", "length")


@pytest.fixture
def make_items():
    """40 groups of two sides in 20 clusters; `changes` replaces fields."""

    def make(n_groups=40, sides=("chosen", "rejected"), **changes) -> ItemTable:
        rng = np.random.default_rng(5)
        groups = np.repeat(np.arange(n_groups), len(sides))
        n = len(groups)
        x = rng.normal(size=(n, 3)) + rng.normal(size=(n_groups, 3))[groups]
        y = x @ [1.0, -0.5, 0.3] + 2 * rng.normal(size=n_groups)[groups] + rng.normal(size=n)
        fields = {
            "group_ids": np.array([f"g{g}" for g in groups]),
            "cluster_ids": groups // 2,
            "item_ids": np.tile(sides, n_groups),
            "rewards": {"none": y},
            "features": x,
            "feature_names": NAMES,
            "length_name": "length",
        }
        return ItemTable(**(fields | changes))

    return make


def by_spec(fits):
    return {(fit.slice_name, fit.spec): fit for fit in fits}


def test_specs_equal_statsmodels(make_items):
    table = make_items()
    fits = by_spec(fit_specs(table))
    x, y = table.features, table.rewards["none"]
    centre = np.repeat(x.reshape(40, 2, 3).mean(axis=1), 2, axis=0)
    dx, dy = x - centre, y - np.repeat(y.reshape(40, 2).mean(axis=1), 2)
    side = np.tile([-0.5, 0.5], 40)  # deviations of "is rejected"
    by = {"cov_type": "cluster", "cov_kwds": {"groups": table.cluster_ids}, "use_t": True}
    references = {
        "pooled": sm.OLS(y, sm.add_constant(x[:, :2])).fit(),
        "pooled-clustered": sm.OLS(y, sm.add_constant(x[:, :2])).fit(**by),
        "within": sm.OLS(dy, dx[:, :2]).fit(**by),
        "within-item": sm.OLS(dy, np.column_stack([dx[:, :2], side])).fit(**by),
        "pooled-length": sm.OLS(y, sm.add_constant(x)).fit(),
        "pooled-clustered-length": sm.OLS(y, sm.add_constant(x)).fit(**by),
        "within-length": sm.OLS(dy, dx).fit(**by),
        "within-item-length": sm.OLS(dy, np.column_stack([dx, side])).fit(**by),
    }
    assert list(fits) == [("", spec) for spec in references]
    for spec, reference in references.items():
        fit = fits["", spec].fit
        for ours, theirs in (
            (fit.beta, reference.params),
            (fit.std_error, reference.bse),
            (fit.p_value, reference.pvalues),
        ):
            np.testing.assert_allclose(ours, theirs, rtol=EXACT)
    assert fits["", "within-item-length"].fit.names == (*NAMES, "(item rejected)")


def test_multiplicity_families(make_items):
    fits = by_spec(fit_specs(make_items()))
    published = fits["", "pooled"]
    np.testing.assert_array_equal(published.p_adjusted, np.minimum(1, 3 * published.fit.p_value))
    np.testing.assert_array_equal(published.p_adjusted, bonferroni(published.fit.p_value))
    item = fits["", "within-item-length"]
    np.testing.assert_array_equal(item.p_adjusted[:3], holm(item.fit.p_value[:3]))
    assert np.isnan(item.p_adjusted[3])
    clustered = fits["", "pooled-clustered"]
    assert np.isnan(clustered.p_adjusted[0])
    np.testing.assert_array_equal(clustered.p_adjusted[1:], holm(clustered.fit.p_value[1:]))


def test_seals_bonferroni_is_31_fold():
    # (printed adjusted p = min(1, 31 p)): 30 features of both sides and the intercept
    rng = np.random.default_rng(0)
    table = ItemTable(
        np.arange(200) // 2,
        np.arange(200) // 2,
        np.arange(200) % 2,
        {"none": rng.normal(size=200)},
        rng.normal(size=(200, 30)),
        tuple(f"f{k}" for k in range(30)),
    )
    published = fit_specs(table)[0]
    np.testing.assert_array_equal(published.p_adjusted, np.minimum(1, 31 * published.fit.p_value))


def test_slices_of_two_rewards(make_items):
    rng = np.random.default_rng(1)
    pre, post = rng.normal(size=80), rng.normal(size=80)
    fits = by_spec(fit_specs(make_items(rewards={"pre": pre, "post": post})))
    assert {s for s, _ in fits} == {"pre", "post", "post-pre"}
    for spec in ("pooled", "within"):
        difference = fits["post", spec].fit.beta - fits["pre", spec].fit.beta
        np.testing.assert_allclose(fits["post-pre", spec].fit.beta, difference, rtol=1e-9, atol=1e-13)


def test_what_cannot_serve_is_counted(make_items):
    table = make_items()
    y, x = table.rewards["none"].copy(), table.features.copy()
    y[[0, 3]], y[10] = np.nan, np.inf
    x[20, 0], x[30, 2] = np.nan, np.nan
    fits = by_spec(fit_specs(make_items(rewards={"none": y}, features=x)))
    pooled, within = fits["", "pooled"], fits["", "within"]
    assert pooled.counted == {"reward-missing": 2, "reward-infinite": 1, "feature-missing": 1}
    assert (pooled.fit.n, pooled.n_items) == (76, 80)
    assert within.counted == pooled.counted | {"single-item-group": 4}
    assert (within.fit.n, within.used_clusters, within.n_clusters) == (72, 19, 20)
    # A missing length costs the specs that need it only.
    assert fits["", "within-length"].counted["feature-missing"] == 2
    rows = [r for r in regression_rows(fits.values()) if r["metric"] == "rows_dropped" and r["spec"] == "within"]
    assert {r["method"]: (r["estimate"], r["n"], r["n_clusters"]) for r in rows} == {
        "reward-missing": (2, 80, 20),
        "reward-infinite": (1, 80, 20),
        "feature-missing": (1, 80, 20),
        "single-item-group": (4, 80, 20),
    }


def test_infinite_rewards_on_both_sides_of_a_difference_are_infinite(make_items):
    y = make_items().rewards["none"].copy()
    y[4] = np.inf
    fits = by_spec(fit_specs(make_items(rewards={"pre": y, "post": y + 1})))
    assert fits["post-pre", "pooled"].counted["reward-infinite"] == 1


def test_constant_features_have_no_slope_and_the_others_keep_theirs(make_items):
    plain = make_items()
    groups = np.repeat(np.arange(40.0), 2)
    wide = np.column_stack([plain.features, groups % 3, np.ones(80)])
    fits = by_spec(fit_specs(make_items(features=wide, feature_names=(*NAMES, "of-group", "one"))))
    expected = by_spec(fit_specs(plain))
    within = fits["", "within"]
    np.testing.assert_array_equal(within.fit.beta[:2], expected["", "within"].fit.beta)
    assert np.isnan(within.fit.beta[2:]).all()
    assert np.isnan(within.p_adjusted[2:]).all()
    assert "no slope, constant within groups: of-group, one" in within.notes
    np.testing.assert_array_equal(within.p_adjusted[:2], expected["", "within"].p_adjusted)
    pooled = fits["", "pooled"]
    assert np.isfinite(pooled.fit.beta[:4]).all()
    assert np.isnan(pooled.fit.beta[4])
    assert "no slope, constant: one" in pooled.notes


def test_collinear_features_are_reported_with_their_names(make_items):
    x = make_items().features.copy()
    x[:, 1] = 3 * x[:, 0] + np.repeat(np.arange(40), 2)  # collinear within groups only
    fits = by_spec(fit_specs(make_items(features=x)))
    assert np.isfinite(fits["", "pooled"].fit.beta).all()
    assert np.isnan(fits["", "within"].fit.beta).all()
    assert fits["", "within"].notes == ("b is a combination of a",)
    make_table(regression_rows(fits.values()))


def test_deviations_keep_no_rounding():
    values = np.array([[0.1, 1.0], [0.1, 2.0], [0.1, 6.0], [7.7, 5.0]])
    assert deviations(values, np.array([0, 0, 0, 1])).tolist() == [[0, -2], [0, -1], [0, 3], [0, 0]]
    # 0.7 + 0.7 + 0.7 is no exact multiple: its mean is off by one bit.
    assert not deviations(np.full((3, 1), 0.7), np.zeros(3)).any()


def test_one_side_only_leaves_nothing_within(make_items):
    fits = by_spec(fit_specs(make_items(sides=("only",))))
    assert fits["", "within"].fit.n == 0
    assert fits["", "within"].counted["single-item-group"] == 40
    assert "no group with two usable items" in fits["", "within"].notes
    assert np.isfinite(fits["", "pooled"].fit.beta).all()
    make_table(regression_rows(fits.values()))


def test_fewer_clusters_than_terms_are_said(make_items):
    fits = by_spec(fit_specs(make_items(cluster_ids=np.repeat([0, 1], 40))))
    fit = fits["", "pooled-clustered"]
    assert np.isfinite(fit.fit.beta).all()
    assert np.isnan(fit.fit.std_error).all()
    assert "2 clusters are fewer than 3" in fit.notes[0]
    assert np.isfinite(fits["", "pooled"].fit.std_error).all()


def test_item_ids_that_name_texts_have_no_effects(make_items):
    fits = by_spec(fit_specs(make_items(n_groups=60, item_ids=np.arange(120))))
    assert np.isnan(fits["", "within-item"].fit.beta).all()
    assert "120 item ids are more than 100" in fits["", "within-item"].notes[0]
    assert np.isfinite(fits["", "within"].fit.beta).all()


def test_standardised_slopes_are_those_of_standardised_columns(make_items):
    table = make_items()
    fits = by_spec(fit_specs(table))
    y, x = table.rewards["none"], table.features
    z = make_items(rewards={"none": (y - y.mean()) / y.std()}, features=(x - x.mean(axis=0)) / x.std(axis=0))
    for key, fit in by_spec(fit_specs(z)).items():
        keep = [k for k, name in enumerate(fit.fit.names) if not name.startswith("(")]
        np.testing.assert_allclose(fits[key].scaled.beta[keep], fit.fit.beta[keep], rtol=1e-9)
        np.testing.assert_allclose(fits[key].scaled.std_error[keep], fit.fit.std_error[keep], rtol=1e-9)
        np.testing.assert_allclose(fits[key].scaled.ci_low[keep], fit.fit.ci_low[keep], rtol=1e-9)


def test_rows_fit_the_audit_table(make_items):
    fits = fit_specs(make_items())
    table = make_table(regression_rows(fits, dataset="toy", scorer="post-model"))
    rows = table.to_pylist()
    assert {r["audit"] for r in rows} == {"reward-imprint"}
    assert {r["mode"] for r in rows if r["spec"] in ("pooled", "pooled-length")} == {"as_published"}
    assert {r["mode"] for r in rows if r["spec"] not in ("pooled", "pooled-length")} == {"corrected"}
    within = [r for r in rows if r["spec"] == "within" and r["method"] == "ols"]
    assert [(r["metric"], r["feature"]) for r in within] == [
        *[("beta", f) for f in "ab"],
        *[("beta_standardised", f) for f in "ab"],
        *[("vif", f) for f in "ab"],
        *[("effective_clusters", f) for f in "ab"],
        ("r_squared", ""),
    ]
    assert all((r["n"], r["n_clusters"], r["scorer"]) == (80, 20, "post-model") for r in within)
    assert within[0]["p_adjusted"] >= within[0]["p_value"] > 0


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"item_ids": np.array(["x"] * 80)}, "twice"),
        ({"cluster_ids": np.arange(80)}, "several clusters"),
        ({"rewards": {"pre": np.zeros(80)}}, "pre and post"),
        ({"rewards": {"none": np.zeros(3)}}, "shape"),
        ({"feature_names": ("a", "a", "length")}, "distinct"),
        ({"feature_names": ("(a", "b", "length")}, "parenthesis"),
        ({"length_name": "words"}, "not among"),
        ({"features": np.zeros((80, 1)), "feature_names": ("length",)}, "nothing to regress"),
    ],
)
def test_tables_are_checked(make_items, changes, message):
    with pytest.raises(ValueError, match=message):
        make_items(**changes)
