"""Are the changes between looks those of the decisions at hand, in rows that say what they are?"""

import math

import numpy as np
import pytest
from scipy import stats
from scipy.spatial.distance import jensenshannon
from sklearn.metrics import cohen_kappa_score
from statsmodels.stats.descriptivestats import sign_test

from audits.drift import Look, drift_rows, influence_on_mean
from audits.stats.clustered import clustered_mean, clustered_rate
from audits.stats.max_t import effective_clusters, max_t
from audits.table import SCHEMA
from audits.value_distribution import EXCHANGE

VIEW = EXCHANGE.slug
N = 60
DRAWS = 999


@pytest.fixture
def make_looks(make_scored):
    """A baseline and three looks at 60 pairs in 30 prompts with three values; later looks lie further away."""

    def make(n_looks=3, n=N, n_labels=3, spread=0.3, calibrated=True, **changes):
        rng = np.random.default_rng(5)
        logits = rng.normal(size=(n, 2, n_labels)) - 0.3
        fields = {"clusters": np.arange(n) // 2, "calibrated": calibrated} | changes
        looks = []
        for k in range(n_looks + 1):
            p = 1 / (1 + np.exp(-logits))
            looks.append(Look(100 * k, float(k), f"step-{100 * k}", make_scored(p, **fields)))
            logits = logits + spread * rng.normal(size=logits.shape) + 0.1
        return looks

    return make


def rows_of(looks, **settings):
    return drift_rows(looks[0], looks[1:], VIEW, **({"n_draws": DRAWS} | settings)).to_pylist()


def pick(rows, **columns):
    return [row for row in rows if all(row[name] == value for name, value in columns.items())]


def one(rows, **columns):
    found = pick(rows, **columns)
    assert len(found) == 1, (columns, len(found))
    return found[0]


def decisions(look):
    return look.scored.views[VIEW].decisions.astype(float)


def test_changes_are_paired_clustered_differences(make_looks):
    looks = make_looks()
    rows = rows_of(looks)
    weights = {"chosen": (1, 0), "rejected": (0, 1), "chosen-rejected": (1, -1)}
    for look in looks[1:]:
        moved = decisions(look) - decisions(looks[0])
        for name, (first, second) in weights.items():
            reference = clustered_mean(first * moved[:, 0] + second * moved[:, 1], looks[0].scored.clusters)
            metric = "prevalence_difference_change" if name == "chosen-rejected" else "prevalence_change"
            for k, feature in enumerate("xyz"):
                row = one(rows, step=look.step, slice=name, metric=metric, feature=feature)
                assert row["estimate"] == pytest.approx(reference.estimate[k], rel=1e-9, abs=1e-15)
                assert row["std_error"] == pytest.approx(reference.std_error[k], rel=1e-6)
                assert row["p_value"] == pytest.approx(reference.p_value[k], rel=1e-5)
                assert row["p_adjusted"] >= row["p_value"]
                assert row["ci_low"] < reference.ci_low[k] < reference.ci_high[k] < row["ci_high"]
                assert (row["n"], row["n_clusters"], row["method"]) == (N, N // 2, "max-t")


def test_rows_say_which_look_and_from_where(make_looks):
    looks = make_looks()
    table = drift_rows(looks[0], looks[1:], VIEW, n_draws=DRAWS)
    assert table.schema.equals(SCHEMA)
    rows = table.to_pylist()
    assert {(row["step"], row["epoch"]) for row in rows} == {(100, 1.0), (200, 2.0), (300, 3.0)}
    constant = ("audit", "dataset", "taxonomy", "spec", "mode", "subset", "run_id", "weights", "audit_key")
    expected = ("drift", "toy", "toy-values", "from-step-0", "corrected", "", "", "", "")
    assert {tuple(row[name] for name in constant) for row in rows} == {expected}
    per_value = ("prevalence_change", "prevalence_difference_change", "mean_probability_change")
    per_value += ("mean_probability_difference_change", "churn", "kappa", "psi")
    counts = {metric: len(pick(rows, metric=metric)) for metric in (*per_value, "rank_correlation", "js_distance")}
    assert list(counts.values()) == [18, 9, 18, 9, 18, 18, 18, 18, 6]
    assert sum(counts.values()) == len(rows)


def test_descriptions_equal_their_references(make_looks):
    looks = make_looks()
    rows = rows_of(looks)
    before, after = looks[0].scored.views[VIEW], looks[2].scored.views[VIEW]
    for side, name in enumerate(("chosen", "rejected")):
        was, now = before.decisions[:, side], after.decisions[:, side]
        churn = clustered_rate(was != now, looks[0].scored.clusters)
        mean = clustered_mean(after.probabilities[:, side] - before.probabilities[:, side], looks[0].scored.clusters)
        for k, feature in enumerate("xyz"):
            at = {"step": 200, "slice": name, "feature": feature}
            row = one(rows, metric="churn", **at)
            assert (row["estimate"], row["ci_low"]) == (churn.estimate[k], churn.ci_low[k])
            assert one(rows, metric="kappa", **at)["estimate"] == pytest.approx(cohen_kappa_score(was[:, k], now[:, k]))
            row = one(rows, metric="mean_probability_change", **at)
            assert row["estimate"] == pytest.approx(mean.estimate[k])
            assert row["std_error"] == pytest.approx(mean.std_error[k])
            assert math.isnan(row["p_value"])
            assert one(rows, metric="psi", **at)["estimate"] > 0
        top1 = [np.bincount(v.probabilities[:, side].argmax(axis=1), minlength=3) / N for v in (before, after)]
        distance = one(rows, metric="js_distance", step=200, slice=name)
        assert distance["estimate"] == pytest.approx(jensenshannon(*top1, base=2))
        order = {"metric": "rank_correlation", "step": 200, "slice": name}
        rho = stats.spearmanr(was.mean(axis=0), now.mean(axis=0)).statistic
        assert one(rows, method="spearman", **order)["estimate"] == pytest.approx(rho)
    difference = [(v.decisions[:, 0].astype(float) - v.decisions[:, 1]).mean(axis=0) for v in (before, after)]
    tau = stats.kendalltau(*difference).statistic
    row = one(rows, metric="rank_correlation", step=200, slice="chosen-rejected", method="kendall")
    assert row["estimate"] == pytest.approx(tau)


def test_a_look_that_equals_the_baseline_shows_nothing(make_looks):
    looks = make_looks(spread=0.3)
    same = Look(7, 0.5, "again", looks[0].scored)
    rows = rows_of([looks[0], same])
    for row in pick(rows, metric="prevalence_change") + pick(rows, metric="prevalence_difference_change"):
        assert (row["estimate"], row["p_value"], row["p_adjusted"]) == (0.0, 1.0, 1.0)
        assert math.isnan(row["std_error"])
    assert {row["estimate"] for row in pick(rows, metric="churn")} == {0.0}
    assert {row["estimate"] for row in pick(rows, metric="kappa")} == {1.0}
    assert {row["estimate"] for row in pick(rows, metric="js_distance")} == {0.0}
    assert {round(row["estimate"], 12) for row in pick(rows, metric="rank_correlation")} == {1.0}
    assert {row["estimate"] for row in pick(rows, metric="psi")} == {0.0}
    # It costs the others nothing.
    with_same, without = rows_of([*looks, same]), rows_of(looks)
    for row in pick(without, metric="prevalence_change"):
        at = {name: row[name] for name in ("step", "slice", "feature", "metric")}
        assert one(with_same, **at)["p_adjusted"] == pytest.approx(row["p_adjusted"], abs=2e-3)


def test_swapping_baseline_and_look_turns_the_signs(make_looks):
    looks = make_looks(n_looks=1)
    forth, back = rows_of(looks), rows_of(looks[::-1])
    for row in pick(forth, metric="prevalence_change"):
        other = one(back, **{name: row[name] for name in ("slice", "feature", "metric")})
        assert other["estimate"] == -row["estimate"]
        assert other["p_adjusted"] == row["p_adjusted"]
        assert (other["ci_low"], other["ci_high"]) == pytest.approx((-row["ci_high"], -row["ci_low"]))


def test_a_value_that_everybody_turns_to_is_found_without_an_error(make_scored):
    """Where all differences are one, the exact sign test of the prompts speaks, adjusted by Bonferroni."""
    rng = np.random.default_rng(0)
    before = rng.random((40, 2, 2)) * 0.4
    after = before.copy()
    after[:, 0, 0] = 0.9
    after[:5, 1, 1] = 0.9
    looks = [Look(k, None, f"l{k}", make_scored(p, clusters=np.arange(40) // 2)) for k, p in enumerate((before, after))]
    rows = rows_of(looks)
    row = one(rows, metric="prevalence_change", slice="chosen", feature="x")
    exact = sign_test(np.ones(20))[1]
    assert (row["estimate"], row["p_value"]) == (1.0, pytest.approx(exact))
    # Two values in three slices are six tests.
    assert row["p_adjusted"] == pytest.approx(6 * exact)
    assert math.isnan(row["std_error"])
    row = one(rows_of(looks, planned_looks=4), metric="prevalence_change", slice="chosen", feature="x")
    assert row["p_adjusted"] == pytest.approx(24 * exact)


def test_ties_are_slices_of_their_own_in_the_same_family(make_looks):
    is_tie = np.arange(N) % 3 == 0
    rows = rows_of(make_looks(is_tie=is_tie))
    changes = pick(rows, metric="prevalence_change")
    assert {row["slice"] for row in changes} == {"chosen", "rejected", "a", "b"}
    assert {row["n"] for row in changes if row["slice"] in ("a", "b")} == {20}
    assert {row["n_clusters"] for row in changes if row["slice"] in ("a", "b")} == {20}
    assert {row["n"] for row in pick(rows, metric="prevalence_difference_change")} == {40}
    looks = make_looks(is_tie=is_tie)
    ties = np.flatnonzero(is_tie)
    moved = decisions(looks[1])[ties, 0] - decisions(looks[0])[ties, 0]
    reference = clustered_mean(moved, looks[0].scored.clusters[ties])
    row = one(changes, slice="a", feature="x", step=100)
    assert row["std_error"] == pytest.approx(reference.std_error[0], rel=1e-6)
    assert row["p_value"] == pytest.approx(reference.p_value[0], rel=1e-5)
    only_ties = rows_of(make_looks(is_tie=np.ones(N, dtype=bool)))
    assert {row["slice"] for row in only_ties} == {"a", "b"}


def test_one_family_holds_all_looks_slices_and_values_prompt_by_prompt(make_looks):
    """The influence is summed in a loop here, ties and others of a prompt in one row."""
    looks = make_looks(is_tie=np.arange(N) % 3 == 0)
    scored = looks[0].scored
    prompts = np.unique(scored.clusters).tolist()
    columns, names, n_clusters, effective = [], [], [], []
    preferred = {"chosen": (1, 0), "rejected": (0, 1), "chosen-rejected": (1, -1)}
    for is_tie, weights in ((False, preferred), (True, {"a": (1, 0), "b": (0, 1)})):
        pairs = np.flatnonzero(scored.is_tie == is_tie)
        for look in looks[1:]:
            moved = (decisions(look) - decisions(looks[0]))[pairs]
            for name, (first, second) in weights.items():
                change = first * moved[:, 0] + second * moved[:, 1]
                centred = (change - change.mean(axis=0)) / len(pairs)
                own = [centred[scored.clusters[pairs] == prompt].sum(axis=0) for prompt in prompts]
                columns.append(np.array(own))
                names += [(look.step, name, feature, change.mean(axis=0)[k]) for k, feature in enumerate("xyz")]
                n_clusters += [len(np.unique(scored.clusters[pairs]))] * 3
                own = columns[-1][np.isin(prompts, scored.clusters[pairs])]
                sizes = np.unique(scored.clusters[pairs], return_counts=True)[1]
                effective += effective_clusters(own, sizes[:, None] / len(pairs)).tolist()
    estimates = np.array([name[3] for name in names])
    influence = np.concatenate(columns, axis=1)
    reference = max_t(estimates, influence, n_clusters, effective=effective, n_draws=DRAWS)
    rows = [row for row in rows_of(looks) if row["metric"].startswith("prevalence")]
    assert len(rows) == len(names) == 45
    for j, (step, name, feature, _) in enumerate(names):
        row = one(rows, step=step, slice=name, feature=feature)
        assert row["p_adjusted"] == pytest.approx(reference.p_adjusted[j], abs=2e-3)
        assert row["ci_low"] == pytest.approx(max(reference.ci_low[j], -2.0 if "-" in name else -1.0), rel=1e-4)


def test_changes_that_are_alike_in_every_prompt_show_no_error():
    # A third of three items each: .33 - 1/3 is rounding.
    clusters = np.repeat(np.arange(10), 3)
    means, influence = influence_on_mean(np.tile([[1.0], [0.0], [0.0]], (10, 1)), clusters)
    assert means[0] == pytest.approx(1 / 3)
    assert not influence.any()


def test_subsets_are_families_of_their_own(make_looks):
    subsets = np.array(["first", "second"])[np.arange(N) // 2 % 2]
    rows = rows_of(make_looks(subsets=subsets))
    assert {row["subset"] for row in rows} == {"", "first", "second"}
    alone = rows_of(make_looks())
    at = {"metric": "prevalence_change", "slice": "chosen", "feature": "y", "step": 200}
    assert one(rows, subset="", **at) == one(alone, subset="", **at)
    assert {row["n"] for row in pick(rows, subset="first")} == {N // 2}


def test_pairs_that_any_look_was_trained_on_are_left_out(make_looks, make_scored):
    looks = make_looks()
    trained_on = np.arange(N) < 10
    scored = make_looks(trained_on=trained_on)[2].scored
    changed = [looks[0], looks[1], Look(200, 2.0, "other", scored)]
    assert {row["n"] for row in rows_of(changed)} == {N - 10}
    everything = make_looks(trained_on=np.ones(N, dtype=bool))
    assert rows_of(everything) == []


def test_signed_values_add_their_net_to_the_family(make_looks):
    looks = make_looks(n_labels=4, signed=True)
    rows = rows_of(looks)
    changes = {row["feature"]: row for row in pick(rows, metric="prevalence_change", slice="chosen", step=300)}
    assert list(changes) == ["x-for", "x-against", "y-for", "y-against", "x-net", "y-net"]
    net = changes["x-for"]["estimate"] - changes["x-against"]["estimate"]
    assert changes["x-net"]["estimate"] == pytest.approx(net)
    moved = decisions(looks[3])[:, 0] - decisions(looks[0])[:, 0]
    reference = clustered_mean((moved[:, 0] - moved[:, 1])[:, None], looks[0].scored.clusters)
    assert changes["x-net"]["std_error"] == pytest.approx(reference.std_error[0], rel=1e-6)
    mean = one(rows, metric="mean_probability_change", slice="chosen", step=300, feature="y-net")
    parts = [
        one(rows, **{k: mean[k] for k in ("metric", "slice", "step")}, feature=f"y-{s}") for s in ("for", "against")
    ]
    assert mean["estimate"] == pytest.approx(parts[0]["estimate"] - parts[1]["estimate"])
    assert {row["feature"] for row in pick(rows, metric="churn")} == {"x-for", "x-against", "y-for", "y-against"}


def test_spending_tests_each_look_at_its_share(make_looks):
    looks = make_looks(n_looks=3, spread=0.5)
    together, spent = rows_of(looks), rows_of(looks, planned_looks=10)
    assert {row["method"] for row in pick(spent, metric="prevalence_change")} == {"spending"}
    for row in pick(together, metric="prevalence_change"):
        other = one(spent, **{name: row[name] for name in ("step", "slice", "feature", "metric")})
        assert other["p_value"] == row["p_value"]
        assert other["p_adjusted"] >= min(row["p_adjusted"], 1.0) - 0.05
        assert other["ci_low"] <= row["ci_low"] + 1e-12
    # What was said of the first look stays said.
    early = rows_of(looks[:2], planned_looks=10)
    for row in pick(early, metric="prevalence_change"):
        later = one(spent, **{name: row[name] for name in ("step", "slice", "feature", "metric")})
        assert later["p_adjusted"] == pytest.approx(row["p_adjusted"], abs=1e-2)


def test_uncalibrated_decisions_are_marked(make_looks, make_scored):
    looks = make_looks(calibrated=False)
    rows = rows_of(looks)
    methods = {(row["metric"], row["method"]) for row in rows}
    assert ("prevalence_change", "max-t-uncalibrated") in methods
    assert ("churn", "cc-uncalibrated") in methods
    assert ("js_distance", "top1") in methods


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"pair_ids": np.array([f"q{i}" for i in range(N)])}, "pair_ids"),
        ({"clusters": np.arange(N)}, "clusters"),
        ({"dataset": "other"}, "dataset"),
        ({"slugs": ("x", "y", "w")}, "slugs"),
        ({"is_tie": np.arange(N) < 3}, "is_tie"),
    ],
)
def test_other_pairs_or_labels_are_refused(make_looks, change, message):
    looks = make_looks()
    other = make_looks(**change)
    with pytest.raises(ValueError, match=f"{message} of step-200 are not those of step-0"):
        rows_of([looks[0], other[2]])


def test_a_shuffled_look_is_refused(make_looks):
    looks = make_looks()
    with pytest.raises(ValueError, match="pair_ids"):
        rows_of([looks[0], make_looks(pair_ids=looks[0].scored.pair_ids[::-1])[1]])


def test_missing_views_looks_and_plans_are_refused(make_looks):
    looks = make_looks()
    with pytest.raises(ValueError, match="no look"):
        rows_of(looks[:1])
    with pytest.raises(ValueError, match="view nothing was not scored at step-0"):
        drift_rows(looks[0], looks[1:], "nothing")
    with pytest.raises(ValueError, match="planned"):
        rows_of(looks, planned_looks=2)
    with pytest.raises(ValueError, match="not unique"):
        rows_of([*looks, looks[1]])
