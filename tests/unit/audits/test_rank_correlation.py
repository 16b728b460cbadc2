"""Is the rank correlation Spearman's, and does its interval know that items share a prompt?"""

import numpy as np
import pytest
from scipy import stats

from audits.stats.rank_correlation import _spearman, clustered_spearman, redrawn_clusters

RNG = np.random.default_rng(1)


def test_equals_scipy_with_ties():
    x, y = RNG.integers(0, 6, 80), RNG.integers(0, 9, 80)
    found = clustered_spearman(x, y, np.arange(80), n_draws=200)
    assert found.estimate == pytest.approx(stats.spearmanr(x, y).statistic, abs=1e-12)
    assert (found.n, found.n_clusters, found.n_draws) == (80, 80, 200)
    assert found.ci_low < found.estimate < found.ci_high


def test_a_draw_equals_scipy_on_the_repeated_items():
    x, y = RNG.integers(0, 5, 30).astype(float), RNG.normal(size=30)
    weights = RNG.multinomial(30, np.full(30, 1 / 30), 4).astype(float)
    for row, rho in zip(weights, _spearman(x, y, weights), strict=True):
        repeated = [np.repeat(v, row.astype(int)) for v in (x, y)]
        assert rho == pytest.approx(stats.spearmanr(*repeated).statistic, abs=1e-12)


def test_clusters_of_copies_are_as_sure_as_their_number_and_items_are_not():
    # 40 prompts with 10 equal answers each: the interval is that of 40 items, the naive one of 400 is far too narrow.
    x, y = RNG.normal(size=40), RNG.normal(size=40)
    prompts = np.repeat(np.arange(40), 10)
    right = clustered_spearman(np.repeat(x, 10), np.repeat(y, 10), prompts)
    single = clustered_spearman(x, y, np.arange(40))
    naive = clustered_spearman(np.repeat(x, 10), np.repeat(y, 10), np.arange(400))
    assert right.estimate == pytest.approx(single.estimate)
    assert (right.ci_low, right.ci_high) == pytest.approx((single.ci_low, single.ci_high))
    assert naive.ci_high - naive.ci_low < 0.5 * (right.ci_high - right.ci_low)


def test_order_of_the_items_does_not_matter():
    x, y, prompts = RNG.normal(size=50), RNG.normal(size=50), RNG.integers(0, 12, 50)
    order = np.argsort(prompts, kind="stable")
    found, ordered = (clustered_spearman(x[k], y[k], prompts[k], n_draws=100) for k in (np.arange(50), order))
    numbers = [(r.estimate, r.ci_low, r.ci_high, r.std_error) for r in (found, ordered)]
    assert numbers[0] == pytest.approx(numbers[1])


def test_interval_covers_the_true_correlation():
    def covered(clustered):
        hits = 0
        for seed in range(100):
            rng = np.random.default_rng(seed)
            shared = rng.normal(size=(60, 2))
            items = np.repeat(shared, 5, axis=0) + 0.3 * rng.normal(size=(300, 2))
            labels = np.repeat(np.arange(60), 5) if clustered else np.arange(300)
            found = clustered_spearman(items[:, 0], items[:, 1], labels, n_draws=150, seed=seed)
            hits += found.ci_low <= 0 <= found.ci_high
        return hits

    assert covered(True) >= 88
    assert covered(False) <= 75


def test_undefined_and_wrong():
    constant = clustered_spearman([1, 1, 1], [1, 2, 3], [0, 1, 2])
    assert np.isnan(constant.estimate)
    assert np.isnan(constant.ci_low)
    one = clustered_spearman([1, 2, 3], [1, 3, 2], [0, 0, 0])
    assert one.estimate == pytest.approx(0.5)
    assert np.isnan(one.ci_low)
    assert one.n_clusters == 1
    missing = clustered_spearman([1, np.nan, 3, 4], [1, 2, np.nan, 4], [0, 1, 2, 3])
    assert missing.n == 2
    assert clustered_spearman([], [], []).n == 0
    with pytest.raises(ValueError, match="needed"):
        clustered_spearman([1, 2], [1], [0, 1])


def test_draws_do_not_depend_on_the_block():
    whole = np.concatenate(list(redrawn_clusters(10, 10, 30, 7)))
    pieces = np.concatenate(list(redrawn_clusters(10, 1_000_000, 30, 7)))
    np.testing.assert_array_equal(whole, pieces)
    assert (whole.sum(axis=1) == 10).all()
