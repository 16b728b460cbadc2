"""Are slopes, errors and names of bad columns right, and equal to statsmodels?"""

import numpy as np
import pytest
import statsmodels.api as sm
from statsmodels.stats.outliers_influence import variance_inflation_factor

from audits.stats.ols import (
    INTERCEPT,
    CollinearError,
    collinear_columns,
    constant_columns,
    ols,
    standardised,
    undefined,
    with_terms,
)

EXACT = 1e-10  # same formula, another factorisation
NAMES = ("a", "b", "c")


@pytest.fixture
def sample():
    """150 rows in 30 clusters, correlated columns on different scales."""
    rng = np.random.default_rng(3)
    n, clusters = 150, np.repeat(np.arange(30), 5)
    x = rng.normal(size=(n, 3)) @ np.array([[1, 0.5, 0], [0, 1, 0.3], [0, 0, 1]]) * [1, 100, 0.01] + [5, -300, 0]
    x += rng.normal(size=(30, 3))[clusters]
    y = x @ [1.0, 0.02, -30] + 2 + rng.normal(size=n) + rng.normal(size=30)[clusters]
    return x, y, clusters


def assert_equal(fit, reference):
    """Compare with a statsmodels result."""
    for ours, theirs in (
        (fit.beta, reference.params),
        (fit.std_error, reference.bse),
        (fit.t, reference.tvalues),
        (fit.p_value, reference.pvalues),
        (fit.ci_low, reference.conf_int()[:, 0]),
        (fit.ci_high, reference.conf_int()[:, 1]),
        (fit.r_squared, reference.rsquared),
    ):
        np.testing.assert_allclose(ours, theirs, rtol=EXACT, atol=1e-13)


def clustered(y, design, clusters):
    return sm.OLS(y, design).fit(cov_type="cluster", cov_kwds={"groups": clusters}, use_t=True)


def test_classical_errors_equal_statsmodels(sample):
    x, y, _ = sample
    fit = ols(x, y, NAMES, intercept=True)
    assert fit.names == (INTERCEPT, *NAMES)
    assert (fit.n, fit.n_clusters, fit.df, fit.reason) == (150, 150, 146.0, "")
    assert_equal(fit, sm.OLS(y, sm.add_constant(x)).fit())


def test_clustered_errors_equal_statsmodels(sample):
    x, y, clusters = sample
    fit = ols(x, y, NAMES, intercept=True, clusters=clusters)
    assert (fit.n, fit.n_clusters, fit.df) == (150, 30, 29.0)
    assert_equal(fit, clustered(y, sm.add_constant(x), clusters))


def test_without_an_intercept_too(sample):
    x, y, clusters = sample
    assert_equal(ols(x, y, NAMES, intercept=False, clusters=clusters), clustered(y, x, clusters))
    assert_equal(ols(x, y, NAMES, intercept=False), sm.OLS(y, x).fit())


def test_vif_equals_statsmodels(sample):
    x, y, _ = sample
    fit = ols(x, y, NAMES, intercept=True)
    design = sm.add_constant(x)
    assert np.isnan(fit.vif[0])
    np.testing.assert_allclose(fit.vif[1:], [variance_inflation_factor(design, k) for k in (1, 2, 3)], rtol=EXACT)
    bare = ols(x, y, NAMES, intercept=False)
    shares = [sm.OLS(x[:, k], np.delete(x, k, axis=1)).fit().rsquared for k in (0, 1, 2)]
    np.testing.assert_allclose(bare.vif, 1 / (1 - np.array(shares)), rtol=EXACT)


def test_slope_by_hand():
    # deviations of x: -1 0 1; slope (0 * -1 + 4 * 1) / 2 = 2; residuals .333 -.667 .333
    fit = ols([[1.0], [2.0], [3.0]], [0.0, 1.0, 4.0], ["x"], intercept=True)
    assert fit.beta[1] == pytest.approx(2)
    assert fit.std_error[1] == pytest.approx(np.sqrt((6 / 9) / 1 / 2))
    assert fit.r_squared == pytest.approx(1 - (6 / 9) / (26 / 3))


def test_standardised_slope_is_the_correlation_with_one_column(sample):
    x, y, _ = sample
    fit = ols(x[:, :1], y, ["a"], intercept=True)
    scaled = standardised(fit, [np.nan, x[:, 0].std(ddof=1)], y.std(ddof=1))
    assert scaled.beta[1] == pytest.approx(np.corrcoef(x[:, 0], y)[0, 1])
    assert np.isnan(scaled.beta[0])
    assert scaled.beta[1] / scaled.std_error[1] == pytest.approx(fit.t[1])
    assert np.isnan(standardised(fit, [1.0, 1.0], 0.0).beta).all()


def test_collinear_columns_are_named_with_what_they_are_made_of(sample):
    x, y, _ = sample
    wide = np.column_stack([x, 2 * x[:, 0] - x[:, 2] + 7, np.full(len(x), 3.0)])
    names = (*NAMES, "d", "e")
    assert collinear_columns(wide, names, intercept=True) == {"e": (INTERCEPT,), "d": ("a", "c")}
    with pytest.raises(CollinearError, match=r"e is constant; d is a combination of a, c"):
        ols(wide, y, names, intercept=True)
    # Without an intercept a constant is a column like any other, and d = 2a - c + 7/3 e.
    assert collinear_columns(wide, names, intercept=False) == {"e": ("a", "c", "d")}
    zero = np.column_stack([x[:, 0], np.zeros(len(x))])
    with pytest.raises(CollinearError, match="z is 0 throughout"):
        ols(zero, y, ("a", "z"), intercept=False)


def test_float32_softmax_probabilities_are_collinear_and_close_columns_are_not():
    rng = np.random.default_rng(0)
    shares = rng.dirichlet(np.ones(4), 500).astype(np.float32).astype(np.float64)
    assert collinear_columns(shares, "pqrs", intercept=True) == {"s": ("p", "q", "r")}
    near = np.column_stack([shares[:, 0], shares[:, 0] + 1e-4 * rng.normal(size=500)])
    assert collinear_columns(near, "pq", intercept=True) == {}
    # A large mean is no collinearity with the intercept: unix seconds of one day.
    assert collinear_columns(1.7e9 + 86_400 * rng.random((500, 1)), ["seconds"], intercept=True) == {}


def test_constant_up_to_rounding_is_constant():
    x = np.column_stack([np.full(9, 0.1), np.full(9, 0.1) + np.arange(9) % 2 * 1e-17, np.arange(9.0)])
    assert constant_columns(x).tolist() == [True, True, False]


def test_fewer_clusters_than_terms_give_slopes_without_errors(sample):
    x, y, _ = sample
    clusters = np.arange(150) % 3
    fit = ols(x, y, NAMES, intercept=True, clusters=clusters)
    assert fit.reason == "3 clusters are fewer than 4, which 4 terms need"
    assert np.isfinite(fit.beta).all()
    for values in (fit.std_error, fit.t, fit.p_value, fit.ci_low, fit.ci_high):
        assert np.isnan(values).all()
    one = ols(x[:, :1], y, ["a"], intercept=False, clusters=np.zeros(150))
    assert "1 clusters are fewer than 2" in one.reason


@pytest.mark.parametrize(
    ("rows", "reason"), [(0, "0 rows are too few"), (3, "3 rows are too few"), (4, "no residual for 4 terms")]
)
def test_too_few_rows_are_said(sample, rows, reason):
    x, y, clusters = sample
    for by in (None, clusters[:rows]):
        fit = ols(x[:rows], y[:rows], NAMES, intercept=True, clusters=by)
        assert reason in fit.reason
        assert np.isnan(fit.std_error).all()


def test_an_exact_fit_and_a_constant_outcome_have_no_error(sample):
    x, _, clusters = sample
    exact = ols(x, x @ [1.0, 2.0, 3.0], NAMES, intercept=True, clusters=clusters)
    np.testing.assert_allclose(exact.beta[1:], [1, 2, 3], rtol=1e-6)
    assert "exact" in exact.reason
    assert np.isnan(exact.p_value).all()
    constant = ols(x, np.full(150, 0.1), NAMES, intercept=True)
    assert np.isnan(constant.r_squared)
    assert np.isnan(constant.p_value).all()


def test_a_slope_that_rests_on_one_cluster_has_no_error(sample):
    x, y, clusters = sample
    rare = (clusters == 4).astype(float)
    fit = ols(np.column_stack([x, rare]), y, (*NAMES, "rare"), intercept=True, clusters=clusters)
    # The plain formula is sure of it, though one cluster of random size decided.
    reference = clustered(y, sm.add_constant(np.column_stack([x, rare])), clusters)
    assert reference.pvalues[-1] < 1e-3
    assert fit.effective_clusters[-1] < 1.2
    assert np.isnan(fit.std_error[-1])
    assert np.isnan(fit.p_value[-1])
    np.testing.assert_allclose(fit.std_error[:-1], reference.bse[:-1], rtol=EXACT)


def test_effective_clusters_count_clusters_that_inform_alike():
    x = np.tile([-1.0, 1.0], 10)[:, None]
    y = np.random.default_rng(0).normal(size=20)
    assert ols(x, y, ["x"], intercept=False, clusters=np.repeat(np.arange(10), 2)).effective_clusters[0] == (
        pytest.approx(10)
    )


def test_terms_can_be_put_back(sample):
    x, y, _ = sample
    fit = with_terms(ols(x, y, NAMES, intercept=True), ("c", "gone", "a"))
    assert fit.names == ("c", "gone", "a")
    assert np.isnan(fit.beta[1])
    assert np.isnan(fit.p_value[1])
    reference = ols(x, y, NAMES, intercept=True)
    assert (fit.beta[0], fit.vif[2]) == (reference.beta[3], reference.vif[1])
    assert np.isnan(undefined(("a",), 3, 2, "why").ci_low).all()


def test_shapes_and_finiteness_are_checked(sample):
    x, y, _ = sample
    with pytest.raises(ValueError, match="k names"):
        ols(x, y, ("a",), intercept=True)
    y = y.copy()
    y[3] = np.inf
    with pytest.raises(ValueError, match="finite"):
        ols(x, y, NAMES, intercept=True)
