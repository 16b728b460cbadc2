"""What are the least-squares slopes, and how sure are they when rows share a cluster?

Classical errors refer to t with n - k degrees of freedom. Cluster-robust ones are CR1: G / (G - 1) * (n - 1) / (n - k)
times bread meat bread, with t on G - 1; with clusters of one row each that is HC1. Both equal statsmodels. A design
without full rank is refused with the names of the columns; nothing is dropped. An error that the data cannot show is
NaN, and `reason` says why.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy import stats
from scipy.linalg import solve_triangular

from audits.stats.clustered import ROUNDING, cluster_sums

Floats = NDArray[np.float64]

# In parentheses, so that no feature has that name.
INTERCEPT = "(intercept)"
# A column that the others explain to this share of its length is one of them: probabilities of a softmax that were
# kept as float32 sum to one with errors of 1e-7.
RANK_TOLERANCE = 1e-6
# A slope that rests on less than this many clusters rests on one: a single cluster fits its own slope, so that its
# residual scores are 0 and the error comes out as nothing, whatever the truth is.
MIN_EFFECTIVE_CLUSTERS = 1.5


@dataclass(frozen=True, slots=True, eq=False)
class Regression:
    """A fitted regression of k terms; arrays have shape [k], float64, NaN where undefined.

    Attributes:
        names: Terms, the intercept first if there is one.
        beta: Slopes.
        std_error: Their standard errors.
        t: beta / std_error.
        p_value: Two-sided, of a slope of 0.
        ci_low: Lower ends of the intervals.
        ci_high: Upper ends of the intervals.
        vif: Variance inflation factors; NaN for the intercept.
        effective_clusters: 1 / sum of squared cluster shares of what each column has to itself (its residuals on the
            other columns): G when all clusters inform the slope alike, 1 when a single one does.
        df: Degrees of freedom of the t distribution.
        n: Rows.
        n_clusters: Clusters; rows with classical errors.
        r_squared: Share of variance explained; around the mean with an intercept, around 0 without.
        reason: Why errors (or slopes) are NaN, or empty.
    """

    names: tuple[str, ...]
    beta: Floats
    std_error: Floats
    t: Floats
    p_value: Floats
    ci_low: Floats
    ci_high: Floats
    vif: Floats
    effective_clusters: Floats
    df: float
    n: int
    n_clusters: int
    r_squared: float
    reason: str = ""


class CollinearError(ValueError):
    """Columns that are combinations of others.

    Attributes:
        combinations: Column -> the columns it is a combination of (none: it is 0 throughout).
    """

    def __init__(self, combinations: dict[str, tuple[str, ...]]) -> None:
        self.combinations = combinations
        super().__init__("; ".join(_told(name, others) for name, others in combinations.items()))


def ols(
    x: ArrayLike,
    y: ArrayLike,
    names: Sequence[str],
    *,
    intercept: bool,
    clusters: ArrayLike | None = None,
    confidence: float = 0.95,
) -> Regression:
    """Regress y on the columns of x by QR.

    Args:
        x: Columns [n, k] without a constant, finite.
        y: Outcome [n], finite.
        names: Names of the columns [k].
        intercept: Whether to put a constant before them.
        clusters: Cluster of each row [n] for CR1 errors; None for classical ones.
        confidence: Level of the intervals.

    Raises:
        CollinearError: A column is a combination of others, or constant beside an intercept.
        ValueError: Shapes differ, or a value is not finite.
    """
    columns, outcome = np.asarray(x, dtype=np.float64), np.asarray(y, dtype=np.float64)
    if columns.ndim != 2 or outcome.shape != columns.shape[:1] or len(names) != columns.shape[1]:
        raise ValueError(f"x [n, k], y [n] and k names needed, got {columns.shape}, {outcome.shape} and {len(names)}")
    if not (np.isfinite(columns).all() and np.isfinite(outcome).all()):
        raise ValueError("x and y must be finite")
    terms = (INTERCEPT, *names) if intercept else tuple(names)
    labels = np.arange(len(outcome)) if clusters is None else np.asarray(clusters)
    n, k = len(outcome), len(terms)
    if n < k or not k:
        return undefined(terms, n, len(np.unique(labels)), f"{n} rows are too few for {k} terms")
    if dependent := collinear_columns(columns, names, intercept=intercept):
        raise CollinearError(dependent)
    design = np.column_stack([np.ones(n), columns]) if intercept else columns
    q, r = np.linalg.qr(design)
    beta = solve_triangular(r, q.T @ outcome)
    inverse = solve_triangular(r, np.eye(k))
    bread = inverse @ inverse.T
    residuals = outcome - design @ beta
    shares = _cluster_shares(design, bread, labels)
    effective, g = 1 / (shares**2).sum(axis=0), len(shares)
    reason = _no_error(residuals, outcome, n, k, g)
    if reason:
        error = np.full(k, np.nan)
    elif clusters is None:
        error = np.sqrt(np.diag(bread) * (residuals @ residuals) / (n - k))
    else:
        scores = cluster_sums(design * residuals[:, None], labels) @ bread
        error = np.sqrt(g / (g - 1) * (n - 1) / (n - k) * (scores**2).sum(axis=0))
        error[effective < MIN_EFFECTIVE_CLUSTERS] = np.nan
    centred, total = _around(columns, intercept), _around(outcome, intercept)
    fit = with_inference(terms, beta, error, n - k if clusters is None else g - 1, n, g, confidence)
    own_variance = np.diag(bread)[int(intercept) :] * (centred**2).sum(axis=0)
    return replace(
        fit,
        vif=np.concatenate([np.full(int(intercept), np.nan), own_variance]),
        effective_clusters=effective,
        r_squared=float(1 - residuals @ residuals / (total @ total)) if np.ptp(outcome) > 0 else float("nan"),
        reason=reason,
    )


def with_inference(
    names: Sequence[str], beta: Floats, error: Floats, df: float, n: int, n_clusters: int, confidence: float = 0.95
) -> Regression:
    """Return a regression from slopes and standard errors [k], with t inference on `df` degrees of freedom."""
    t = beta / error
    half = stats.t.ppf((1 + confidence) / 2, df) * error
    nan = np.full(len(names), np.nan)
    return Regression(
        names=tuple(names),
        beta=beta,
        std_error=error,
        t=t,
        p_value=2 * stats.t.sf(np.abs(t), df),
        ci_low=beta - half,
        ci_high=beta + half,
        vif=nan,
        effective_clusters=nan,
        df=float(df),
        n=n,
        n_clusters=n_clusters,
        r_squared=float("nan"),
    )


def slope_influence(x: ArrayLike, y: ArrayLike, beta: ArrayLike, clusters: ArrayLike) -> tuple[Floats, Floats]:
    """Return how much each cluster moved the slopes: bread times its score, scaled so that squares give CR1 errors.

    G / (G - 1) times the sum of squares of a column is the squared CR1 error of that slope. Two regressions of the
    same clusters have the error of their difference in the differences of these.

    Args:
        x: Columns [n, k] of full rank, the constant among them if there is one.
        y: Outcome [n].
        beta: The least-squares slopes [k].
        clusters: Cluster of each row [n].

    Returns:
        Influence, and the share of each cluster in what a column has to itself; float64 [G, k], in sorted order of the
        clusters.
    """
    columns, labels = np.asarray(x, dtype=np.float64), np.asarray(clusters)
    n, k = columns.shape
    residuals = np.asarray(y, dtype=np.float64) - columns @ np.asarray(beta, dtype=np.float64)
    inverse = solve_triangular(np.linalg.qr(columns, mode="r"), np.eye(k))
    bread = inverse @ inverse.T
    scores = cluster_sums(columns * residuals[:, None], labels) @ bread
    return np.asarray(np.sqrt((n - 1) / (n - k)) * scores, dtype=np.float64), _cluster_shares(columns, bread, labels)


def _cluster_shares(columns: Floats, bread: Floats, clusters: NDArray[np.generic]) -> Floats:
    """Return the share of each cluster in the squares of what each column has to itself, [G, k]; columns sum to 1."""
    squares = cluster_sums((columns @ bread / np.diag(bread)) ** 2, clusters)
    return np.asarray(squares / squares.sum(axis=0))


def undefined(names: Sequence[str], n: int, n_clusters: int, reason: str) -> Regression:
    """Return a regression that could not be fitted: NaN everywhere, with the reason."""
    nan = np.full(len(names), np.nan)
    return replace(with_inference(names, nan, nan, float("nan"), n, n_clusters), reason=reason)


def standardised(fit: Regression, x_sd: ArrayLike, y_sd: float) -> Regression:
    """Return the same regression in standard deviations of y per standard deviation of each term.

    Args:
        fit: The regression.
        x_sd: Standard deviation of each term [k] (NaN for the intercept), taken as known.
        y_sd: Standard deviation of y; 0 makes everything NaN.
    """
    by = np.asarray(x_sd, dtype=np.float64) / (y_sd if y_sd > 0 else np.nan)
    return replace(
        fit, beta=fit.beta * by, std_error=fit.std_error * by, ci_low=fit.ci_low * by, ci_high=fit.ci_high * by
    )


def with_terms(fit: Regression, names: Sequence[str]) -> Regression:
    """Return the regression with the terms in `names`, in that order; terms it does not have are NaN."""
    place = {name: k for k, name in enumerate(fit.names)}
    source = np.array([place.get(name, len(place)) for name in names], dtype=np.int64)

    def pick(values: Floats) -> Floats:
        return np.append(values, np.nan)[source]

    return replace(
        fit,
        names=tuple(names),
        beta=pick(fit.beta),
        std_error=pick(fit.std_error),
        t=pick(fit.t),
        p_value=pick(fit.p_value),
        ci_low=pick(fit.ci_low),
        ci_high=pick(fit.ci_high),
        vif=pick(fit.vif),
        effective_clusters=pick(fit.effective_clusters),
    )


def constant_columns(x: ArrayLike) -> NDArray[np.bool_]:
    """Tell which columns of x [n, k] do not vary beyond rounding: bool [k]."""
    columns = np.asarray(x, dtype=np.float64)
    if not len(columns):
        return np.ones(columns.shape[1], dtype=np.bool_)
    return np.asarray(np.ptp(columns, axis=0) <= ROUNDING * np.abs(columns).max(axis=0))


def collinear_columns(x: ArrayLike, names: Sequence[str], *, intercept: bool) -> dict[str, tuple[str, ...]]:
    """Name the columns that the columns before them (and the intercept) determine.

    Args:
        x: Columns [n, k], finite.
        names: Their names [k].
        intercept: Whether a constant stands before them.

    Returns:
        Column -> the columns it is a combination of; empty when the rank is full.
    """
    columns = np.asarray(x, dtype=np.float64)
    empty = constant_columns(columns) if intercept else ~columns.any(axis=0)
    found: dict[str, tuple[str, ...]] = {names[j]: (INTERCEPT,) * intercept for j in np.flatnonzero(empty).tolist()}
    rest = np.flatnonzero(~empty).tolist()
    centred = _around(columns[:, rest], intercept)
    # Columns of R have the lengths and angles of those of x.
    r: Floats = np.asarray(np.linalg.qr(centred / np.linalg.norm(centred, axis=0), mode="r"))
    kept: list[int] = []
    for j in range(len(rest)):
        coefficients = np.linalg.lstsq(r[:, kept], r[:, j], rcond=None)[0]
        if np.linalg.norm(r[:, j] - r[:, kept] @ coefficients) > RANK_TOLERANCE:
            kept.append(j)
        else:
            parts = [names[rest[i]] for i, c in zip(kept, coefficients, strict=True) if abs(c) > 1e-4]
            found[names[rest[j]]] = tuple(parts)
    return found


def _around(values: Floats, intercept: bool) -> Floats:
    """Return values around their mean, or as they are without an intercept."""
    return values - values.mean(axis=0) if intercept and len(values) else values


def _no_error(residuals: Floats, outcome: Floats, n: int, k: int, n_clusters: int) -> str:
    """Say why no standard error can be computed, or nothing."""
    if n == k:
        return f"{n} rows leave no residual for {k} terms"
    if n_clusters < max(k, 2):
        return f"{n_clusters} clusters are fewer than {max(k, 2)}, which {k} terms need"
    if np.sqrt(np.mean(residuals**2)) <= ROUNDING * np.abs(outcome).max():
        return "the fit is exact: no residual to judge errors by"
    return ""


def _told(name: str, others: Sequence[str]) -> str:
    """Word one dependency."""
    if not others:
        return f"{name} is 0 throughout"
    return f"{name} is constant" if tuple(others) == (INTERCEPT,) else f"{name} is a combination of {', '.join(others)}"
