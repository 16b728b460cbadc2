"""Are the effects of what pairs are marked with those of one logit, and is every mark without one named?"""

import math

import numpy as np
import pytest
import statsmodels.api as sm

from audits.base import Reward
from audits.resistance import Resistance
from audits.stats.multiplicity import holm

AUDIT = Resistance()


def pick(table, **columns):
    return [row for row in table.to_pylist() if all(row[name] == value for name, value in columns.items())]


def find(table, **columns):
    rows = pick(table, **columns)
    assert len(rows) == 1, f"{len(rows)} rows for {columns}"
    return rows[0]


@pytest.fixture
def many(make_scored):
    """400 pairs in 200 prompts whose reward follows x on the chosen and y on the rejected side."""

    def make(seed=0, n=400, decisions=None, **changes):
        rng = np.random.default_rng(seed)
        d = rng.random((n, 2, 2)) < 0.5 if decisions is None else decisions
        push = 0.8 * d[:, 0, 0] - 0.9 * d[:, 1, 1]
        values = np.stack([push + rng.normal(size=n), rng.normal(size=n)], axis=1)
        fields = {"clusters": np.arange(n) // 2}
        return make_scored(np.where(d, 0.9, 0.1), rewards=(Reward("rm", "none", values),), **(fields | changes))

    return make


def effects(table, metric="misalignment_effect"):
    return {(row["slice"], row["feature"]): row for row in pick(table, metric=metric)}


def test_misalignment_effects_are_those_of_one_logit(many):
    scored = many()
    found = effects(AUDIT.rows(scored))
    keys = [("chosen", "x"), ("chosen", "y"), ("rejected", "x"), ("rejected", "y")]
    assert list(found) == keys
    d = scored.views["exchange-head-256"].decisions
    x = np.stack([d[:, ("chosen", "rejected").index(side), "xy".index(label)] for side, label in keys], axis=1)
    values = scored.rewards[0].values
    fit = sm.Logit(values[:, 0] <= values[:, 1], sm.add_constant(x.astype(float))).fit(
        disp=0, cov_type="cluster", cov_kwds={"groups": scored.clusters}
    )
    reference = fit.get_margeff(dummy=True)
    for column, theirs in (("estimate", reference.margeff), ("std_error", reference.margeff_se)):
        np.testing.assert_allclose([row[column] for row in found.values()], theirs, rtol=1e-6)
    p_values = [row["p_value"] for row in found.values()]
    np.testing.assert_allclose([row["p_adjusted"] for row in found.values()], holm(p_values))
    assert {(row["n"], row["n_clusters"], row["method"]) for row in found.values()} == {(400, 200, "logit-ame")}
    assert found["chosen", "x"]["estimate"] < 0 < found["rejected", "y"]["estimate"]


@pytest.mark.parametrize("case", ["constant", "rare", "separating", "combination-of:chosen|x"])
def test_a_value_without_an_effect_is_named_and_hides_no_other(many, case):
    rng = np.random.default_rng(1)
    d = rng.random((400, 2, 2)) < 0.5
    plain = many(decisions=d)
    resists = plain.rewards[0].values[:, 0] <= plain.rewards[0].values[:, 1]
    match case:
        case "constant":
            d[:, 0, 1], count = False, 0
        case "rare":
            d[:, 0, 1], count = np.arange(400) < 7, 7  # seven pairs in four prompts
        case "separating":
            d[:, 0, 1] = resists & (np.arange(400) % 3 == 0)
            count = int(d[:, 0, 1].sum())
        case _:
            d[:, 0, 1] = d[:, 0, 0]
            count = int(d[:, 0, 0].sum())
    scored = many(decisions=plain.views["exchange-head-256"].decisions)
    scored.views["exchange-head-256"].decisions[:] = d
    table = AUDIT.rows(scored)
    left = find(table, metric="left_out")
    assert (left["slice"], left["feature"], left["method"]) == ("chosen", "y", case)
    assert (left["estimate"], left["n"]) == (count, 400)
    found = effects(table)
    assert math.isnan(found["chosen", "y"]["estimate"])
    p_values = [row["p_value"] for key, row in found.items() if key != ("chosen", "y")]
    assert np.isfinite(p_values).all()
    np.testing.assert_allclose([r["p_adjusted"] for k, r in found.items() if k != ("chosen", "y")], holm(p_values))
    assert pick(table, metric="not_fitted") == []


def test_a_mark_is_judged_on_the_pairs_with_rewards(many):
    scored = many()
    scored.views["exchange-head-256"].decisions[200:, 0, 1] = True
    scored.views["exchange-head-256"].decisions[:200, 0, 1] = False
    scored.rewards[0].values[200:, 0] = np.nan
    left = find(AUDIT.rows(scored), metric="left_out")
    assert (left["feature"], left["slice"], left["method"], left["n"]) == ("y", "chosen", "constant", 200)


def test_why_nothing_could_be_fitted_is_told(many):
    always = many()
    always.rewards[0].values[:, 0] = 99.0
    reasons = [row["method"] for row in pick(AUDIT.rows(always), metric="not_fitted")]
    assert reasons == ["every item has the same outcome"]
    few = AUDIT.rows(many(clusters=np.arange(400) % 4))
    assert {row["method"] for row in pick(few, metric="left_out")} == {"rare"}
    five = AUDIT.rows(many(clusters=np.arange(400) % 5, slugs=("x", "y")))
    assert pick(five, metric="left_out") == []
    six_marks = np.random.default_rng(0).random((400, 2, 3)) < 0.5
    table = AUDIT.rows(many(decisions=six_marks, clusters=np.arange(400) % 5))
    assert find(table, metric="not_fitted")["method"] == "5 clusters are fewer than 7, which 7 terms need"
    assert all(math.isnan(row["estimate"]) for row in effects(table).values())
