import numpy as np
import pytest

from audits.stats.paired_bootstrap import (
    Scored,
    group_weights,
    paired_bootstrap,
    weighted_macro_ap,
    weighted_macro_f1,
)
from models.metrics import multilabel_metrics


def once(n):
    """Weights of the texts as they are."""
    return np.ones((1, n), dtype=np.int64)


def test_macro_f1_by_hand():
    targets = np.array([[1, 0], [1, 0], [0, 1], [0, -1]])
    decisions = np.array([[1, 1], [0, 0], [1, 1], [0, 1]], dtype=bool)
    # Label 0: TP 1, FP 1, FN 1 -> 1/2. Label 1, its unknown entry left out: TP 1, FP 1, FN 0 -> 2/3.
    assert weighted_macro_f1(decisions, targets, once(4)) == pytest.approx([(1 / 2 + 2 / 3) / 2])
    # Text 0 twice, text 2 absent: label 0 has TP 2, FN 1 -> 4/5; label 1 has no positive left and is in no macro.
    assert weighted_macro_f1(decisions, targets, np.array([[2, 1, 0, 1]])) == pytest.approx([4 / 5])


def test_macro_f1_is_undefined_without_positives_or_without_anything_to_mistake():
    decisions = np.ones((2, 1), dtype=bool)
    assert np.isnan(weighted_macro_f1(decisions, np.array([[0], [0]]), once(2))).all()
    assert np.isnan(weighted_macro_f1(decisions, np.array([[1], [-1]]), once(2))).all()
    assert weighted_macro_f1(decisions, np.array([[1], [1]]), once(2)) == pytest.approx([1.0])


def test_macro_ap_by_hand():
    scores = np.array([[0.9], [0.8], [0.7], [0.6]])
    targets = np.array([[1], [0], [1], [0]])
    # Precision at the positives: 1 at rank 1, 2/3 at rank 3.
    assert weighted_macro_ap(scores, targets, once(4)) == pytest.approx([(1 + 2 / 3) / 2])
    # Text 0 absent, text 2 twice: precision 2/3 after the negative and the two, which are one step.
    assert weighted_macro_ap(scores, targets, np.array([[0, 1, 2, 1]])) == pytest.approx([2 / 3])
    # All scores equal: the share of positives. Only positives: undefined.
    assert weighted_macro_ap(np.zeros((4, 1)), targets, once(4)) == pytest.approx([0.5])
    assert np.isnan(weighted_macro_ap(scores, targets, np.array([[1, 0, 1, 0]]))).all()


def test_replicates_equal_the_projects_metrics_on_redrawn_texts():
    rng = np.random.default_rng(3)
    n, labels = 40, ("a", "b", "c", "d")
    # Label d has two positives, so that it is missing from some replicates; scores are rounded, so that some are equal.
    targets = (rng.random((n, 4)) < 0.4).astype(int)
    targets[rng.random((n, 4)) < 0.1] = -1
    targets[:, 3] = np.arange(n) < 2
    scores = np.round(rng.random((n, 4)) + 0.3 * targets, 1)
    decisions = scores > 0.6
    weights = group_weights(np.arange(n), 30, seed=1)
    f1, ap = weighted_macro_f1(decisions, targets, weights), weighted_macro_ap(scores, targets, weights)
    n_scored = []
    for b, counts in enumerate(weights):
        rows = np.repeat(np.arange(n), counts)
        zeros = np.zeros((len(rows), 4))
        metrics = multilabel_metrics(zeros, decisions[rows], targets[rows], labels, scores=scores[rows])
        assert f1[b] == pytest.approx(metrics["f1_macro"])
        assert ap[b] == pytest.approx(metrics["ap_macro"], abs=1e-6)
        n_scored.append(metrics["n_values_scored"])
    assert set(n_scored) == {3.0, 4.0}


def test_groups_are_drawn_whole():
    groups = np.array([0, 0, 1, 2, 2, 2])
    weights = group_weights(groups, 500, seed=0)
    assert (weights[:, 0] == weights[:, 1]).all()
    assert (weights[:, 3] == weights[:, 5]).all()
    assert (weights[:, [0, 2, 3]].sum(axis=1) == 3).all()
    assert weights.mean(axis=0) == pytest.approx(np.ones(6), abs=0.15)
    assert (weights == group_weights(groups, 500, seed=0)).all()
    assert (weights != group_weights(groups, 500, seed=1)).any()


def test_difference_and_interval_of_a_run_against_itself_and_against_its_opposite():
    rng = np.random.default_rng(0)
    targets = (rng.random((60, 2)) < 0.5).astype(int)
    right = Scored(targets.astype(float), targets == 1)
    wrong = Scored(1.0 - targets, targets == 0)
    same = paired_bootstrap(right, right, targets, np.arange(60), 200)
    assert [(i.estimate, i.low, i.high, i.n_replicates) for i in same.values()] == [(0.0, 0.0, 0.0, 200)] * 2
    # F1 is 1 against 0 in every replicate; AP is 1 against the share of positives or less.
    opposite = paired_bootstrap(right, wrong, targets, np.arange(60), 200)
    assert (opposite["f1_macro"].estimate, opposite["f1_macro"].low, opposite["f1_macro"].high) == (1.0, 1.0, 1.0)
    assert 0 < opposite["ap_macro"].low < opposite["ap_macro"].estimate < opposite["ap_macro"].high < 1


def test_interval_is_the_binomial_one_where_that_is_known():
    # Label on everywhere, so F1 = 2p / (1 + p) with p the share of positives: over all n, a run that is always right
    # beats it by 1 - F1. Redrawing 400 texts half of them positive, p has standard error .025.
    targets = np.repeat([[0], [1]], 200, axis=0)
    always = Scored(np.zeros((400, 1)), np.ones((400, 1), dtype=bool))
    right = Scored(targets.astype(float), targets == 1)
    found = paired_bootstrap(right, always, targets, np.arange(400), 4000)["f1_macro"]
    low, high = (1 - 2 * p / (1 + p) for p in (0.5 + 1.96 * 0.025, 0.5 - 1.96 * 0.025))
    assert found.estimate == pytest.approx(1 - 2 / 3)
    assert (found.low, found.high) == pytest.approx((low, high), abs=0.006)
    # As ten groups of 40 equal texts the same texts say far less: standard error sqrt(.25 / 10).
    clustered = paired_bootstrap(right, always, targets, np.arange(400) // 40, 4000)["f1_macro"]
    assert clustered.high - clustered.low > 2.5 * (found.high - found.low)


def test_nothing_scored_is_nan_and_not_zero():
    nothing = Scored(np.zeros((3, 1)), np.zeros((3, 1), dtype=bool))
    found = paired_bootstrap(nothing, nothing, np.zeros((3, 1), dtype=int), np.arange(3), 10)["f1_macro"]
    assert np.isnan([found.estimate, found.low, found.high]).all()
    assert found.n_replicates == 0
