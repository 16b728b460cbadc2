"""How many reward points is a feature worth, other features equal?

Each spec regresses the reward of an item (a side of a pair, an answer of a model) on its features:

* `pooled`: all items in one regression, classical errors, Bonferroni over all terms with the intercept (as SEAL did).
* `pooled-clustered`: the same slopes with errors clustered by prompt, Holm over the terms without the intercept.
* `within`, the headline: deviations from the mean of the group (pair or prompt), so that nothing the items of a group
  share can move a slope; no intercept; clustered by prompt. With two items a group it is the regression of differences.
* `within-item`: the same with an effect of each side or model.

and once more as `<spec>-length` with the length of the text held equal. A constant feature has no slope: NaN, and said.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from audits.item_table import LENGTH, PUBLISHED_SPEC, Design, ItemTable, coded_ids, make_design, usable_rows
from audits.stats.multiplicity import bonferroni, holm
from audits.stats.ols import (
    INTERCEPT,
    MIN_EFFECTIVE_CLUSTERS,
    CollinearError,
    Regression,
    ols,
    standardised,
    undefined,
    with_terms,
)

__all__ = ["ItemTable", "SpecFit", "fit_spec", "fit_specs", "regression_rows"]

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]

# Slopes that rest on fewer clusters than this are named: CR1 errors are too small there.
FEW_CLUSTERS = 10
# Key of the count of items with gold labels, beside the reasons why items were left out.
GOLD = "gold"


@dataclass(frozen=True, slots=True, eq=False)
class SpecFit:
    """One spec fitted to one reward; arrays have the terms of `fit` [k].

    Attributes:
        slice_name: Slice of the audit table.
        spec: Slug of the spec.
        method: `ols`, or `ols-gold` after correction with gold labels.
        fit: Slopes in reward points per unit.
        scaled: Slopes in standard deviations of the reward per standard deviation of the feature, over the items used
            and not their deviations, so that specs compare.
        p_adjusted: NaN where a term is no hypothesis.
        counted: Reason for leaving items out (or `gold`: they have gold labels) -> how many.
        n_items: Items in the table.
        n_clusters: Clusters in the table.
        used_clusters: Clusters behind the regression.
        notes: What a reader should know of it.
    """

    slice_name: str
    spec: str
    method: str
    fit: Regression
    scaled: Regression
    p_adjusted: Floats
    counted: dict[str, int]
    n_items: int
    n_clusters: int
    used_clusters: int
    notes: tuple[str, ...]


def fit_specs(table: ItemTable) -> list[SpecFit]:
    """Fit every spec to every reward of the table; what cannot be fitted is NaN, with a note."""
    coded = coded_ids(table)
    return [fit_spec(coded, slice_name, spec) for slice_name in table.slices for spec in table.specs]


def fit_spec(table: ItemTable, slice_name: str, spec: str) -> SpecFit:
    """Fit one spec to one reward."""
    used, counted = usable_rows(table, slice_name, spec)
    design = make_design(table, slice_name, spec, used)
    clusters = table.cluster_ids[used]
    kept = [name for name, varies in zip(design.names, design.varying, strict=True) if varies]
    reason = design.reason or ("" if kept else "no feature varies")
    if not reason:
        try:
            x, errors_by = design.x[:, design.varying], None if is_published(spec) else clusters
            fit = ols(x, design.y, kept, intercept=design.intercept, clusters=errors_by)
        except CollinearError as error:
            reason = str(error)
    if reason:
        fit = undefined(kept, len(used), len(np.unique(clusters)), reason)
    return finished(table, slice_name, spec, "ols", design, fit, used, counted)


def finished(
    table: ItemTable,
    slice_name: str,
    spec: str,
    method: str,
    design: Design,
    fit: Regression,
    used: Ints,
    counted: dict[str, int],
) -> SpecFit:
    """Complete a fitted spec: NaN for terms without a slope, standardised slopes, adjusted p-values, notes."""
    terms = (INTERCEPT, *design.names) if design.intercept else design.names
    fit = with_terms(fit, terms)
    features = [k for k, term in enumerate(terms) if not term.startswith("(")]
    if is_published(spec):
        p_adjusted = bonferroni(fit.p_value)
    else:
        p_adjusted = np.full(len(terms), np.nan)
        p_adjusted[features] = holm(fit.p_value[features])
    columns = [table.feature_names.index(terms[k]) for k in features]
    x_sd, y_sd = np.full(len(terms), np.nan), float("nan")
    if len(used) > 1:
        x_sd[features] = table.features[used][:, columns].std(axis=0, ddof=1)
        y_sd = float(table.reward(slice_name)[used].std(ddof=1))
    clusters = table.cluster_ids
    return SpecFit(
        slice_name,
        spec,
        method,
        fit,
        standardised(fit, x_sd, y_sd),
        p_adjusted,
        counted,
        len(clusters),
        len(np.unique(clusters)),
        len(np.unique(clusters[used])),
        _notes(fit, design),
    )


def is_published(spec: str) -> bool:
    """Tell whether a spec has the published errors and adjustment."""
    return spec.removesuffix(LENGTH) == PUBLISHED_SPEC


def regression_rows(fits: Sequence[SpecFit], **columns: str) -> list[dict[str, Any]]:
    """Return rows of the audit table.

    Metrics: `beta`, `beta_standardised` (see `SpecFit.scaled`), `vif` and, in clustered specs, `effective_clusters` per
    term; `r_squared` per regression (of deviations in the within specs); `rows_dropped` with the reason as method,
    a count out of `n` items.

    Args:
        fits: Fitted specs.
        columns: Further columns of every row, such as dataset and scorer.
    """
    return [columns | row for fit in fits for row in _rows(fit)]


def _rows(spec_fit: SpecFit) -> list[dict[str, Any]]:
    """Rows of one spec."""
    fit = spec_fit.fit
    published = is_published(spec_fit.spec)
    same = {
        "audit": "reward-imprint",
        "slice": spec_fit.slice_name,
        "mode": "as_published" if published else "corrected",
        "spec": spec_fit.spec,
        "method": spec_fit.method,
    }
    counts = {"n": fit.n, "n_clusters": spec_fit.used_clusters}
    rows: list[dict[str, Any]] = []
    for metric, which in (("beta", fit), ("beta_standardised", spec_fit.scaled)):
        rows += [_slope(which, k, spec_fit.p_adjusted[k]) | {"metric": metric} | counts for k in _shown(which, metric)]
    if spec_fit.method == "ols":
        numbers = {"vif": fit.vif} | ({} if published else {"effective_clusters": fit.effective_clusters})
        rows += [
            {"metric": metric, "feature": fit.names[k], "estimate": values[k]} | counts
            for metric, values in numbers.items()
            for k in _shown(fit, metric)
        ]
        rows.append({"metric": "r_squared", "estimate": fit.r_squared} | counts)
    rows = [same | row for row in rows]
    totals = {"n": spec_fit.n_items, "n_clusters": spec_fit.n_clusters}
    for reason, count in spec_fit.counted.items():
        named = ("rows_with_gold", spec_fit.method) if reason == GOLD else ("rows_dropped", reason)
        rows.append(same | {"metric": named[0], "method": named[1], "estimate": count} | totals)
    return rows


def _slope(fit: Regression, k: int, p_adjusted: float) -> dict[str, Any]:
    """Columns of one slope."""
    return {
        "feature": fit.names[k],
        "estimate": fit.beta[k],
        "std_error": fit.std_error[k],
        "ci_low": fit.ci_low[k],
        "ci_high": fit.ci_high[k],
        "p_value": fit.p_value[k],
        "p_adjusted": p_adjusted,
    }


def _shown(fit: Regression, metric: str) -> list[int]:
    """Terms that a metric has rows for: the intercept and item effects have no standard deviation."""
    everything = metric in ("beta", "effective_clusters")
    return [k for k, name in enumerate(fit.names) if everything or not name.startswith("(")]


def _notes(fit: Regression, design: Design) -> tuple[str, ...]:
    """Say what has no slope or no error, and which slopes rest on few clusters."""
    notes = [fit.reason] if fit.reason else []
    constant = [name for name, varies in zip(design.names, design.varying, strict=True) if not varies]
    if constant:
        where = "" if design.intercept else " within groups"
        notes.append(f"no slope, constant{where}: {', '.join(constant)}")
    for low, high, what in (
        (0.0, MIN_EFFECTIVE_CLUSTERS, "no error, the slope rests on one cluster"),
        (MIN_EFFECTIVE_CLUSTERS, FEW_CLUSTERS, "the slope rests on few clusters, its error is too small"),
    ):
        found = [f"{n} ({g:.1f})" for n, g in zip(fit.names, fit.effective_clusters, strict=True) if low <= g < high]
        if found and not fit.reason:
            notes.append(f"{what}: {', '.join(found)}")
    return tuple(notes)
