"""Are marginal effects probabilities with clustered errors, and is a model without a solution said to be one?"""

import warnings

import numpy as np
import pytest
import statsmodels.api as sm

from audits.stats.logit import marginal_effects


@pytest.fixture
def sample():
    rng = np.random.default_rng(7)
    n, clusters = 900, np.arange(900) // 3
    x = np.column_stack([rng.integers(0, 2, n), rng.normal(size=n)]).astype(float)
    logits = -0.4 + 0.9 * x[:, 0] - 0.6 * x[:, 1] + rng.normal(size=300)[clusters]
    return x, (rng.random(n) < 1 / (1 + np.exp(-logits))).astype(float), clusters


def test_effects_are_average_changes_of_the_probability(sample):
    x, y, clusters = sample
    fit = marginal_effects(x, y, ["flag", "score"], clusters)
    design = sm.add_constant(x)
    model = sm.Logit(y, design).fit(disp=0)

    def probability(flag):
        changed = design.copy()
        changed[:, 1] = flag
        return model.predict(changed)

    p = model.predict(design)
    expected = [np.mean(probability(1) - probability(0)), np.mean(p * (1 - p)) * model.params[2]]
    np.testing.assert_allclose(fit.beta, expected, rtol=1e-6)
    assert (fit.n, fit.n_clusters, fit.df) == (900, 300, 299)


def test_errors_are_clustered_delta_method(sample):
    x, y, clusters = sample
    fit = marginal_effects(x, y, ["flag", "score"], clusters)
    model = sm.Logit(y, sm.add_constant(x)).fit(disp=0, cov_type="cluster", cov_kwds={"groups": clusters})
    design = sm.add_constant(x)

    def mean_slope(params):
        p = 1 / (1 + np.exp(-design @ params))
        return np.mean(p * (1 - p)) * params[2]

    step = 1e-6
    gradient = np.array(
        [(mean_slope(model.params + step * e) - mean_slope(model.params - step * e)) / (2 * step) for e in np.eye(3)]
    )
    assert fit.std_error[1] == pytest.approx(np.sqrt(gradient @ model.cov_params() @ gradient), rel=1e-5)
    alone = marginal_effects(x, y, ["flag", "score"], np.arange(900))
    assert abs(alone.std_error[1] / fit.std_error[1] - 1) > 0.01


def test_names_of_clusters_do_not_matter(sample):
    x, y, clusters = sample
    named = marginal_effects(x, y, ["flag", "score"], np.array([f"c{c}" for c in clusters]))
    np.testing.assert_allclose(named.std_error, marginal_effects(x, y, ["flag", "score"], clusters).std_error)


@pytest.mark.parametrize(
    ("case", "reason"),
    [
        ("complete", "separated by score"),
        ("one level", "separated by flag"),
        ("together", "separated by the features together"),
        ("one outcome", "same outcome"),
        ("constant", "constant or collinear features: flag"),
        ("collinear", "constant or collinear features: score"),
        ("few clusters", "2 clusters are fewer than 3"),
        ("empty", "no items"),
    ],
)
def test_no_solution_is_a_reason_and_no_crash(sample, case, reason):
    x, y, clusters = (a.copy() for a in sample)
    match case:
        case "complete":
            y = (x[:, 1] > 0.2).astype(float)
        case "one level":
            x[:, 0] = 0
            x[np.flatnonzero(y == 1)[:5], 0] = 1
        case "together":
            x[:, 0] = np.random.default_rng(1).normal(size=900)
            y = (x[:, 0] + x[:, 1] > 0).astype(float)
        case "one outcome":
            y[:] = 1
        case "constant":
            x[:, 0] = 1
        case "collinear":
            x[:, 1] = 3 - 2 * x[:, 0]
        case "few clusters":
            clusters = clusters % 2
        case "empty":
            x, y, clusters = x[:0], y[:0], clusters[:0]
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        fit = marginal_effects(x, y, ["flag", "score"], clusters)
    assert reason in fit.reason
    assert np.isnan(fit.beta).all()
    assert np.isnan(fit.p_value).all()


def test_outcomes_are_checked(sample):
    x, y, clusters = sample
    with pytest.raises(ValueError, match="0 and 1"):
        marginal_effects(x, y + 0.5, ["flag", "score"], clusters)
