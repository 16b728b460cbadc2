"""Do clustered intervals equal their references, and cover what they promise?"""

import numpy as np
import pytest
import statsmodels.api as sm
from scipy import stats
from statsmodels.stats.proportion import proportion_confint

from audits.stats.clustered import clustered_mean, clustered_rate, clustered_ratio, t_quantile

EXACT = 1e-10  # same formula in another order of summation


def cluster_sample(rng: np.random.Generator, n_clusters: int) -> tuple[np.ndarray, np.ndarray]:
    """0/1 items in clusters of 1, 2 or 8; large clusters have a higher rate, so sizes matter. Truth: see TRUTH."""
    kind = rng.integers(0, 3, n_clusters)
    size = np.array([1, 2, 8])[kind]
    rate = rng.beta(0.3, 0.3, n_clusters) * 0.4 + np.array([0.1, 0.2, 0.4])[kind]
    clusters = np.repeat(np.arange(n_clusters), size)
    return (rng.random(len(clusters)) < rate[clusters]).astype(float), clusters


# Item-weighted: sizes 1, 2, 8 equally often, rates .3, .4, .6.
TRUTH = (1 * 0.3 + 2 * 0.4 + 8 * 0.6) / 11


@pytest.mark.parametrize("seed", range(3))
def test_mean_equals_ols_on_a_constant_with_cluster_errors(seed):
    rng = np.random.default_rng(seed)
    n = 300
    values, clusters = rng.normal(size=(n, 4)), rng.integers(0, 40, n)
    values += rng.normal(size=(40, 4))[clusters]
    ours = clustered_mean(values, clusters)
    for k in range(4):
        fit = sm.OLS(values[:, k], np.ones(n)).fit(
            cov_type="cluster", cov_kwds={"groups": clusters, "use_correction": True, "df_correction": True}, use_t=True
        )
        # For one regressor the small-sample factor G/(G-1) (n-1)/(n-k) is G/(G-1).
        assert ours.estimate[k] == pytest.approx(fit.params[0], rel=EXACT)
        assert ours.std_error[k] == pytest.approx(fit.bse[0], rel=EXACT)
        assert ours.p_value[k] == pytest.approx(fit.pvalues[0], rel=1e-8)
        assert (ours.ci_low[k], ours.ci_high[k]) == pytest.approx(tuple(fit.conf_int()[0]), rel=1e-8)


def test_singleton_clusters_equal_the_unclustered_t_interval():
    values = np.random.default_rng(0).normal(size=(50, 3))
    ours = clustered_mean(values, np.random.default_rng(1).permutation(50))
    np.testing.assert_allclose(ours.std_error, stats.sem(values, axis=0), rtol=EXACT)
    reference = stats.ttest_1samp(values, 0)
    np.testing.assert_allclose(ours.p_value, reference.pvalue, rtol=1e-8)
    low, high = reference.confidence_interval(0.95)
    np.testing.assert_allclose([ours.ci_low, ours.ci_high], [low, high], rtol=1e-8)


def test_clusters_of_equal_size_equal_the_t_interval_of_cluster_means():
    values = np.random.default_rng(0).normal(size=(60, 2))
    ours = clustered_mean(values, np.repeat(np.arange(20), 3))
    means = values.reshape(20, 3, 2).mean(axis=1)
    np.testing.assert_allclose(ours.std_error, stats.sem(means, axis=0), rtol=EXACT)


def test_ratio_with_an_indicator_equals_the_mean_of_the_subset():
    rng = np.random.default_rng(0)
    values, inside, clusters = rng.random((80, 1)), rng.random((80, 1)) < 0.6, rng.integers(0, 15, 80)
    ratio = clustered_ratio(values * inside, inside, clusters)
    subset = clustered_mean(values[inside[:, 0]], clusters[inside[:, 0]])
    for field in ("estimate", "std_error", "p_value", "n", "n_clusters"):
        np.testing.assert_allclose(getattr(ratio, field), getattr(subset, field), rtol=EXACT)


def test_rate_interval_is_wilsons_with_effective_items_and_t_quantile():
    values, clusters = cluster_sample(np.random.default_rng(0), 60)
    ours = clustered_rate(values[:, None], clusters)
    rate, g = ours.estimate[0], int(ours.n_clusters[0])
    effective = rate * (1 - rate) / ours.std_error[0] ** 2
    assert effective < len(values)
    alpha = 2 * stats.norm.sf(t_quantile(g, 0.95))
    low, high = proportion_confint(rate * effective, effective, alpha=alpha, method="wilson")
    assert (ours.ci_low[0], ours.ci_high[0]) == pytest.approx((low, high), rel=1e-9)


def test_rate_and_mean_agree_on_point_and_error():
    values, clusters = cluster_sample(np.random.default_rng(1), 50)
    rate, mean = clustered_rate(values[:, None], clusters), clustered_mean(values[:, None], clusters)
    assert (rate.estimate[0], rate.std_error[0]) == (mean.estimate[0], mean.std_error[0])


def test_coverage_of_correlated_items_and_what_ignoring_clusters_costs():
    rng = np.random.default_rng(20)
    repetitions = 1000
    covered = {"clustered": 0, "wilson": 0, "ignored": 0}
    for _ in range(repetitions):
        values, clusters = cluster_sample(rng, 300)
        column = values[:, None]
        intervals = {
            "clustered": clustered_mean(column, clusters),
            "wilson": clustered_rate(column, clusters),
            "ignored": clustered_mean(column, np.arange(len(values))),
        }
        for name, e in intervals.items():
            covered[name] += bool(e.ci_low[0] <= TRUTH <= e.ci_high[0])
    share = {name: count / repetitions for name, count in covered.items()}
    # Three standard errors of a simulated .95 are .021.
    assert 0.93 <= share["clustered"] <= 0.97, share
    assert 0.93 <= share["wilson"] <= 0.97, share
    assert share["ignored"] < 0.90, share


def test_coverage_of_a_rare_value_holds_for_the_rate_and_not_for_the_mean():
    rng = np.random.default_rng(21)
    n, truth, repetitions = 60, 0.03, 2000
    events = (rng.random((n, repetitions)) < truth).astype(float)
    rate, mean = clustered_rate(events, np.arange(n)), clustered_mean(events, np.arange(n))
    inside = [np.mean((e.ci_low <= truth) & (truth <= e.ci_high)) for e in (rate, mean)]
    assert inside[0] > 0.93, inside
    assert inside[1] < 0.88, inside


def test_false_alarms_of_the_paired_difference_are_kept():
    """Under a true null with flips shared inside dialogues of six, 5% of clustered p-values are below .05."""
    rng = np.random.default_rng(22)
    repetitions, n_clusters = 1500, 80
    shared = rng.choice([-1.0, 0.0, 1.0], size=(n_clusters, repetitions), p=[0.1, 0.8, 0.1])
    own = rng.choice([-1.0, 0.0, 1.0], size=(6 * n_clusters, repetitions), p=[0.05, 0.9, 0.05])
    clusters = np.repeat(np.arange(n_clusters), 6)
    values = np.where(rng.random(own.shape) < 0.7, shared[clusters], own)
    clustered, ignored = clustered_mean(values, clusters), clustered_mean(values, np.arange(len(values)))
    assert 0.03 <= np.mean(clustered.p_value < 0.05) <= 0.075
    assert np.mean(ignored.p_value < 0.05) > 0.15
