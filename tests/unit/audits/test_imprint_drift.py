"""Is the move of a slope the difference of two regressions, with the error of a stacked one?"""

import math

import numpy as np
import pytest
import statsmodels.api as sm

from audits.base import Reward, TextFeatures
from audits.drift import Look
from audits.imprint_drift import imprint_drift_rows
from audits.item_table import make_design, usable_rows
from audits.reward_imprint import RewardImprint, item_table
from audits.stats.ols import ols, slope_influence
from audits.value_distribution import EXCHANGE

N = 80
DRAWS = 999
TEXTS = ("length", "hedges")
CLUSTERS = np.arange(N) // 2


@pytest.fixture
def make_looks(make_scored):
    """A baseline and two looks at 80 pairs in 40 prompts: two values whose decisions change, rewards that do not."""

    def make(decide=None, rewards=None, clusters=CLUSTERS, n_labels=2, **changes):
        rng = np.random.default_rng(3)
        decisions = [rng.random((N, 2, n_labels)) < 0.5]
        decisions += [decisions[0] ^ (rng.random((N, 2, n_labels)) < share) for share in (0.1, 0.3)]
        texts = rng.normal(size=(N, 2, 2))
        y = decisions[0] @ np.linspace(1, 2, n_labels) + texts[:, :, 0] + rng.normal(size=(N, 2))
        if decide:
            decide(decisions)
        fields = {
            "clusters": clusters,
            "rewards": rewards or (Reward("rm", "none", y),),
            "text_features": TextFeatures(TEXTS, texts, "length"),
        } | changes
        return [
            Look(10 * k, float(k), f"step-{10 * k}", make_scored(np.where(d, 0.9, 0.1), **fields))
            for k, d in enumerate(decisions)
        ]

    return make


def rows_of(looks, **settings):
    settings = {"n_draws": DRAWS} | settings
    return imprint_drift_rows(looks[0], looks[1:], EXCHANGE, **settings).to_pylist()


def pick(rows, **columns):
    return [row for row in rows if all(row[name] == value for name, value in columns.items())]


def changes(rows, **columns):
    return {row["feature"]: row for row in pick(rows, metric="beta_change", **columns)}


def design(look, spec):
    table = item_table(look.scored, EXCHANGE, np.ones(N, dtype=bool), {"none": look.scored.rewards[0].values})
    used, _ = usable_rows(table, "", spec)
    return make_design(table, "", spec, used), table.cluster_ids[used]


@pytest.mark.parametrize("spec", ["within", "within-length"])
def test_changes_equal_the_interactions_of_a_stacked_regression(make_looks, spec):
    looks = make_looks()
    rows = rows_of(looks)
    for look in looks[1:]:
        (before, clusters), (after, _) = (design(seen, spec) for seen in (looks[0], look))
        n, k = before.x.shape
        stacked = np.block([[before.x, np.zeros((n, k))], [after.x, after.x]])
        by = {"cov_type": "cluster", "cov_kwds": {"groups": np.tile(clusters, 2)}, "use_t": True}
        reference = sm.OLS(np.concatenate([before.y, after.y]), stacked).fit(**by)
        # Each look counts its own rows and slopes, (n - 1) / (n - k); the stack counts (2n - 1) / (2n - 2k).
        factor = np.sqrt((2 * n - 2) / (2 * n - 1))
        found = changes(rows, step=look.step, spec=f"{spec}-from-step-0")
        assert tuple(found) == before.names
        np.testing.assert_allclose([row["estimate"] for row in found.values()], reference.params[k:], rtol=1e-8)
        np.testing.assert_allclose([row["std_error"] for row in found.values()], factor * reference.bse[k:], rtol=1e-8)
        for row in found.values():
            assert row["p_adjusted"] >= row["p_value"]
            assert row["ci_low"] < row["estimate"] - 2 * row["std_error"]
            assert (row["n"], row["n_clusters"], row["method"], row["scorer"]) == (2 * N, N // 2, "max-t", "rm")


def test_changes_are_differences_of_the_rows_of_the_imprint(make_looks):
    looks = make_looks()
    found = changes(rows_of(looks), step=20, spec="within-from-step-0")
    betas = []
    for look in (looks[0], looks[2]):
        table = RewardImprint().rows(look.scored).to_pylist()
        betas.append({row["feature"]: row["estimate"] for row in pick(table, metric="beta", spec="within", subset="")})
    assert {f: row["estimate"] for f, row in found.items()} == pytest.approx(
        {f: betas[1][f] - betas[0][f] for f in found}
    )


def test_influence_squared_is_the_clustered_error():
    rng = np.random.default_rng(0)
    x, clusters = rng.normal(size=(90, 3)), rng.integers(0, 25, 90)
    y = x @ [1.0, 0.0, -1.0] + rng.normal(size=90) * (1 + np.abs(x[:, 0]))
    fit = ols(x, y, ["a", "b", "c"], intercept=False, clusters=clusters)
    influence, shares = slope_influence(x, y, fit.beta, clusters)
    g = len(influence)
    np.testing.assert_allclose(np.sqrt(g / (g - 1) * (influence**2).sum(axis=0)), fit.std_error, rtol=1e-10)
    np.testing.assert_allclose(shares.sum(axis=0), 1.0)
    np.testing.assert_allclose(1 / (shares**2).sum(axis=0), fit.effective_clusters)


def test_the_same_look_again_shows_nothing(make_looks):
    looks = make_looks()
    rows = rows_of([looks[0], Look(5, None, "again", looks[0].scored)])
    assert len(rows) == 3 + 4
    for row in rows:
        assert (row["estimate"], row["p_value"], row["p_adjusted"]) == (0.0, 1.0, 1.0)
        assert math.isnan(row["std_error"])


def test_rows_and_families(make_looks):
    y = np.random.default_rng(1).normal(size=(2, N, 2))
    looks = make_looks(rewards=(Reward("before", "pre", y[0]), Reward("after", "post", y[1])))
    rows = rows_of(looks)
    keys = {(row["slice"], row["scorer"], row["spec"]) for row in rows}
    names = {"pre": "before", "post": "after", "post-pre": "after-before"}
    specs = ("within-from-step-0", "within-length-from-step-0")
    assert keys == {(name, scorer, spec) for name, scorer in names.items() for spec in specs}
    constant = {tuple(row[c] for c in ("audit", "dataset", "subset", "taxonomy", "mode")) for row in rows}
    assert constant == {("drift", "toy", "", "toy-values", "corrected")}
    assert {(row["step"], row["epoch"]) for row in rows} == {(10, 1.0), (20, 2.0)}
    # post - pre of the changes is the change of post - pre.
    parts = [changes(rows, step=20, slice=name, spec=specs[0])["x"]["estimate"] for name in names]
    assert parts[1] - parts[0] == pytest.approx(parts[2])
    spent = rows_of(looks, planned_looks=5)
    assert {row["method"] for row in spent} == {"spending"}


def test_a_feature_without_a_slope_is_named(make_looks):
    def decide(decisions):
        decisions[1][:, :, 1] = False

    rows = rows_of(make_looks(decide))
    found = changes(rows, step=10, spec="within-from-step-0")
    assert math.isnan(found["y"]["estimate"])
    assert math.isnan(found["y"]["p_adjusted"])
    assert np.isfinite([found["x"]["estimate"], found["x"]["p_adjusted"]]).all()
    left = pick(rows, metric="left_out", spec="within-from-step-0")
    assert [(row["step"], row["feature"], row["method"]) for row in left] == [(10, "y", "constant")]
    assert np.isfinite(changes(rows, step=20, spec="within-from-step-0")["y"]["estimate"])


def test_a_slope_that_stands_for_two_features_is_compared_to_neither(make_looks):
    def decide(decisions):
        decisions[0][:, :, 1] = decisions[0][:, :, 0]

    rows = rows_of(make_looks(decide))
    found = changes(rows, step=10, spec="within-from-step-0")
    assert math.isnan(found["x"]["estimate"])
    assert math.isnan(found["y"]["estimate"])
    assert np.isfinite(found["hedges"]["p_adjusted"])
    left = pick(rows, metric="left_out", spec="within-from-step-0", step=10)
    assert [(row["feature"], row["method"]) for row in left] == [
        ("x", "at-baseline:joined-by:y"),
        ("y", "at-baseline:combination-of:x"),
    ]


def test_a_slope_that_rests_on_one_prompt_has_a_change_but_no_error(make_looks):
    def decide(decisions):
        decisions[0][:, :, 1] = False
        decisions[0][0, 0, 1] = True

    rows = rows_of(make_looks(decide))
    found = changes(rows, step=10, spec="within-from-step-0")
    assert np.isfinite(found["y"]["estimate"])
    assert math.isnan(found["y"]["std_error"])
    assert math.isnan(found["y"]["p_adjusted"])
    assert np.isfinite(found["x"]["p_adjusted"])
    unsure = pick(rows, metric="no_error", spec="within-from-step-0", step=10)
    assert [(row["feature"], row["method"]) for row in unsure] == [("y", "at-baseline:one-cluster")]


def test_a_regression_without_errors_says_why(make_looks):
    rows = rows_of(make_looks(clusters=np.zeros(N, dtype=np.int64)))
    found = changes(rows, step=20, spec="within-from-step-0")
    assert all(math.isnan(row["p_adjusted"]) and math.isfinite(row["estimate"]) for row in found.values())
    methods = [row["method"] for row in pick(rows, metric="no_error", step=20, spec="within-from-step-0")]
    why = "1 clusters are fewer than 3, which 3 terms need"
    assert methods == [f"at-baseline:{why}", why]


def test_trained_on_pairs_are_left_out(make_looks):
    looks = make_looks()
    other = make_looks(trained_on=np.arange(N) < 20)
    assert {row["n"] for row in rows_of([looks[0], other[1]])} == {2 * (N - 20)}


def test_other_rewards_or_texts_are_refused(make_looks):
    looks = make_looks()
    y = looks[0].scored.rewards[0].values
    for reward in (Reward("rm", "none", y + 1), Reward("other", "none", y)):
        with pytest.raises(ValueError, match="rewards of step-10 are not those of step-0"):
            rows_of([looks[0], make_looks(rewards=(reward,))[1]])
    texts = TextFeatures(TEXTS, np.zeros((N, 2, 2)), "length")
    with pytest.raises(ValueError, match="text features of step-10"):
        rows_of([looks[0], make_looks(text_features=texts)[1]])
    with pytest.raises(ValueError, match="are needed at step-0"):
        rows_of(make_looks(text_features=None))
    with pytest.raises(ValueError, match="no look"):
        rows_of(looks[:1])
    with pytest.raises(ValueError, match="pair_ids"):
        rows_of([looks[0], make_looks(pair_ids=looks[0].scored.pair_ids[::-1])[1]])
