"""Preference for length against scipy and statsmodels, and under clusters that the naive test does not see."""

import numpy as np
import pytest
import statsmodels.api as sm
from scipy import stats

from audits.stats.length_bias import length_bias


@pytest.fixture
def rng():
    return np.random.default_rng(7)


def test_single_pairs_are_the_exact_sign_test(rng):
    lengths = rng.integers(0, 12, size=(60, 2, 1))
    lengths[:, 0] += rng.integers(0, 2, size=(60, 1))
    bias = length_bias(lengths, np.arange(60))
    d = (lengths[:, 0] - lengths[:, 1])[:, 0]
    wins, n = int((d > 0).sum()), int((d != 0).sum())
    assert bias.longer.estimate[0] == wins / n
    assert bias.longer.n[0] == n
    assert bias.n_equal[0] == 60 - n
    assert bias.longer.p_value[0] == pytest.approx(stats.binomtest(wins, n).pvalue, rel=1e-12)


def test_log_ratio_is_statsmodels_clustered_mean(rng):
    lengths = rng.integers(0, 300, size=(50, 2, 1)).astype(float)
    clusters = rng.integers(0, 12, size=50)
    bias = length_bias(lengths, clusters)
    y = np.log((1 + lengths[:, 0, 0]) / (1 + lengths[:, 1, 0]))
    # statsmodels' default correction for few clusters, G / (G - 1) * (n - 1) / (n - k), with k = 1.
    fit = sm.OLS(y, np.ones(50)).fit(cov_type="cluster", cov_kwds={"groups": clusters}, use_t=True)
    assert bias.log_ratio.estimate[0] == pytest.approx(fit.params[0], rel=1e-12)
    assert bias.log_ratio.std_error[0] == pytest.approx(fit.bse[0], rel=1e-9)
    assert bias.log_ratio.n[0] == 50


def test_by_hand():
    """Three pairs, 1 against 0 words, 3 against 1, 2 against 2: two of two longer, mean log ratio 2/3 log 2."""
    bias = length_bias(np.array([[1, 0], [3, 1], [2, 2]])[:, :, None], [0, 1, 2])
    assert (bias.longer.estimate[0], bias.longer.n[0], bias.n_equal[0]) == (1.0, 2, 1)
    assert bias.longer.p_value[0] == pytest.approx(0.5)
    assert bias.log_ratio.estimate[0] == pytest.approx(2 * np.log(2) / 3)


def test_turning_the_sides_round_turns_the_bias_round(rng):
    lengths = rng.integers(0, 40, size=(80, 2, 2))
    clusters = rng.integers(0, 25, size=80)
    one, other = length_bias(lengths, clusters), length_bias(lengths[:, ::-1], clusters)
    assert np.allclose(one.longer.estimate, 1 - other.longer.estimate)
    assert np.allclose(one.longer.ci_low, 1 - other.longer.ci_high)
    assert np.allclose(one.longer.p_value, other.longer.p_value)
    assert np.allclose(one.log_ratio.estimate, -other.log_ratio.estimate)


def test_error_rate_where_pairs_of_a_prompt_agree(rng):
    """No bias, but all 8 pairs of a prompt point one way: the naive sign test finds one in most data sets."""
    clusters = np.repeat(np.arange(30), 8)
    found, naive = 0, 0
    for _ in range(150):
        sign = rng.choice([-1, 1], size=30)[clusters]
        lengths = np.stack([20 + 5 * (sign > 0), 20 + 5 * (sign < 0)], axis=1)[:, :, None]
        found += length_bias(lengths, clusters).longer.p_value[0] < 0.05
        naive += stats.binomtest(int((sign > 0).sum()), 240).pvalue < 0.05
    assert found / 150 < 0.1
    assert naive / 150 > 0.3


def test_nothing_to_compare_is_undefined():
    bias = length_bias(np.full((4, 2, 1), 3), np.arange(4))
    assert np.isnan([bias.longer.estimate[0], bias.longer.p_value[0], bias.longer.ci_low[0]]).all()
    assert (bias.n_equal[0], bias.longer.n[0], bias.log_ratio.estimate[0]) == (4, 0, 0.0)


@pytest.mark.parametrize(
    "lengths", [np.zeros((3, 2)), np.zeros((3, 3, 1)), np.full((3, 2, 1), -1.0), np.full((3, 2, 1), np.nan)]
)
def test_what_are_no_lengths(lengths):
    with pytest.raises(ValueError, match="lengths"):
        length_bias(lengths, np.arange(3))
