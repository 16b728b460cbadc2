"""Is the correction with gold labels the formula, and does it refuse what it cannot do?"""

import numpy as np
import pytest
import statsmodels.api as sm

from audits.misclassification import Gold, fit_gold_specs, moment_corrected
from audits.reward_regression import ItemTable, regression_rows
from audits.table import make_table

NAMES = ("(intercept)", "x")


@pytest.fixture
def noisy():
    """True and predicted feature (with a constant), outcome and clusters of 600 items; each outcome costs 1/2."""
    rng = np.random.default_rng(0)
    n = 600
    true = (rng.random(n) < 0.4).astype(float)
    predicted = np.where(rng.random(n) < 0.15, 1 - true, true)
    one = np.ones(n)
    r = 0.5 * true + rng.normal(size=n)
    return np.column_stack([one, true]), np.column_stack([one, predicted]), r, np.arange(n) // 3


def test_formula_by_hand(noisy):
    """The sums of the note, item by item."""
    z, zhat, r, clusters = noisy
    rng = np.random.default_rng(1)
    pi = np.where(zhat[:, 1] == 1, 0.6, 0.3)
    gold = rng.random(600) < pi
    fit = moment_corrected(z, zhat, r, gold, pi, clusters, NAMES)
    n, a, b = 600, np.zeros((2, 2)), np.zeros(2)
    for i in range(n):
        w = gold[i] / pi[i]
        a += (np.outer(zhat[i], zhat[i]) + w * (np.outer(z[i], z[i]) - np.outer(zhat[i], zhat[i]))) / n
        b += (zhat[i] * r[i] + w * (z[i] * r[i] - zhat[i] * r[i])) / n
    beta = np.linalg.solve(a, b)
    sums = np.zeros((200, 2))
    for i in range(n):
        old, new = zhat[i] * (r[i] - zhat[i] @ beta), z[i] * (r[i] - z[i] @ beta)
        sums[clusters[i]] += old + gold[i] / pi[i] * (new - old)
    v = np.linalg.inv(a) @ (sums.T @ sums / n) @ np.linalg.inv(a) / n
    np.testing.assert_allclose(fit.beta, beta, rtol=1e-10)
    np.testing.assert_allclose(fit.std_error, np.sqrt(np.diag(v)), rtol=1e-10)
    assert fit.df == len(np.unique(clusters[gold])) - 1
    assert (fit.n, fit.n_clusters) == (600, 200)


def test_truth_outside_the_sample_is_never_read(noisy):
    z, zhat, r, clusters = noisy
    gold = np.arange(600) % 2 == 0
    fit = moment_corrected(z, zhat, r, gold, np.full(600, 0.5), clusters, NAMES)
    hidden = np.where(gold[:, None], z, np.nan)
    pi = np.where(gold, 0.5, np.nan)
    np.testing.assert_array_equal(moment_corrected(hidden, zhat, r, gold, pi, clusters, NAMES).beta, fit.beta)


def test_gold_everywhere_is_ols_on_the_truth(noisy):
    z, zhat, r, clusters = noisy
    fit = moment_corrected(z, zhat, r, np.ones(600, bool), np.ones(600), clusters, NAMES)
    reference = sm.OLS(r, z).fit(cov_type="cluster", cov_kwds={"groups": clusters, "use_correction": False})
    np.testing.assert_allclose(fit.beta, reference.params, rtol=1e-10)
    np.testing.assert_allclose(fit.std_error, reference.bse, rtol=1e-10)


def test_perfect_predictions_are_ols_whatever_the_sample(noisy):
    z, _, r, _ = noisy
    gold = np.arange(600) % 7 == 0
    fit = moment_corrected(z, z, r, gold, np.full(600, 1 / 7), np.arange(600), NAMES)
    reference = sm.OLS(r, z).fit(cov_type="HC0")
    np.testing.assert_allclose(fit.beta, reference.params, rtol=1e-10)
    np.testing.assert_allclose(fit.std_error, reference.bse, rtol=1e-10)


def test_too_little_gold_is_refused(noisy):
    z, zhat, r, clusters = noisy
    # All predicted positive, all truly negative: the correction takes away more variance than there is.
    gold = np.flatnonzero((zhat[:, 1] == 1) & (z[:, 1] == 0))[:4]
    drawn = np.isin(np.arange(600), gold)
    fit = moment_corrected(z, zhat, r, drawn, np.full(600, 4 / 600), clusters, NAMES)
    assert fit.reason == "gold sample of 4 items too small: the corrected moments are not positive definite"
    assert np.isnan(fit.beta).all()
    few = moment_corrected(z, zhat, r, np.arange(600) == 0, np.full(600, 1 / 600), clusters, NAMES)
    assert few.reason == "gold labels in 1 clusters are fewer than 2, which 2 terms need"


@pytest.fixture
def panel():
    """Pairs whose feature `x` is predicted with errors and `exact` without; 300 groups."""
    rng = np.random.default_rng(2)
    n_groups = 300
    groups = np.repeat(np.arange(n_groups), 2)
    true = (rng.random(600) < 0.4).astype(float)
    exact = rng.normal(size=600)
    x = np.where(rng.random(600) < 0.15, 1 - true, true)
    y = 0.5 * true + 0.2 * exact + rng.normal(size=n_groups)[groups] + 0.3 * rng.normal(size=600)
    table = ItemTable(
        groups, groups, np.tile([0, 1], n_groups), {"none": y}, np.column_stack([x, exact]), ("x", "exact")
    )
    return table, np.column_stack([true, exact])


def gold_of(truth, drawn, probability):
    return Gold(np.where(drawn[:, None], truth, np.nan), np.broadcast_to(probability, drawn.shape))


def test_specs_are_corrected(panel):
    table, truth = panel
    drawn = np.repeat(np.random.default_rng(3).random(300) < 0.5, 2)
    pooled, within = fit_gold_specs(table, gold_of(truth, drawn, 0.5))
    assert (pooled.spec, within.spec, within.method) == ("pooled-clustered", "within", "ols-gold")
    naive = np.linalg.lstsq(
        np.diff(table.features.reshape(300, 2, 2), axis=1)[:, 0],
        np.diff(table.rewards["none"].reshape(300, 2), axis=1)[:, 0],
        rcond=None,
    )[0]
    assert naive[0] < 0.42
    assert within.fit.ci_low[0] < 0.5 < within.fit.ci_high[0]
    assert within.fit.beta[0] > naive[0] + 0.05
    assert within.counted == {"gold": int(drawn.sum())}
    rows = make_table(regression_rows([pooled, within])).to_pylist()
    assert {r["metric"] for r in rows} == {"beta", "beta_standardised", "rows_with_gold"}
    assert {r["method"] for r in rows} == {"ols-gold"}
    assert {r["mode"] for r in rows} == {"corrected"}


def test_gold_everywhere_gives_the_within_slopes_of_the_truth(panel):
    table, truth = panel
    _, within = fit_gold_specs(table, gold_of(truth, np.ones(600, bool), 1.0))
    differences = np.diff(truth.reshape(300, 2, 2), axis=1)[:, 0]
    reference = sm.OLS(np.diff(table.rewards["none"].reshape(300, 2), axis=1)[:, 0], differences).fit(cov_type="HC0")
    np.testing.assert_allclose(within.fit.beta, reference.params, rtol=1e-9)
    np.testing.assert_allclose(within.fit.std_error, reference.bse, rtol=1e-9)


def test_half_labelled_groups_and_unequal_probabilities_refuse_within_only(panel):
    table, truth = panel
    some = np.random.default_rng(3).random(600) < 0.5
    pooled, within = fit_gold_specs(table, gold_of(truth, some, 0.5))
    assert np.isfinite(pooled.fit.beta).all()
    assert within.notes[0] == "gold labels must cover whole groups, with one probability a group"
    assert np.isnan(within.fit.beta).all()
    unequal = np.tile([0.5, 0.4], 300)
    _, within = fit_gold_specs(table, gold_of(truth, np.repeat(some[::2], 2), unequal))
    assert "one probability" in within.notes[0]


def test_gold_is_checked():
    with pytest.raises(ValueError, match="all labels or none"):
        Gold(np.array([[1.0, np.nan]]), np.ones(1))
    with pytest.raises(ValueError, match=r"\(0, 1\]"):
        Gold(np.array([[1.0], [np.nan]]), np.array([0.0, 1.0]))
    Gold(np.array([[1.0], [np.nan]]), np.array([0.5, np.nan]))
