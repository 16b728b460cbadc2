"""Are agreement, regimes and effects those of the untied pairs, each with the pairs that it is a share of?"""

import math

import numpy as np
import pytest
from statsmodels.stats.proportion import proportion_confint

from audits.base import Reward
from audits.resistance import Resistance
from audits.stats.clustered import clustered_mean, clustered_rate

AUDIT = Resistance(targets=("x", "y"))
CLUSTERED, POOLED = {"spec": "pooled-clustered"}, {"spec": "pooled"}

# Decisions on (x, y) of both sides: x decides before y. The last pair is a tie of the people.
DECISIONS = np.array(
    [
        [[1, 0], [0, 1]],  # c
        [[1, 1], [1, 0]],  # c
        [[0, 0], [0, 1]],  # r
        [[0, 1], [1, 0]],  # r
        [[1, 1], [1, 1]],  # i
        [[0, 0], [0, 0]],  # i
        [[1, 0], [0, 0]],
    ],
    dtype=bool,
)
CLUSTERS = [0, 0, 1, 2, 3, 3, 4]
TIES = [False] * 6 + [True]
#                 stayed  became  resisted resisted(tie)  reversed  (one side missing)  tie of people
PRE = np.array([[2.0, 1], [1, 2], [1, 3], [-1, 2], [3, 1], [1, 0], [9, 0]])
POST = np.array([[3.0, 1], [2, 1], [0, 3], [2, 2], [-1, 1], [np.nan, 0], [9, 0]])


@pytest.fixture
def resisted(make_scored):
    def make(rewards=None, decisions=DECISIONS, **changes):
        rewards = (Reward("before", "pre", PRE), Reward("after", "post", POST)) if rewards is None else rewards
        fields = {"clusters": CLUSTERS, "is_tie": TIES, "rewards": rewards}
        return make_scored(np.where(decisions, 0.9, 0.1), **(fields | changes))

    return make


def pick(table, **columns):
    return [row for row in table.to_pylist() if all(row[name] == value for name, value in columns.items())]


def find(table, **columns):
    rows = pick(table, **columns)
    assert len(rows) == 1, f"{len(rows)} rows for {columns}"
    return rows[0]


def shares(table, metric, **columns):
    """Slice -> (estimate, n, n_clusters)."""
    found = {row["slice"]: row for row in pick(table, metric=metric, **columns)}
    return {name: (row["estimate"], row["n"], row["n_clusters"]) for name, row in found.items()}


def test_agreement_under_each_policy(resisted):
    table = AUDIT.rows(resisted())
    found = {
        (r["scorer"], r["method"]): (r["estimate"], r["n"], r["n_clusters"])
        for r in pick(table, metric="agreement", **CLUSTERED)
    }
    assert found == {
        ("before", "strict"): (3 / 6, 6, 4),
        ("before", "half"): (3 / 6, 6, 4),
        ("before", "drop"): (3 / 6, 6, 4),
        ("after", "strict"): (2 / 5, 5, 4),
        ("after", "half"): (2.5 / 5, 5, 4),
        ("after", "drop"): (2 / 4, 4, 3),
    }
    row = find(table, metric="agreement", scorer="after", method="strict", **CLUSTERED)
    expected = clustered_rate(np.array([[1, 1, 0, 0, 0]]).T, CLUSTERS[:5])
    for column in ("std_error", "ci_low", "ci_high"):
        assert row[column] == pytest.approx(getattr(expected, column)[0])
    wilson = find(table, metric="agreement", scorer="after", method="strict", **POOLED)
    assert (wilson["ci_low"], wilson["ci_high"]) == pytest.approx(proportion_confint(2, 5, method="wilson"))
    assert math.isnan(find(table, metric="agreement", scorer="after", method="half", **POOLED)["ci_low"])


def test_resistance_is_one_minus_strict_agreement_in_each_class_of_gamma(resisted):
    table = AUDIT.rows(resisted())
    assert shares(table, "resistance_rate", scorer="after", **CLUSTERED) == {
        "": (3 / 5, 5, 4),
        "gamma-i": (1.0, 1, 1),
        "gamma-c": (0.0, 2, 1),
        "gamma-r": (1.0, 2, 2),
    }
    for scorer in ("before", "after"):
        agree = find(table, metric="agreement", scorer=scorer, method="strict", **CLUSTERED)
        resist = find(table, metric="resistance_rate", scorer=scorer, slice="", **CLUSTERED)
        assert agree["estimate"] + resist["estimate"] == pytest.approx(1)
        assert agree["ci_low"] == pytest.approx(1 - resist["ci_high"])


def test_ties_and_missing_rewards_are_counted(resisted):
    table = AUDIT.rows(resisted())
    counted = {
        (r["metric"], r["scorer"]): (r["estimate"], r["n"], r["n_clusters"]) for r in pick(table, method="count")
    }
    assert counted["reward_tie_count", "after"] == (1, 6, 4)
    assert counted["reward_tie_count", "before"] == (0, 6, 4)
    assert counted["reward_missing_count", "after"] == (1, 6, 4)
    assert counted["tie_count", ""] == (1, 7, 5)


def test_ties_of_people_change_nothing_else(resisted):
    untied = resisted()
    other = POST.copy()
    other[6] = [-5, 5]
    swapped = resisted((Reward("before", "pre", PRE), Reward("after", "post", other)))
    assert repr(AUDIT.rows(untied).to_pylist()) == repr(AUDIT.rows(swapped).to_pylist())


def test_regimes_are_shares_of_the_pairs_known_at_both_times(resisted):
    table = AUDIT.rows(resisted())
    assert shares(table, "regime_share", **CLUSTERED) == {
        "stayed": (1 / 5, 5, 4),
        "became": (1 / 5, 5, 4),
        "resisted": (2 / 5, 5, 4),
        "reversed": (1 / 5, 5, 4),
    }
    assert {row["scorer"] for row in pick(table, metric="regime_share")} == {"after-before"}


def test_change_of_agreement_is_paired_and_its_flips_add_up(resisted):
    table = AUDIT.rows(resisted())
    row = find(table, metric="agreement_difference")
    expected = clustered_mean(np.array([[0.0, 1, 0, 0, -1]]).T, CLUSTERS[:5])
    assert row["estimate"] == 0
    assert row["std_error"] == pytest.approx(expected.std_error[0])
    assert row["p_value"] == row["p_adjusted"] == pytest.approx(expected.p_value[0])
    assert (row["slice"], row["spec"], row["n"], row["n_clusters"]) == ("post-pre", "within", 5, 4)
    flips = shares(table, "agreement_flips")
    assert flips == {"lost": (1, 5, 4), "gained": (1, 5, 4)}
    assert find(table, metric="agreement_flips", slice="lost")["p_value"] == 1.0


def test_the_change_is_tested_with_clusters_and_beside_it_without(resisted):
    n = 60
    clusters = np.arange(n) // 10
    post = np.tile([2.0, 1.0], (n, 1))
    post[10:, 0] -= 2 * (np.arange(50) % 10 < 3)
    pre = np.tile([1.0, 2.0], (n, 1))
    rewards = (Reward("a", "pre", pre), Reward("b", "post", post))
    scored = resisted(rewards, np.tile(DECISIONS[:1], (n, 1, 1)), clusters=clusters, is_tie=np.zeros(n, dtype=bool))
    table = AUDIT.rows(scored)
    change = find(table, metric="agreement_difference")
    assert change["p_value"] == pytest.approx(clustered_mean((post[:, :1] > 1).astype(float), clusters).p_value[0])
    flips = find(table, metric="agreement_flips", slice="gained")
    assert (flips["estimate"], flips["p_value"]) == (45, 2 / 2**45)
    assert change["p_value"] > 1000 * flips["p_value"]


def test_pairs_that_all_change_alike_are_tested_by_prompts(resisted):
    rewards = (Reward("a", "pre", PRE[:, ::-1] * [0, 1]), Reward("b", "post", np.tile([2.0, 1.0], (7, 1))))
    rewards[0].values[:] = [1, 2]
    row = find(AUDIT.rows(resisted(rewards)), metric="agreement_difference")
    assert (row["estimate"], row["p_value"]) == (1.0, 2 / 2**4)
    assert math.isnan(row["std_error"])


def test_classifier_agreement_is_of_the_pairs_where_it_decides(resisted):
    table = AUDIT.rows(resisted())
    overall = find(table, metric="classifier_agreement", scorer="", **CLUSTERED)
    assert (overall["estimate"], overall["n"], overall["n_clusters"]) == (2 / 4, 4, 3)
    assert {name: (e, n) for name, (e, n, _) in shares(table, "gamma_share", **CLUSTERED).items()} == {
        "gamma-i": (2 / 6, 6),
        "gamma-c": (2 / 6, 6),
        "gamma-r": (2 / 6, 6),
    }
    by_regime = shares(table, "classifier_agreement", scorer="after-before", **CLUSTERED)
    assert by_regime["stayed"] == (1.0, 1, 1)
    assert by_regime["resisted"] == (0.0, 2, 2)
    assert (by_regime["reversed"][1], math.isnan(by_regime["reversed"][0])) == (0, True)
    counts = {name: e for name, (e, _, _) in shares(table, "pair_count").items() if e}
    assert counts == {"stayed|gamma-c": 1, "became|gamma-c": 1, "resisted|gamma-r": 2, "reversed|gamma-i": 1}
    assert {n for _, n, _ in shares(table, "pair_count").values()} == {5}


def test_without_targets_there_is_no_gamma(resisted):
    table = Resistance().rows(resisted())
    assert not any("gamma" in row["slice"] for row in table.to_pylist())
    assert pick(table, metric="classifier_agreement") == []


def test_angles_and_quadrants_have_their_own_denominators(resisted):
    post = POST.copy()
    post[0] = [0.0, 0.0]  # no direction
    post[1] = [np.inf, np.inf]
    table = AUDIT.rows(resisted((Reward("before", "pre", PRE), Reward("after", "post", post))))
    assert shares(table, "quadrant_share")["post|++"] == (1 / 2, 2, 2)  # (2, 2) of (2, 2) and (-1, 1)
    assert shares(table, "quadrant_share")["post|-+"] == (1 / 2, 2, 2)
    assert sum(e for name, (e, _, _) in shares(table, "quadrant_share").items() if name.startswith("pre")) == 1
    assert shares(table, "shift_angle", method="circular-mean")[""][1:] == (3, 3)
    concentration = find(table, metric="shift_concentration", slice="")
    assert concentration["method"] == "rayleigh"
    assert 0 < concentration["p_value"] <= 1
    assert math.isnan(find(table, metric="shift_angle", slice="", method="circular-mean")["p_value"])


def test_a_turn_of_known_angle(resisted):
    turned = PRE @ np.array([[0.0, 1.0], [-1.0, 0.0]])  # by +90 degrees
    table = AUDIT.rows(resisted((Reward("a", "pre", PRE), Reward("b", "post", turned))))
    row = find(table, metric="shift_angle", slice="", method="circular-mean")
    assert (row["estimate"], row["n"]) == (pytest.approx(90.0), 6)
    assert find(table, metric="shift_concentration", slice="")["estimate"] == pytest.approx(1.0)


@pytest.mark.parametrize("n_untied", [0, 1])
def test_no_untied_pair_or_one_has_rows_and_no_numbers(resisted, n_untied):
    ties = np.arange(7) >= n_untied
    table = AUDIT.rows(resisted(is_tie=ties))
    row = find(table, metric="agreement", scorer="after", method="strict", **CLUSTERED)
    assert (row["n"], math.isnan(row["estimate"])) == (n_untied, n_untied == 0)
    assert math.isnan(row["ci_low"])
    lost = find(table, metric="agreement_flips", slice="lost")
    assert lost["n"] == n_untied
    assert math.isnan(lost["p_value"]) == (n_untied == 0)
    assert {r["method"] for r in pick(table, metric="not_fitted")} == {
        "every item has the same outcome" if n_untied else "no items"
    }
    assert find(table, metric="tie_count")["estimate"] == 7 - n_untied


def test_one_prompt_has_rates_without_intervals(resisted):
    table = AUDIT.rows(resisted(clusters=[0] * 7))
    row = find(table, metric="agreement", scorer="before", method="strict", **CLUSTERED)
    assert (row["estimate"], row["n_clusters"]) == (0.5, 1)
    assert math.isnan(row["std_error"])
    assert math.isnan(row["ci_low"])


def test_subsets(resisted):
    table = AUDIT.rows(resisted(subsets=["s"] * 3 + ["t"] * 4))
    found = pick(table, metric="agreement", scorer="after", method="strict", **CLUSTERED)
    assert {r["subset"]: (r["estimate"], r["n"]) for r in found} == {"": (2 / 5, 5), "s": (2 / 3, 3), "t": (0.0, 2)}
    assert {r["subset"]: r["estimate"] for r in pick(table, metric="tie_count")} == {"": 1, "s": 0, "t": 1}
    columns = {"audit": "resistance", "dataset": "toy", "taxonomy": "toy-values", "mode": "corrected"}
    assert len(pick(table, **columns)) == table.num_rows


def test_every_row_says_how_and_of_how_many(resisted):
    for row in AUDIT.rows(resisted()).to_pylist():
        assert row["spec"] in ("pooled", "pooled-clustered", "within")
        assert row["method"]
        assert row["n"] is not None
        assert row["n_clusters"] is not None


def test_what_rests_on_decisions_is_marked_uncalibrated(resisted):
    marked = {row["metric"] for row in AUDIT.rows(resisted(calibrated=False)).to_pylist() if "uncal" in row["method"]}
    assert marked == {
        "resistance_rate",
        "gamma_share",
        "classifier_agreement",
        "pair_count",
        "misalignment_effect",
    }
    overall = pick(AUDIT.rows(resisted(calibrated=False)), metric="resistance_rate", slice="", **CLUSTERED)
    assert {row["method"] for row in overall} == {"strict"}
    assert not any("uncal" in row["method"] for row in AUDIT.rows(resisted()).to_pylist())


def test_signed_targets(make_scored):
    p = np.where(np.random.default_rng(0).random((30, 2, 4)) < 0.5, 0.9, 0.1)
    scored = make_scored(p, signed=True, rewards=(Reward("rm", "none", p[:, :, 0]),))
    table = Resistance(targets=("y-for", "x-against")).rows(scored)
    d = p >= 0.5
    first, second = 2 * d[:, 0, 2] + d[:, 0, 1], 2 * d[:, 1, 2] + d[:, 1, 1]
    found = {r["slice"]: r["estimate"] for r in pick(table, metric="gamma_share", **CLUSTERED)}
    assert found["gamma-c"] == pytest.approx((first > second).mean())
    effects = {(row["slice"], row["feature"]) for row in pick(table, metric="misalignment_effect")}
    assert effects == {(side, label) for side in ("chosen", "rejected") for label in scored.labels}


@pytest.mark.parametrize(
    ("audit", "changes", "message"),
    [
        (Resistance(targets=("kindness",)), {}, "labels .*kindness.* are needed: kindness missing"),
        (AUDIT, {"rewards": ()}, "the view or the rewards missing"),
    ],
)
def test_what_is_missing_is_named(resisted, audit, changes, message):
    with pytest.raises(ValueError, match=message):
        audit.rows(resisted(**changes))


def test_two_rewards_in_one_role_are_refused(resisted):
    with pytest.raises(ValueError, match="a and b are both post"):
        AUDIT.rows(resisted((Reward("a", "post", PRE), Reward("b", "post", POST))))
