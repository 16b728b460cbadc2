"""Are signed values scored as scikit-learn does, value by value, and their averages as by hand?"""

import numpy as np
import pytest
from sklearn.metrics import accuracy_score, cohen_kappa_score, f1_score

from audits.stats.redrawn_metrics import label_f1
from audits.stats.signed_outcomes import (
    AGAINST,
    AVERAGES,
    FOR,
    NEITHER,
    signed_outcomes,
    signed_scores,
    signed_slugs,
)

LABELS = ("power-for", "power-against", "duty-for", "duty-against")


@pytest.fixture
def drawn():
    """Outcomes of 60 texts and 4 values, some unknown; decisions agree oftener than by chance."""
    rng = np.random.default_rng(0)
    truth = rng.choice(3, size=(60, 4), p=(0.15, 0.55, 0.3))
    decided = np.where(rng.random(truth.shape) < 0.5, truth, rng.choice(3, size=truth.shape))
    truth[:7, 1] = -1
    truth[:, 3] = np.where(truth[:, 3] == AGAINST, NEITHER, truth[:, 3])
    return decided, truth


def ones(truth):
    return np.ones((1, len(truth)))


def test_values_are_scored_as_by_scikit_learn(drawn):
    decided, truth = drawn
    found = signed_scores(decided, truth, ones(truth))
    for k in range(4):
        known = truth[:, k] >= 0
        y, p = truth[known, k], decided[known, k]
        f1 = f1_score(y, p, labels=[AGAINST, FOR], average=None, zero_division=np.nan)
        assert found.f1_for[0, k] == pytest.approx(f1[1])
        # Nobody is against the last value, so that nothing could be found.
        assert np.isnan(found.f1_against[0, k]) if k == 3 else found.f1_against[0, k] == pytest.approx(f1[0])
        assert found.kappa[0, k] == pytest.approx(cohen_kappa_score(y, p, labels=[0, 1, 2]))
        linear = cohen_kappa_score(y, p, labels=[0, 1, 2], weights="linear")
        assert found.kappa_linear[0, k] == pytest.approx(linear)
        assert found.accuracy[0, k] == pytest.approx(accuracy_score(y, p))
    averages = found.averages()
    assert tuple(averages) == AVERAGES
    assert averages["f1_against_macro"][0] == pytest.approx(found.f1_against[0, :3].mean())
    assert averages["kappa_macro"][0] == pytest.approx(found.kappa[0].mean())


def test_a_redraw_is_the_same_texts_so_often(drawn):
    decided, truth = drawn
    weights = np.random.default_rng(1).integers(0, 4, size=(3, len(truth)))
    found = signed_scores(decided, truth, weights)
    for b in range(3):
        rows = np.repeat(np.arange(len(truth)), weights[b])
        alone = signed_scores(decided[rows], truth[rows], ones(rows))
        for name, values in alone.averages().items():
            assert found.averages()[name][b] == pytest.approx(values[0])
        assert found.kappa_linear[b] == pytest.approx(alone.kappa_linear[0])


def test_pooled_kappa_by_hand():
    # First value: 3 of 4 agree, by chance 1/2; second: 4 of 4 agree, by chance 10/16.
    truth = np.array([[2, 1], [2, 1], [1, 1], [1, 0]])
    decided = np.array([[2, 1], [1, 1], [1, 1], [1, 0]])
    found = signed_scores(decided, truth, ones(truth))
    assert found.kappa[0] == pytest.approx([1 - 0.25 / 0.5, 1.0])
    assert found.kappa_pooled[0] == pytest.approx(1 - 0.25 / (0.5 + 6 / 16))


def test_for_taken_for_against_is_twice_as_far_off():
    truth = np.array([[2], [2], [0], [0]])
    near, far = (np.array([[2], [other], [0], [0]]) for other in (NEITHER, AGAINST))
    near, far = (signed_scores(decided, truth, ones(truth)) for decided in (near, far))
    assert near.kappa_linear[0, 0] == pytest.approx(1 - 0.125 / 0.5)
    assert far.kappa_linear[0, 0] == pytest.approx(1 - 0.25 / 0.5)
    # Without weights both errors are whole ones, and only what chance gives differs.
    assert near.kappa[0, 0] == pytest.approx(1 - 0.25 / 0.625)
    assert far.kappa[0, 0] == pytest.approx(1 - 0.25 / 0.5)


def test_one_table_of_all_values_would_praise_their_frequencies():
    """Draws at each value's own frequency agree with the truth by chance alone."""
    rng = np.random.default_rng(3)
    rates = np.array([0.05, 0.9])
    truth, decided = (np.where(rng.random((4000, 2)) < rates, FOR, NEITHER) for _ in range(2))
    found = signed_scores(decided, truth, ones(truth))
    assert abs(found.kappa_pooled[0]) < 0.04
    assert abs(found.kappa_linear_pooled[0]) < 0.04
    assert cohen_kappa_score(truth.ravel(), decided.ravel()) > 0.6


def test_what_is_undefined_depends_on_the_truth_alone():
    truth = np.full((5, 1), NEITHER)
    for decided in (truth, np.array([[FOR], [AGAINST], [NEITHER], [FOR], [NEITHER]])):
        found = signed_scores(decided, truth, ones(truth))
        assert np.isnan([*found.f1_for[0], *found.f1_against[0], *found.kappa[0], found.kappa_pooled[0]]).all()
        assert np.isfinite(found.accuracy).all()
    unknown = signed_scores(truth, np.full((5, 1), -1), ones(truth))
    assert np.isnan(unknown.accuracy).all()


def test_signs_are_the_labels_of_the_value(drawn):
    """F1 of a sign is that of its label, as the per-value table has it."""
    decided, truth = (table[:, :2] for table in drawn)
    states = [np.stack([t == FOR, t == AGAINST], axis=2).reshape(len(t), 4).astype(int) for t in (decided, truth)]
    states[1][np.repeat(truth == -1, 2, axis=1)] = -1
    found = signed_scores(signed_outcomes(states[0] == 1, LABELS), signed_outcomes(states[1], LABELS), ones(truth))
    f1 = label_f1(states[0] == 1, states[1], ones(truth))[0]
    assert found.f1_for[0] == pytest.approx(f1[[0, 2]])
    assert found.f1_against[0] == pytest.approx(f1[[1, 3]])


def test_outcomes_of_labels_in_any_order():
    labels = ("duty-against", "power-for", "power-against", "duty-for")
    states = np.array([[0, 1, 0, 1], [1, 0, 1, 0], [-1, 0, 0, 0], [0, 0, 0, -1]])
    assert signed_slugs(labels) == ("power", "duty")
    assert signed_outcomes(states, labels).tolist() == [[FOR, FOR], [AGAINST, AGAINST], [NEITHER, -1], [NEITHER, -1]]
    assert signed_outcomes(states == 1, labels)[2].tolist() == [NEITHER, NEITHER]


@pytest.mark.parametrize("labels", [("power", "duty"), ("power-for",), ("a-for", "b-against"), ("a-for", "a-for"), ()])
def test_other_labels_are_not_signed(labels):
    assert signed_slugs(labels) == ()
    with pytest.raises(ValueError, match="pairs"):
        signed_outcomes(np.zeros((2, len(labels))), labels)


def test_held_and_opposed_at_once_is_refused():
    with pytest.raises(ValueError, match="held and opposed"):
        signed_outcomes(np.array([[1, 1, 0, 0]]), LABELS)
