"""Do distances to a target equal hand computation, and fall whenever a value moves towards the target?"""

import numpy as np
import pytest
from scipy.spatial.distance import cdist

from audits.stats.value_distance import (
    MODES,
    basealign_distance,
    cosine_distance,
    l1_distance,
    l2_distance,
    smooth_distance,
    value_distances,
)

K = 5
RNG = np.random.default_rng(3)
V = RNG.uniform(-1, 1, (40, K))
T = np.array([1.0, 0.0, -0.5, 1.0, 0.2])


def test_textbook_distances_equal_scipy():
    for ours, name in ((l1_distance, "cityblock"), (l2_distance, "euclidean"), (cosine_distance, "cosine")):
        np.testing.assert_allclose(ours(V, T), cdist(V, T[None], name)[:, 0], rtol=1e-12)


def test_published_distance_by_hand():
    # |.5 - 1| * 1; .3 is masked; |-.4 - -.5| * .5; the fourth is masked; t = .2 counts a fifth.
    v = np.array([[0.5, 0.9, -0.4, 0.3, 0.7]])
    assert basealign_distance(v, T)[0] == pytest.approx(0.5 + 0.1 * 0.5 + 0.5 * 0.2)
    assert basealign_distance(v, T, mask=None)[0] == pytest.approx(0.5 + 0.1 * 0.5 + 0.7 + 0.5 * 0.2)
    # Its two flaws: saying nothing is free, and a first step towards the target costs.
    assert basealign_distance(np.zeros((1, K)), T)[0] == 0.0
    assert basealign_distance([[0.31, 0, 0, 0, 0]], T)[0] > basealign_distance([[0.29, 0, 0, 0, 0]], T)[0]


def test_smooth_distance_by_hand():
    w = [2.0, 1.0, 0.0, 1.0, 0.0]
    v = np.array([[0.5, 0.5, 0.9, 1.0, 0.9]])
    assert smooth_distance(v, T, w)[0] == pytest.approx(np.sqrt((2 * 0.25 + 0.25) / 4))
    assert smooth_distance(v, T)[0] == pytest.approx(l2_distance(v, T)[0] / np.sqrt(K))
    assert smooth_distance(T[None], T, w)[0] == 0.0


def violations(distance, weights):
    """Moves of one value towards the target that make the distance larger, or leave it where the weight is positive."""
    larger = stuck = 0
    rng = np.random.default_rng(0)
    for _ in range(400):
        v, t, k = rng.uniform(-1, 1, K), rng.choice([-1.0, -0.5, 0.0, 0.5, 1.0], K), rng.integers(K)
        moved = v.copy()
        moved[k] += rng.uniform(0.01, 1) * (t[k] - v[k])
        before, after = (distance(x[None], t)[0] for x in (v, moved))
        larger += after > before + 1e-15
        stuck += weights[k] > 0 and not after < before
        assert weights[k] > 0 or after == pytest.approx(before, abs=1e-15) or distance is basealign_distance
    return larger, stuck


@pytest.mark.parametrize("weights", [[1.0] * K, [0.0, 3.0, 1.0, 0.5, 0.0]])
def test_moving_any_value_towards_the_target_never_costs(weights):
    assert violations(lambda v, t: smooth_distance(v, t, weights), weights) == (0, 0)


def test_the_published_distance_fails_the_same_test():
    larger, stuck = violations(basealign_distance, [1.0] * K)
    assert larger > 5
    assert stuck > larger


def test_a_value_the_target_says_nothing_of_counts_nowhere():
    t = np.array([1.0, np.nan, 0.5, np.nan, 0.2])
    kept = [0, 2, 4]
    weights = np.array([1.0, 9.0, 2.0, 9.0, 3.0])
    expected = value_distances(V[:, kept], t[kept], weights[kept])
    found = value_distances(V, t, weights)
    assert tuple(found) == tuple(MODES)
    for name in MODES:
        np.testing.assert_array_equal(found[name], expected[name])


def test_undefined_and_wrong():
    assert np.isnan(cosine_distance(np.zeros((1, K)), T)[0])
    for bad in (
        lambda: l1_distance(V, T[:3]),
        lambda: l2_distance(V, [np.nan] * K),
        lambda: l1_distance([[np.nan]], [1]),
    ):
        with pytest.raises(ValueError, match=r"needed|finite|needs"):
            bad()
    for weights in ([-1, 1, 1, 1, 1], [0] * K, [1.0]):
        with pytest.raises(ValueError, match="weights"):
            smooth_distance(V, T, weights)
