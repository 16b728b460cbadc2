"""Are clustered means, ratios and rates right on cases small enough for pencil and paper?"""

import math

import numpy as np
import pytest
from scipy import stats

from audits.stats.clustered import clustered_mean, clustered_rate, clustered_ratio


def test_mean_of_two_clusters_by_hand():
    # mean 4; residuals -3 -1 | 1 3; cluster sums -4, 4; var = 2/1 * 32 / 16 = 4
    e = clustered_mean([[1.0], [3.0], [5.0], [7.0]], ["a", "a", "b", "b"])
    t = stats.t.ppf(0.975, 1)
    assert (e.estimate[0], e.std_error[0], e.n[0], e.n_clusters[0]) == (4.0, pytest.approx(2.0), 4, 2)
    assert (e.ci_low[0], e.ci_high[0]) == (pytest.approx(4 - 2 * t), pytest.approx(4 + 2 * t))
    assert e.p_value[0] == pytest.approx(2 * stats.t.sf(2, 1))


def test_missing_items_leave_their_column_only():
    e = clustered_mean([[1.0, 1.0], [3.0, np.nan], [5.0, 2.0], [np.nan, np.nan]], [0, 0, 1, 2])
    assert e.estimate.tolist() == [3.0, 1.5]
    assert e.n.tolist() == [3, 2]
    assert e.n_clusters.tolist() == [2, 2]


def test_order_and_cluster_names_do_not_matter():
    rng = np.random.default_rng(0)
    values, clusters = rng.random((50, 3)), rng.integers(0, 12, 50)
    shuffle = rng.permutation(50)
    one = clustered_mean(values, clusters)
    other = clustered_mean(values[shuffle], np.array([f"c{c}" for c in clusters[shuffle]]))
    np.testing.assert_allclose(one.std_error, other.std_error, rtol=1e-12)


@pytest.mark.parametrize(
    ("values", "clusters", "estimate", "n"),
    [
        ([[0.2], [0.4]], [7, 7], 0.3, 2),  # one cluster
        ([[0.1], [0.1], [0.1]], [0, 1, 2], 0.1, 3),  # no variation; .1 is no exact float
        ([[0.0], [0.0]], [0, 1], 0.0, 2),
        ([[0.0], [1.0], [0.0], [1.0]], [0, 0, 1, 1], 0.5, 4),  # variation inside clusters only
    ],
)
def test_an_error_that_cannot_be_seen_is_nan_not_zero(values, clusters, estimate, n):
    e = clustered_mean(values, clusters)
    assert (e.estimate[0], e.n[0]) == (pytest.approx(estimate), n)
    for field in (e.std_error, e.ci_low, e.ci_high, e.p_value):
        assert math.isnan(field[0])


@pytest.mark.parametrize("values", [np.empty((0, 2)), np.full((3, 2), np.nan)])
def test_no_items_give_nan_and_zero_counts(values):
    e = clustered_mean(values, np.arange(len(values)))
    assert np.isnan(e.estimate).all()
    assert np.isnan(e.std_error).all()
    assert e.n.tolist() == e.n_clusters.tolist() == [0, 0]


def test_a_small_but_real_variation_is_not_taken_for_rounding():
    values = np.zeros((100_000, 1))
    values[0] = 1
    e = clustered_mean(values, np.arange(100_000))
    assert e.std_error[0] == pytest.approx(1e-5, rel=1e-4)


def test_shape_and_finiteness_are_checked():
    with pytest.raises(ValueError, match="clusters"):
        clustered_mean([[1.0], [2.0]], [1])
    with pytest.raises(ValueError, match=r"n, k"):
        clustered_mean([1.0, 2.0], [1, 2])
    with pytest.raises(ValueError, match="finite"):
        clustered_mean([[np.inf], [1.0]], [1, 2])


def test_ratio_by_hand():
    # 6 / 4; residuals 1 - 1.5 | 5 - 4.5 -> -.5, .5; var = 2 * .5 / 16
    e = clustered_ratio([[1.0], [5.0]], [[1.0], [3.0]], [0, 1])
    assert e.estimate[0] == 1.5
    assert e.std_error[0] == pytest.approx(0.25)
    assert math.isnan(clustered_ratio([[1.0], [5.0]], [[0.0], [0.0]], [0, 1]).estimate[0])


def test_rate_of_zero_and_one_has_an_interval_but_no_error():
    e = clustered_rate(np.array([[0, 1]] * 20), np.repeat(np.arange(10), 2))
    z = stats.t.ppf(0.975, 9)
    assert e.estimate.tolist() == [0.0, 1.0]
    assert np.isnan(e.std_error).all()
    assert (e.ci_low[0], e.ci_high[1]) == (0.0, 1.0)
    assert e.ci_high[0] == pytest.approx(z**2 / (10 + z**2))  # Wilson at 0 of 10 clusters, not of 20 items
    assert e.ci_low[1] == pytest.approx(1 - e.ci_high[0])


def test_rate_interval_stays_inside_and_rate_has_no_p_value():
    events = np.zeros((30, 1))
    events[3] = 1
    e = clustered_rate(events, np.arange(30))
    assert 0 < e.ci_low[0] < 1 / 30 < e.ci_high[0]
    assert clustered_mean(events, np.arange(30)).ci_low[0] < 0
    assert math.isnan(e.p_value[0])


def test_rate_of_one_cluster_has_no_interval():
    e = clustered_rate([[0.0], [0.0]], [3, 3])
    assert e.estimate[0] == 0
    assert math.isnan(e.ci_low[0])
    assert math.isnan(e.ci_high[0])


def test_rate_needs_events():
    with pytest.raises(ValueError, match="0 and 1"):
        clustered_rate([[0.5]], [0])
