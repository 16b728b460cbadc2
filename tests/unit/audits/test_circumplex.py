"""Is the fit to a circle that of Hubert and Arabie, exact over all orders, and honest about clusters?"""

import itertools

import numpy as np
import pytest
from scipy import stats

from audits.stats.circumplex import circle_orders, circular_distances, circumplex_fit, correspondence

SIX = np.arange(6.0)


def on_a_circle(n, places, circumference, noise, seed=0):
    """Measures whose correlation falls with their distance around the circle."""
    rng = np.random.default_rng(seed)
    angles = 2 * np.pi * np.asarray(places) / circumference
    loadings = np.stack([np.cos(angles), np.sin(angles)])
    return rng.normal(size=(n, 2)) @ loadings + noise * rng.normal(size=(n, len(places)))


def test_distances_take_the_shorter_way():
    np.testing.assert_array_equal(circular_distances([0, 1, 5, 3], 6)[0], [0, 1, 1, 3])
    np.testing.assert_array_equal(circular_distances([6, 6, 0], 9), [[0, 0, 3], [0, 0, 3], [3, 3, 0]])


def test_riasec_has_72_predictions_and_60_orders():
    # Rounds and Tracey: six types on a circle make 72 order predictions; 6! = 720 orders are 60 distinct ones.
    d = circular_distances(SIX, 6)[np.triu_indices(6, 1)]
    assert sum(a < b for a in d for b in d) == 72
    orders, exact = circle_orders(tuple(SIX), 6.0)
    assert (len(orders), exact) == (60, True)
    assert len({tuple(circular_distances(order, 6)[np.triu_indices(6, 1)]) for order in orders}) == 60
    assert len(circle_orders(tuple(np.arange(10.0)), 10.0)[0]) == 181_440


def test_a_perfect_circle_has_index_one_and_the_least_p_value():
    # Angles between neighbours are all alike, so correlations are a decreasing function of distance.
    fit = circumplex_fit(on_a_circle(4000, SIX, 6, 0.3), SIX, 6, np.arange(4000))
    index = fit.statistics["correspondence"]
    assert index.estimate == 1.0
    assert index.p_value == 1 / 60
    assert fit.statistics["pearson"].estimate < -0.9
    assert fit.exact
    assert fit.n_orders == 60
    assert not fit.reason


def test_correspondence_by_hand():
    # Four values on a circle: pairs 01 02 03 12 13 23 lie 1 2 1 1 2 1 apart; 4 * 2 = 8 predictions.
    d = np.array([1.0, 2, 1, 1, 2, 1])
    r = np.array([[0.5, 0.4, 0.3, 0.4, 0.1, 0.2]])
    # 02 (.4) against .5 .3 .4 .2: one agrees, two do not, one tie; 13 (.1): four agree.
    assert correspondence(r, d)[0] == pytest.approx((5 - 2) / 8)


@pytest.mark.parametrize(("places", "circumference"), [(np.arange(5.0), 5.0), (np.array([0, 1, 2, 2, 3.0]), 4.0)])
def test_p_values_equal_brute_force_over_all_permutations(places, circumference):
    x = on_a_circle(60, places, circumference, 1.5, seed=4)
    fit = circumplex_fit(x, places, circumference, np.arange(60), n_draws=20)
    pairs = np.triu_indices(5, 1)
    r = np.corrcoef(x, rowvar=False)[pairs]
    d = circular_distances(places, circumference)

    def statistics(distances):
        closer = [(i, j) for i in range(10) for j in range(10) if distances[i] < distances[j]]
        index = sum(np.sign(r[i] - r[j]) for i, j in closer) / len(closer)
        return index, -stats.pearsonr(r, distances).statistic, -stats.spearmanr(r, distances).statistic

    observed = np.array(statistics(d[pairs]))
    every = [statistics(d[np.ix_(p, p)][pairs]) for p in itertools.permutations(range(5))]
    expected = (np.array(every) >= observed - 1e-9).mean(axis=0)
    found = [fit.statistics[name] for name in ("correspondence", "pearson", "spearman")]
    np.testing.assert_allclose([s.p_value for s in found], expected, atol=1e-12)
    np.testing.assert_allclose([found[0].estimate, -found[1].estimate, -found[2].estimate], observed, atol=1e-12)


def test_p_values_are_fair_where_there_is_no_circle():
    p = [
        circumplex_fit(np.random.default_rng(s).normal(size=(50, 6)), SIX, 6, np.arange(50), n_draws=0 + 2)
        .statistics["correspondence"]
        .p_value
        for s in range(200)
    ]
    assert 0.01 <= np.mean(np.array(p) <= 0.05) <= 0.10
    assert 0.4 < np.mean(p) < 0.62


def test_many_orders_are_drawn_and_counted_as_such():
    places = np.array([0, 1, 2, 3, 4, 5, 6, 6, 7, 8.0])
    fit = circumplex_fit(on_a_circle(300, places, 9, 0.5), places, 9, np.arange(300), n_draws=20)
    assert (fit.n_orders, fit.exact) == (20_000, False)
    assert fit.statistics["correspondence"].p_value == pytest.approx(1 / 20_001)


def test_interval_knows_the_clusters_and_an_item_interval_does_not():
    x = np.repeat(on_a_circle(60, SIX, 6, 1.0), 10, axis=0)
    right = circumplex_fit(x, SIX, 6, np.repeat(np.arange(60), 10)).statistics["pearson"]
    single = circumplex_fit(x[::10], SIX, 6, np.arange(60)).statistics["pearson"]
    naive = circumplex_fit(x, SIX, 6, np.arange(600)).statistics["pearson"]
    assert (right.estimate, right.ci_low, right.ci_high) == pytest.approx(
        (single.estimate, single.ci_low, single.ci_high)
    )
    assert naive.ci_high - naive.ci_low < 0.6 * (right.ci_high - right.ci_low)


def test_a_value_that_never_varies_is_left_out_and_the_others_keep_their_places():
    x = on_a_circle(500, SIX, 6, 0.3)
    x[:, 2] = 0.25
    fit = circumplex_fit(x, SIX, 6, np.arange(500), n_draws=50)
    assert fit.varying.tolist() == [True, True, False, True, True, True]
    assert np.isnan(fit.correlations[2]).all()
    assert np.isnan(fit.correlations[:, 2]).all()
    kept = [0, 1, 3, 4, 5]
    d = circular_distances(SIX, 6)[np.ix_(kept, kept)][np.triu_indices(5, 1)]
    r = np.corrcoef(x[:, kept], rowvar=False)[np.triu_indices(5, 1)]
    assert fit.statistics["pearson"].estimate == pytest.approx(stats.pearsonr(r, d).statistic)
    assert fit.n_orders == 120


def test_a_rare_value_drops_the_draws_in_which_it_does_not_vary():
    x = on_a_circle(80, SIX, 6, 0.5)
    x[:, 0] = np.arange(80) == 7
    fit = circumplex_fit(x, SIX, 6, np.arange(80), n_draws=200)
    assert 90 < fit.n_draws < 160
    assert np.isfinite(fit.statistics["correspondence"].ci_low)


def test_undefined_and_wrong():
    x = np.zeros((10, 6))
    x[:, :3] = np.random.default_rng(0).normal(size=(10, 3))
    fit = circumplex_fit(x, SIX, 6, np.arange(10))
    assert np.isnan(fit.statistics["correspondence"].estimate)
    assert "3 values vary" in fit.reason
    assert "0 values vary" in circumplex_fit(np.empty((0, 6)), SIX, 6, np.empty(0)).reason
    one = circumplex_fit(on_a_circle(50, SIX, 6, 1.0), SIX, 6, np.zeros(50))
    assert np.isfinite(one.statistics["correspondence"].p_value)
    assert np.isnan(one.statistics["correspondence"].ci_low)
    with pytest.raises(ValueError, match="needed"):
        circumplex_fit(x, SIX[:5], 6, np.arange(10))
    with pytest.raises(ValueError, match="finite"):
        circumplex_fit(np.full((10, 6), np.nan), SIX, 6, np.arange(10))
