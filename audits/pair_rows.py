"""How do rates, changes and effects over pairs become rows of the audit table?"""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from audits.base import Bools, Floats, Ints
from audits.reward_agreement import Rate, TiePolicy
from audits.stats.clustered import Estimate, clustered_mean
from audits.stats.logit import marginal_effects
from audits.stats.multiplicity import holm
from audits.stats.ols import Regression, collinear_columns, undefined, with_terms
from audits.stats.paired import exact_mcnemar, unanimous_p_value

Rows = list[dict[str, Any]]

# What a tie of the reward counts as wherever a row does not say: no agreement, as SEAL's definition has it.
POLICY: TiePolicy = "strict"
# A mark that fewer clusters have, or lack, has no effect to speak of, and would hide those of the others.
FEW_CLUSTERS = 5
# What can happen to a decision, or to the agreement of a reward, between two looks at the same pair.
FLIPS = ("lost", "gained")


def uncalibrated_mark(is_calibrated: bool) -> str:
    """Return the end of the method of numbers that rest on decisions: thresholds were fitted, or p is above 1/L."""
    return "" if is_calibrated else "-uncalibrated"


def rate_rows(metric: str, found: Rate, method: str, slice_name: str = "") -> Rows:
    """Two rows of one rate: with an interval that knows the clusters, and with Wilson's, which does not."""
    same = {"metric": metric, "slice": slice_name, "method": method, "estimate": found.rate}
    same |= {"n": found.n, "n_clusters": found.n_clusters}
    clustered = {"spec": "pooled-clustered", "std_error": found.std_error}
    clustered |= {"ci_low": found.ci_low, "ci_high": found.ci_high}
    wilson = {"spec": "pooled", "ci_low": found.wilson_low, "ci_high": found.wilson_high}
    return [same | clustered, same | wilson]


def estimate_rows(estimate: Estimate, features: Sequence[str], columns: Mapping[str, Any]) -> Rows:
    """One row per column of an estimate, without p-values."""
    names = ("estimate", "std_error", "ci_low", "ci_high", "n", "n_clusters")
    return [
        {**columns, "feature": feature} | {name: getattr(estimate, name)[k] for name in names}
        for k, feature in enumerate(features)
    ]


def difference_rows(differences: Floats, clusters: Ints, features: Sequence[str], columns: Mapping[str, Any]) -> Rows:
    """One row per column of paired differences in [-1, 1], float64 [n, k] and finite.

    The p-value is that of the clustered mean; where all differences are the same it is the exact one of sign flips.
    """
    estimate = clustered_mean(differences, clusters).within(-1.0, 1.0)
    unanimous = unanimous_p_value(differences, estimate.n_clusters)
    p_value = np.where(np.isnan(unanimous), estimate.p_value, unanimous)
    rows = estimate_rows(estimate, features, {**columns, "spec": "within"})
    return [row | {"p_value": p} for row, p in zip(rows, p_value.tolist(), strict=True)]


def with_holm(rows: Rows) -> Rows:
    """Return rows with p-values as one family of Holm's adjustment."""
    adjusted = holm([row["p_value"] for row in rows])
    return [row | {"p_adjusted": p} for row, p in zip(rows, adjusted.tolist(), strict=True)]


def change_rows(was: Floats, now: Floats, clusters: Ints, slice_name: str) -> Rows:
    """Rows on agreement (1, 0; NaN where unknown) of the same pairs at two looks [n], pairs known at both.

    The difference knows the clusters; beside it are the pairs that lost and gained agreement, with the p-value of
    McNemar's exact test, which takes pairs to be independent. (gained - lost) / n is the difference.
    """
    both = np.isfinite(was) & np.isfinite(now)
    changes = (now - was)[both]
    lost, gained = int((changes < 0).sum()), int((changes > 0).sum())
    same = {"slice": slice_name, "metric": "agreement_difference", "method": POLICY}
    rows = with_holm(difference_rows(changes[:, None], clusters[both], [""], same))
    same = {"metric": "agreement_flips", "spec": "pooled", "method": "mcnemar-exact"}
    counts = {"n": len(changes), "n_clusters": len(np.unique(clusters[both]))}
    p_value = float(exact_mcnemar(lost, gained)) if len(changes) else np.nan
    found = zip(FLIPS, (lost, gained), strict=True)
    return rows + [same | counts | {"slice": name, "estimate": n, "p_value": p_value} for name, n in found]


def effect_rows(
    metric: str, marks: Mapping[tuple[str, str], Bools], outcome: Floats, clusters: Ints, mark: str = ""
) -> Rows:
    """Average marginal effects of marks of pairs on an outcome, all in one logit; Holm's family is all of them.

    A mark without an effect that could be told is NaN and has a `left_out` row that counts it, with the reason as its
    method: `constant`; `rare`, had or lacked in fewer than FEW_CLUSTERS clusters; `separating`, one outcome only among
    the pairs that have it or among those that lack it; `combination-of:` others. Where the logit of the rest has no
    solution, all effects are NaN, and the method of a row `not_fitted` says why.

    Args:
        metric: Name of the effects.
        marks: (slice, feature) -> which pairs have it, bool [n].
        outcome: 0 or 1 [n].
        clusters: Cluster of each pair [n].
        mark: See `uncalibrated_mark`.
    """
    same = {"spec": "pooled-clustered", "n": len(outcome), "n_clusters": len(np.unique(clusters))}
    left_out = _left_out(marks, outcome, clusters)
    fit = _fitted(marks, left_out, outcome, clusters)
    adjusted = holm(fit.p_value)
    columns = ("beta", "std_error", "ci_low", "ci_high", "p_value")
    rows: Rows = []
    for k, (slice_name, feature) in enumerate(marks):
        row = same | {"metric": metric, "slice": slice_name, "feature": feature, "method": f"logit-ame{mark}"}
        row |= {("estimate" if name == "beta" else name): getattr(fit, name)[k] for name in columns}
        rows.append(row | {"p_adjusted": adjusted[k]})
    rows += [
        same
        | {"metric": "left_out", "slice": key[0], "feature": key[1], "method": reason, "estimate": marks[key].sum()}
        for key, reason in left_out.items()
    ]
    return [*rows, same | {"metric": "not_fitted", "method": fit.reason}] if fit.reason else rows


def _left_out(marks: Mapping[tuple[str, str], Bools], outcome: Floats, clusters: Ints) -> dict[tuple[str, str], str]:
    """Say which marks cannot have an effect, and why; with one outcome only it is not the marks that are to blame."""
    if len(np.unique(outcome)) < 2:
        return {}
    reasons = {key: reason for key, has in marks.items() if (reason := _unfit(has, outcome, clusters))}
    kept = [key for key in marks if key not in reasons]
    if kept:
        x = np.stack([marks[key] for key in kept], axis=1).astype(np.float64)
        names = {_term(key): key for key in kept}
        for name, others in collinear_columns(x, list(names), intercept=True).items():
            reasons[names[name]] = f"combination-of:{'+'.join(others)}"
    return {key: reasons[key] for key in marks if key in reasons}


def _unfit(has: Bools, outcome: Floats, clusters: Ints) -> str:
    """Say why a mark cannot have an effect on its own account, or nothing."""
    if has.all() or not has.any():
        return "constant"
    levels = (has, ~has)
    if min(len(np.unique(clusters[level])) for level in levels) < FEW_CLUSTERS:
        return "rare"
    return "separating" if any(np.ptp(outcome[level]) == 0 for level in levels) else ""


def _fitted(
    marks: Mapping[tuple[str, str], Bools], left_out: Mapping[tuple[str, str], str], outcome: Floats, clusters: Ints
) -> Regression:
    """Fit the marks that are left; all marks are terms of what is returned."""
    kept = {_term(key): has for key, has in marks.items() if key not in left_out}
    if kept:
        x = np.stack(list(kept.values()), axis=1).astype(np.float64)
        fit = marginal_effects(x, outcome, list(kept), clusters)
    else:
        fit = undefined([], len(outcome), len(np.unique(clusters)), "")
    return with_terms(fit, [_term(key) for key in marks])


def _term(key: tuple[str, str]) -> str:
    """Name a mark."""
    return "|".join(key)
