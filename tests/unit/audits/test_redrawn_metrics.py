import numpy as np
import pytest
from sklearn.metrics import average_precision_score, brier_score_loss, f1_score, roc_auc_score

from audits.stats.paired_bootstrap import group_weights
from audits.stats.redrawn_metrics import (
    label_ap,
    label_auroc,
    label_brier,
    label_f1,
    mean_of_defined,
    micro_f1,
    top1_accuracy,
    top1_f1,
)
from models.metrics import single_positive_metrics

NAN = np.nan


def drawn(seed=0, n=50, n_redraws=12):
    """Targets (the last label rare, some unknown), scores with ties, decisions and weights."""
    rng = np.random.default_rng(seed)
    targets = (rng.random((n, 4)) < 0.4).astype(int)
    targets[rng.random((n, 4)) < 0.1] = -1
    targets[:, 3] = np.arange(n) < 2
    scores = np.clip(np.round(rng.random((n, 4)) * 0.7 + 0.3 * targets, 1), 0, 1)
    return targets, scores, scores > 0.6, group_weights(np.arange(n) // 2, n_redraws, seed)


@pytest.mark.parametrize(
    ("ours", "theirs", "reads"),
    [
        (label_f1, f1_score, "decisions"),
        (label_ap, average_precision_score, "scores"),
        (label_auroc, roc_auc_score, "scores"),
        (label_brier, brier_score_loss, "scores"),
    ],
)
def test_every_redraw_is_scikit_learns_number_with_sample_weights(ours, theirs, reads):
    targets, scores, decisions, weights = drawn()
    read = decisions if reads == "decisions" else scores
    found = ours(read, targets, weights)
    assert found.shape == (12, 4)
    n_defined = 0
    for b, k in np.ndindex(found.shape):
        known = (targets[:, k] != -1) & (weights[b] > 0)
        truth, w = targets[known, k], weights[b, known]
        if set(truth) == {0, 1}:
            assert found[b, k] == pytest.approx(theirs(truth, read[known, k], sample_weight=w), abs=1e-12)
            n_defined += 1
        else:
            assert np.isnan(found[b, k])
    assert 36 < n_defined < 48


def test_micro_f1_is_that_of_all_entries_together():
    targets, _, decisions, weights = drawn()
    for b, value in enumerate(micro_f1(decisions, targets, weights)[:, 0]):
        known = targets != -1
        each = np.broadcast_to(weights[b][:, None], targets.shape)[known]
        assert value == pytest.approx(f1_score(targets[known], decisions[known], sample_weight=each))


def test_by_hand():
    targets = np.array([[1, 0], [0, 1], [-1, 1]])
    decisions = np.array([[True, True], [True, True], [False, False]])
    once = np.ones((1, 3))
    assert label_f1(decisions, targets, once) == pytest.approx(np.array([[2 / 3, 1 / 2]]))
    assert micro_f1(decisions, targets, once) == pytest.approx(np.array([[4 / 7]]))
    # Text 0 twice, text 1 absent: label 0 has nothing left that could be a false positive, and something unknown.
    again = np.array([[2, 0, 1]])
    assert label_f1(decisions, targets, again) == pytest.approx(np.array([[NAN, 0.0]]), nan_ok=True)
    assert label_auroc(np.array([[0.1, 0.5]] * 3), targets, once) == pytest.approx(np.array([[0.5, 0.5]]))
    assert label_brier(np.array([[0.8, 0.0]] * 3), targets, once) == pytest.approx(np.array([[0.34, 2 / 3]]))


def test_what_is_undefined_is_so_whatever_was_predicted():
    targets, scores, decisions, weights = drawn()
    for metric, one, other in ((label_f1, decisions, ~decisions), (label_ap, scores, 1 - scores)):
        assert (np.isnan(metric(one, targets, weights)) == np.isnan(metric(other, targets, weights))).all()
    nothing = np.zeros((5, 2), dtype=int)
    for metric in (label_ap, label_auroc, label_brier):
        assert np.isnan(metric(np.zeros((5, 2)), nothing, np.ones((3, 5)))).all()
    # Of positives alone every ranking is right, and says nothing.
    for metric in (label_ap, label_auroc):
        assert np.isnan(metric(np.zeros((5, 2)), nothing + 1, np.ones((3, 5)))).all()


def test_single_positives_are_the_projects_numbers_on_the_redrawn_texts():
    rng = np.random.default_rng(1)
    targets = np.full((40, 3), -1)
    targets[np.arange(40), rng.integers(3, size=40)] = 1
    # Two labels, and none: not single positives.
    targets[0], targets[1] = (1, 1, -1), -1
    scores, weights = rng.random((40, 3)), group_weights(np.arange(40), 10, 2)
    accuracy, f1 = top1_accuracy(scores, targets, weights), top1_f1(scores, targets, weights)
    for b, counts in enumerate(weights):
        rows = np.repeat(np.arange(40), counts)
        found = single_positive_metrics(scores[rows], targets[rows], "abc")
        assert accuracy[b, 0] == pytest.approx(found["top1_accuracy"])
        assert f1[b] == pytest.approx([found[f"f1_top1/{label}"] for label in "abc"])
        listed = np.array([((targets[rows] == 1) & (np.isin(rows, (0, 1)) == 0)[:, None]).sum(axis=0)])
        assert mean_of_defined(f1[[b]], listed) == pytest.approx([found["f1_top1_weighted"]])


def test_mean_of_defined_by_hand():
    values = np.array([[1.0, NAN, 0.5], [NAN, NAN, NAN]])
    assert mean_of_defined(values) == pytest.approx([0.75, NAN], nan_ok=True)
    assert mean_of_defined(values, np.array([[3.0, 9.0, 1.0]] * 2)) == pytest.approx([3.5 / 4, NAN], nan_ok=True)
