"""What do value vectors say: their means, the groups above the values, how far from a target, whether on the circle?

A value vector holds of every value how far a text speaks for it rather than against it, in [-1, 1]. The means are those
of what a classifier says: they are not corrected for its errors.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from audits.pair_rows import Rows, estimate_rows, with_holm
from audits.stats.circumplex import STATISTICS, CircumplexFit, circumplex_fit
from audits.stats.clustered import Estimate, clustered_mean
from audits.stats.paired import unanimous_p_value
from audits.stats.value_distance import MODES, value_distances
from datamodules.circumplex import READINGS, places_of
from datamodules.target_vectors import TargetVector
from datamodules.taxonomy import Taxonomy

Floats = NDArray[np.float64]

AUDIT = "value-space"
# Metric of each statistic of the circle; its method says of what.
CIRCLE_METRICS = {"correspondence": "correspondence_index", "pearson": "circle_correlation"}
CIRCLE_METRICS["spearman"] = "circle_correlation"


@dataclass(frozen=True, slots=True, eq=False)
class Measure:
    """Something measured of every text.

    Attributes:
        columns: Metric, method and mode of its rows.
        features: Names of its columns [k].
        values: float64 [n, k]; NaN where undefined.
        low: Least possible value.
        high: Largest one; infinite where there is none.
    """

    columns: Mapping[str, str]
    features: tuple[str, ...]
    values: Floats
    low: float
    high: float


def nets(slugs: Sequence[str]) -> tuple[str, ...]:
    """Return the names of signed values in tables."""
    return tuple(f"{slug}-net" for slug in slugs)


def measures(vectors: Floats, taxonomy: Taxonomy, targets: Sequence[TargetVector], mark: str = "") -> list[Measure]:
    """Measure value vectors: each value, each group of values (the mean of its values), each distance to each target.

    Args:
        vectors: In the order of the taxonomy, float64 [n, K].
        taxonomy: The values and their groups.
        targets: What to measure distances to.
        mark: End of the methods; see `pair_rows.uncalibrated_mark`.
    """
    slugs = taxonomy.slugs
    mean = {"method": f"mean{mark}", "mode": "corrected"}
    groups = {name: [slugs.index(slug) for slug in members] for name, members in taxonomy.groups.items()}
    found = [Measure({"metric": "mean_value"} | mean, nets(slugs), vectors, -1.0, 1.0)]
    if groups:
        means = np.stack([vectors[:, members].mean(axis=1) for members in groups.values()], axis=1)
        found.append(Measure({"metric": "mean_group_value"} | mean, tuple(groups), means, -1.0, 1.0))
    by_target = [value_distances(vectors, t.vector(slugs), t.weight(slugs)) for t in targets]
    for method, mode in MODES.items() if targets else ():
        columns = {"metric": f"{method.replace('-', '_')}_distance", "method": f"mean{mark}", "mode": mode}
        distances = np.stack([own[method] for own in by_target], axis=1)
        found.append(Measure(columns, tuple(t.name for t in targets), distances, 0.0, np.inf))
    return found


def mean_rows(found: Sequence[Measure], clusters: NDArray[Any], columns: Mapping[str, Any]) -> Rows:
    """Rows of the mean of every measure, with prompt-clustered intervals cut to what is possible."""
    rows: Rows = []
    for measure in found:
        estimate = clustered_mean(measure.values, clusters).within(measure.low, measure.high)
        rows += estimate_rows(estimate, measure.features, {**measure.columns, "spec": "pooled-clustered", **columns})
    return rows


def paired_rows(
    first: Sequence[Measure], second: Sequence[Measure], clusters: NDArray[Any], columns: Mapping[str, Any]
) -> Rows:
    """Rows of the mean paired difference, first minus second, of every measure; Holm over its features."""
    rows: Rows = []
    for one, other in zip(first, second, strict=True):
        width = one.high - one.low
        differences = one.values - other.values
        estimate = clustered_mean(differences, clusters).within(-width, width)
        same = {**one.columns, "metric": f"{one.columns['metric']}_difference", "spec": "within", **columns}
        p_values = _p_values(differences, estimate)
        own = estimate_rows(estimate, one.features, same)
        rows += with_holm([row | {"p_value": p} for row, p in zip(own, p_values.tolist(), strict=True)])
    return rows


def _p_values(differences: Floats, estimate: Estimate) -> Floats:
    """P-values of clustered means; where all differences are the same, those of sign flips."""
    whole = np.atleast_1d(np.isfinite(differences).all(axis=0))
    unanimous = np.full(differences.shape[1], np.nan)
    unanimous[whole] = unanimous_p_value(differences[:, whole], estimate.n_clusters[whole])
    return np.where(np.isnan(unanimous), estimate.p_value, unanimous)


def circle_fits(vectors: Floats, clusters: NDArray[Any], taxonomy: Taxonomy, seed: int = 0) -> dict[str, CircumplexFit]:
    """Fit both readings of the taxonomy's circle to value vectors [n, K], in its order."""
    return {
        reading: circumplex_fit(vectors, *places_of(taxonomy, reading), clusters, seed=seed) for reading in READINGS
    }


def circle_rows(fits: Mapping[str, CircumplexFit], slugs: Sequence[str], columns: Mapping[str, Any]) -> Rows:
    """Rows on structural validity: the statistics of each reading of the circle, and what they rest on.

    `correspondence_index` and `circle_correlation` (methods pearson and spearman, of correlations with distances) have
    one-sided p-values over orders of the circle, counted in `circle_orders` (method `exact` or `random`), and intervals
    over redrawn clusters. `value_correlation` is the correlation of two values. A value without variance correlates
    with nothing: its row `left_out`, method `no-variance`, counts the texts.
    """
    rows: Rows = []
    for reading, fit in fits.items():
        same = {"mode": "corrected", "spec": reading, "n": fit.n, "n_clusters": fit.n_clusters, **columns}
        for name in STATISTICS:
            found = fit.statistics[name]
            row = {field: getattr(found, field) for field in ("estimate", "std_error", "ci_low", "ci_high", "p_value")}
            rows.append(same | row | {"metric": CIRCLE_METRICS[name], "method": "hubert-arabie"} | _method(name))
        method = "exact" if fit.exact else "random"
        rows.append(same | {"metric": "circle_orders", "method": method, "estimate": fit.n_orders})
    any_fit = next(iter(fits.values()))
    same = {"mode": "corrected", "n": any_fit.n, "n_clusters": any_fit.n_clusters, **columns}
    names = nets(slugs)
    for i, j in zip(*np.triu_indices(len(slugs), 1), strict=True):
        row = {"metric": "value_correlation", "method": "pearson", "feature": f"{names[i]}~{names[j]}"}
        rows.append(same | row | {"estimate": any_fit.correlations[i, j]})
    rows += [
        same | {"metric": "left_out", "method": "no-variance", "feature": names[k], "estimate": any_fit.n}
        for k in np.flatnonzero(~any_fit.varying)
    ]
    return rows


def _method(name: str) -> dict[str, str]:
    return {} if name == "correspondence" else {"method": name}
