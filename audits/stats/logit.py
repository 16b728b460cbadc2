"""By how much does each feature move the probability of an outcome?

A logit model, read as average marginal effects, so that the scale is the probability and not the log-odds: for a 0/1
feature the mean change from 0 to 1, for any other the mean slope. Errors are cluster-robust with t on G - 1.
"""

import warnings
from collections.abc import Sequence

import numpy as np
import statsmodels.api as sm
from numpy.typing import ArrayLike, NDArray
from statsmodels.tools.sm_exceptions import ConvergenceWarning, PerfectSeparationWarning

from audits.stats.ols import Regression, collinear_columns, undefined, with_inference

Floats = NDArray[np.float64]

MAX_ITERATIONS = 100


def marginal_effects(x: ArrayLike, outcome: ArrayLike, names: Sequence[str], clusters: ArrayLike) -> Regression:
    """Return average marginal effects of x on the probability of the outcome.

    Args:
        x: Features [n, k] without a constant, finite.
        outcome: 0 or 1 [n].
        names: Names of the features [k].
        clusters: Cluster of each row [n].

    Returns:
        Effects in `beta`; NaN with a reason where the model has no finite solution (one outcome only, a feature that
        separates the outcomes), is not identified (constant or collinear features) or has fewer clusters than terms.

    Raises:
        ValueError: Shapes differ, or the outcome is not 0 or 1.
    """
    features, y, labels = np.asarray(x, dtype=np.float64), np.asarray(outcome, dtype=np.float64), np.asarray(clusters)
    if features.shape != (len(y), len(names)) or labels.shape != y.shape or not np.isin(y, (0.0, 1.0)).all():
        raise ValueError(f"x [n, k], outcomes of 0 and 1 [n] and clusters [n] needed, got {features.shape}, {y.shape}")
    _, groups = np.unique(labels, return_inverse=True)
    n, g = len(y), int(groups.max(initial=-1)) + 1
    if reason := _no_solution(features, y, names, g):
        return undefined(names, n, g, reason)
    with warnings.catch_warnings():
        for category in (ConvergenceWarning, PerfectSeparationWarning, RuntimeWarning):
            warnings.simplefilter("error", category)
        try:
            fit = sm.Logit(y, sm.add_constant(features, has_constant="add")).fit(
                disp=0, maxiter=MAX_ITERATIONS, cov_type="cluster", cov_kwds={"groups": groups}
            )
            effects = fit.get_margeff(at="overall", method="dydx", dummy=True)
        except (ConvergenceWarning, PerfectSeparationWarning, RuntimeWarning, np.linalg.LinAlgError):
            return undefined(names, n, g, _separation(features, y, names))
    return with_inference(names, np.asarray(effects.margeff), np.asarray(effects.margeff_se), g - 1, n, g)


def _no_solution(features: Floats, y: Floats, names: Sequence[str], n_clusters: int) -> str:
    """Say why the model cannot be fitted, as far as that shows beforehand."""
    if len(np.unique(y)) < 2:
        return "every item has the same outcome" if len(y) else "no items"
    if n_clusters < len(names) + 1:
        return f"{n_clusters} clusters are fewer than {len(names) + 1}, which {len(names) + 1} terms need"
    if dependent := collinear_columns(features, names, intercept=True):
        return f"constant or collinear features: {', '.join(dependent)}"
    separating = _separating(features, y, names)
    return _separation(features, y, names) if separating else ""


def _separating(features: Floats, y: Floats, names: Sequence[str]) -> list[str]:
    """Name the features that order the outcomes on their own: none on one side overlaps the other."""
    found = []
    for column, name in zip(features.T, names, strict=True):
        zero, one = column[y == 0], column[y == 1]
        binary_level = np.isin(column, (0.0, 1.0)).all() and any(np.ptp(y[column == level]) == 0 for level in (0, 1))
        if binary_level or zero.max() <= one.min() or one.max() <= zero.min():
            found.append(name)
    return found


def _separation(features: Floats, y: Floats, names: Sequence[str]) -> str:
    """Word a separation."""
    alone = _separating(features, y, names)
    which = f"by {', '.join(alone)}" if alone else "by the features together"
    return f"the outcome is separated {which}: no finite effect"
