"""Are simultaneous p-values and intervals those of their definition, on columns that share clusters?"""

import itertools
import math
from dataclasses import fields

import numpy as np
import pytest
from scipy import stats

from audits.stats import max_t as module
from audits.stats.clustered import cluster_sums, clustered_mean
from audits.stats.max_t import effective_clusters, max_t, spending
from audits.stats.multiplicity import bonferroni, holm

N_DRAWS = 1999


def influences(values, clusters):
    """Means [m] and cluster sums of the influence on them [G, m]."""
    means = values.mean(axis=0)
    return means, cluster_sums(values - means, clusters) / len(values)


def sample(seed=0, g=60, m=8, shift=0.0):
    """Correlated columns in clusters of one item."""
    rng = np.random.default_rng(seed)
    return rng.normal(size=(g, m)) + rng.normal(size=(g, 1)) + shift * np.arange(m)


def test_each_estimate_alone_equals_the_clustered_mean():
    rng = np.random.default_rng(1)
    clusters = rng.integers(0, 40, 200)
    values = rng.normal(size=(200, 5)) + rng.normal(size=(40, 5))[clusters]
    reference = clustered_mean(values, clusters)
    found = max_t(*influences(values, clusters), n_draws=N_DRAWS)
    np.testing.assert_allclose(found.std_error, reference.std_error, rtol=1e-12)
    np.testing.assert_allclose(found.p_value, reference.p_value, rtol=1e-9)
    np.testing.assert_allclose(found.t, reference.estimate / reference.std_error, rtol=1e-12)


def test_a_family_of_one_is_the_t_test():
    values = sample(m=1, g=200, shift=0.0) + 0.2
    found = max_t(*influences(values, np.arange(200)), n_draws=9999)
    reference = stats.ttest_1samp(values[:, 0], 0)
    assert found.p_value[0] == pytest.approx(reference.pvalue, rel=1e-9)
    p = reference.pvalue
    assert found.p_adjusted[0] == pytest.approx(p, abs=4 * math.sqrt(p * (1 - p) / 9999) + 0.002)
    interval = reference.confidence_interval(0.95)
    half = (interval.high - interval.low) / 2
    assert (found.ci_high[0] - found.ci_low[0]) / 2 == pytest.approx(half, rel=0.04)


def test_adjusted_p_values_are_the_share_of_all_sign_flips_that_reach_as_far():
    """Ten clusters have 1024 sign patterns: every one is tried here, with scipy's t of the signed sums."""
    g = 10
    means, influence = influences(sample(seed=4, g=g, m=3) + np.array([0.2, 0.6, 2.2]), np.arange(g))
    found = max_t(means, influence, n_draws=9999)
    patterns = np.array(list(itertools.product([-1, 1], repeat=g)))
    signed = patterns[:, :, None] * influence[None]
    drawn = np.abs(stats.ttest_1samp(signed, 0, axis=1).statistic).max(axis=1)
    exact = np.array([(drawn >= abs(t)).mean() for t in found.t])
    raw = 2 * stats.t.sf(np.abs(found.t), g - 1)
    expected = np.maximum(exact, raw)
    assert expected.min() < 0.2  # it is not all 1
    np.testing.assert_array_less(np.abs(found.p_adjusted - expected), 4 * np.sqrt(exact * (1 - exact) / 9999) + 2e-4)
    critical = np.quantile(drawn, 0.95)
    assert found.critical[0] == pytest.approx(critical, rel=0.03)


def test_independent_columns_have_the_critical_value_of_sidak():
    rng = np.random.default_rng(7)
    influence = rng.normal(size=(2000, 30))
    influence -= influence.mean(axis=0)
    found = max_t(np.ones(30), influence, n_draws=9999)
    sidak = stats.norm.isf((1 - 0.95 ** (1 / 30)) / 2)
    assert found.critical[0] == pytest.approx(sidak, rel=0.02)


@pytest.mark.parametrize("seed", range(4))
def test_between_the_raw_p_value_and_bonferroni(seed):
    found = max_t(*influences(sample(seed, g=300, shift=0.03), np.arange(300)), n_draws=9999, seed=seed)
    assert (found.p_adjusted >= found.p_value).all()
    slack = 4 * np.sqrt(found.p_adjusted * (1 - found.p_adjusted) / 9999) + 2e-4
    assert (found.p_adjusted <= bonferroni(found.p_value) + slack).all()
    # Columns with much in common: less is paid than by Holm for the largest t.
    best = np.argmin(found.p_value)
    assert found.p_adjusted[best] < holm(found.p_value)[best]


@pytest.mark.parametrize("planned", [None, 4])
def test_intervals_and_p_values_agree(planned):
    means, influence = influences(sample(5, g=80, m=40, shift=0.02), np.arange(80))
    looks = np.repeat(np.arange(4), 10)
    found = max_t(means, influence, n_draws=N_DRAWS)
    if planned:
        found = spending(means, influence, looks, planned, n_draws=N_DRAWS)
    is_outside = (found.ci_low > 0) | (found.ci_high < 0)
    assert 0 < is_outside.sum() < 40
    np.testing.assert_array_equal(is_outside, found.p_adjusted <= 0.05)


def test_copies_of_a_column_cost_nothing():
    one, influence = influences(sample(2, m=1), np.arange(60))
    alone = max_t(one, influence, n_draws=N_DRAWS)
    many = max_t(np.repeat(one, 5), np.repeat(influence, 5, axis=1), n_draws=N_DRAWS)
    np.testing.assert_allclose(many.p_adjusted, alone.p_adjusted[0])
    np.testing.assert_allclose(many.critical, alone.critical[0], rtol=1e-6)


def test_scale_and_clusters_without_items_do_not_matter():
    means, influence = influences(sample(3), np.arange(60))
    found = max_t(means, influence, n_draws=N_DRAWS)
    scale = np.logspace(-9, 3, 8)
    scaled = max_t(means * scale, influence * scale, n_draws=N_DRAWS)
    np.testing.assert_allclose(scaled.p_adjusted, found.p_adjusted, atol=1e-3)
    np.testing.assert_allclose(scaled.t, found.t, rtol=1e-9)
    padded = max_t(means, np.vstack([influence, np.zeros((20, 8))]), np.full(8, 60), n_draws=N_DRAWS)
    np.testing.assert_allclose(padded.p_value, found.p_value, rtol=1e-12)
    np.testing.assert_allclose(padded.p_adjusted, found.p_adjusted, atol=0.06)


def test_what_does_not_vary_is_in_no_maximum():
    means, influence = influences(sample(6, m=3, shift=0.1), np.arange(60))
    alone = max_t(means, influence, n_draws=N_DRAWS)
    none = np.zeros((60, 1))
    more = max_t(
        np.concatenate([[0.0, 0.3, np.nan], means]),
        np.hstack([none, none, influence[:, :1], influence]),
        n_draws=N_DRAWS,
    )
    assert (more.p_value[0], more.p_adjusted[0]) == (1.0, 1.0)
    for field in fields(more):
        values = getattr(more, field.name)
        assert np.isnan(values[1:3]).all(), field.name
        np.testing.assert_allclose(values[3:], getattr(alone, field.name), rtol=1e-4, atol=1e-3)
    assert math.isnan(more.std_error[0])
    nothing = max_t(np.zeros(2), np.zeros((5, 2)), n_draws=N_DRAWS)
    assert nothing.p_adjusted.tolist() == [1.0, 1.0]


@pytest.mark.parametrize("g", [0, 1, 2, 5, 8])
def test_few_clusters_are_tested_by_bonferroni(g):
    influence = np.linspace(-1, 1, g)[:, None] * np.ones((1, 3))
    found = max_t(np.full(3, 7.0), influence, n_draws=N_DRAWS)
    if g < 2:
        assert np.isnan(found.p_adjusted).all()
        assert np.isnan(found.ci_low).all()
    else:
        assert found.p_adjusted == pytest.approx(bonferroni(found.p_value))
        assert found.critical == pytest.approx(stats.t.isf(0.025 / 3, g - 1))


def test_a_column_of_three_clusters_costs_the_others_its_share_only():
    means, influence = influences(sample(12, shift=0.05), np.arange(60))
    alone = max_t(means, influence, confidence=1 - 0.05 * 8 / 9, n_draws=9999)
    few = np.zeros((60, 1))
    few[:3, 0] = [0.1, -0.2, 0.1]
    found = max_t(np.append(means, 0.3), np.hstack([influence, few]), np.append(np.full(8, 60), 3), n_draws=9999)
    np.testing.assert_allclose(found.p_adjusted[:8], np.minimum(alone.p_adjusted * 9 / 8, 1), atol=1e-3)
    np.testing.assert_allclose(found.critical[:8], alone.critical, rtol=1e-3)
    assert found.p_adjusted[8] == pytest.approx(min(1, 9 * found.p_value[8]))
    assert found.critical[8] == pytest.approx(stats.t.isf(0.025 / 9, 2))


def test_a_t_beyond_all_draws_counts_for_no_more_than_in_a_t_test():
    influence = np.linspace(-1, 1, 9)[:, None]
    error = math.sqrt(9 / 8 * (influence**2).sum())
    found = max_t([6 * error], influence, n_draws=9999)
    assert found.p_value[0] > 1e-4
    assert found.p_adjusted[0] == found.p_value[0]


def test_draws_with_all_clusters_on_one_side_are_numbers():
    influence = np.repeat([1.0, -1.0], 5)[:, None]
    found = max_t([0.5], influence, n_draws=N_DRAWS)
    assert np.isfinite([found.p_adjusted[0], found.critical[0]]).all()


def test_the_same_seed_gives_the_same_in_blocks_of_any_size(monkeypatch):
    means, influence = influences(sample(8), np.arange(60))
    one = max_t(means, influence, n_draws=N_DRAWS, seed=3)
    other = max_t(means, influence, n_draws=N_DRAWS, seed=4)
    monkeypatch.setattr(module, "BLOCK_SIGNS", 1000)
    blocks = max_t(means, influence, n_draws=N_DRAWS, seed=3)
    np.testing.assert_array_equal(one.p_adjusted, blocks.p_adjusted)
    assert (one.p_adjusted != other.p_adjusted).any()


def test_float32_influence_gives_the_same():
    means, influence = influences(sample(9, shift=0.05), np.arange(60))
    one = max_t(means, influence, n_draws=N_DRAWS)
    single = max_t(means, influence.astype(np.float32), n_draws=N_DRAWS)
    np.testing.assert_allclose(single.std_error, one.std_error, rtol=1e-6)
    np.testing.assert_allclose(single.p_adjusted, one.p_adjusted, atol=1e-3)


def test_spending_is_max_t_of_each_look_times_the_planned_looks():
    means, influence = influences(sample(10, m=12, shift=0.03), np.arange(60))
    looks = np.tile([2, 0, 1], 4)
    found = spending(means, influence, looks, 10, n_draws=9999)
    for look in range(3):
        own = looks == look
        alone = max_t(means[own], influence[:, own], confidence=0.995, n_draws=9999)
        np.testing.assert_allclose(found.p_adjusted[own], np.minimum(10 * alone.p_adjusted, 1))
        np.testing.assert_allclose(found.ci_low[own], alone.ci_low)


def test_a_look_does_not_change_when_later_ones_come():
    means, influence = influences(sample(11, m=12, shift=0.03), np.arange(60))
    looks = np.repeat([0, 1, 2], 4)
    early = spending(means[:4], influence[:, :4], looks[:4], 3, n_draws=N_DRAWS)
    late = spending(means, influence, looks, 3, n_draws=N_DRAWS)
    np.testing.assert_array_equal(early.p_adjusted, late.p_adjusted[:4])


def test_bad_input_is_refused():
    means, influence = influences(sample(), np.arange(60))
    with pytest.raises(ValueError, match="finite"):
        max_t(means, np.where(influence == influence[0, 0], np.nan, influence))
    with pytest.raises(ValueError, match=r"G, m"):
        max_t(means[:-1], influence)
    with pytest.raises(ValueError, match="too few"):
        max_t(means, influence, n_draws=10)
    with pytest.raises(ValueError, match="too few"):
        spending(means, influence, np.zeros(8), 20, n_draws=300)
    with pytest.raises(ValueError, match="planned"):
        spending(means, influence, np.arange(8), 7)


def test_clusters_of_one_size_all_count():
    _, influence = influences(sample(g=40), np.arange(40))
    np.testing.assert_allclose(effective_clusters(influence, np.full((40, 1), 1 / 40)), 40)
    assert effective_clusters(np.zeros((40, 2)), np.full((40, 1), 1 / 40)).tolist() == [40, 40]


def test_what_a_draw_leaves_of_the_squares_is_that_of_the_effective_number():
    """Means of signed items in clusters of 20 and of 2: sum of squares around the draw's mean, about Q - S^2 / G*."""
    rng = np.random.default_rng(9)
    sizes = np.repeat([20, 2], [12, 60])
    shares = sizes / sizes.sum()
    psi = shares * rng.choice([-1.0, 1.0], size=len(sizes))
    psi -= shares * psi.sum()
    signed = rng.choice([-1.0, 1.0], size=(20_000, len(sizes))) * psi
    sums = signed.sum(axis=1)
    left = ((signed - shares * sums[:, None]) ** 2).sum(axis=1)
    g = effective_clusters(psi[:, None], shares[:, None])[0]
    assert 10 < g < 16
    slope = np.polyfit(sums**2, left - (psi**2).sum(), 1)[0]
    assert slope == pytest.approx(-1 / g, rel=0.1)


def test_clusters_that_say_nothing_cost_degrees_of_freedom():
    means, influence = influences(sample(6, g=60, m=3, shift=0.2), np.arange(60))
    few = max_t(means, influence, effective=[60, 20, 4], n_draws=N_DRAWS)
    everyone = max_t(means, influence, n_draws=N_DRAWS)
    np.testing.assert_array_equal(few.std_error, everyone.std_error)
    np.testing.assert_allclose(few.p_value, 2 * stats.t.sf(np.abs(few.t), [59, 19, 3]))
    # Four have too few signs: Bonferroni by t.
    assert few.p_adjusted[2] == pytest.approx(min(1.0, 3 * few.p_value[2]))
    assert few.critical[2] == pytest.approx(stats.t.isf(0.05 / 3 / 2, 3))
