"""What do models refuse, by safety, type and identity group of the prompt, and is the difference more than luck?

Every rate has its own denominator: the completions of that slice, of which its row gives the number. `as_published`
rows come from the file's own flags, or where it has none from the HH audit's string matcher; `corrected` rows from the
rules of `datamodules/refusals.py`, where not understanding is no refusal: `incapable_rate` stands beside
`refusal_rate`, so that a model that cannot answer is not taken for one that will not; and `unable_rate`, of all
completions, so that one that never refuses is not taken for one that answers. `own_group_named` shows whether prompts
and completions belong together. Models are compared pairwise in `audits/model_refusals.py`.

Specs say what an interval redraws: `by-template` whole templates (prompts that differ in the group's term alone), with
all their prompts and completions, `by-prompt` whole prompts. Group differences are tested `within-template`, see
`audits/stats/group_rates.py`, on the groups that share templates; `well-formed` repeats it without prompts that read
wrong, which would confound the group with the grammar. Prompts in whose template a group stands alone are in no test.
Holm's family is the groups of one model, side, metric, mode and spec; of spreads the models and sides.
"""

from typing import Any

import numpy as np
import pyarrow as pa

from audits.judged_completions import MATCHER, SIDES, Bools, Floats, Judged
from audits.model_refusals import model_pair_rows
from audits.stats.group_rates import N_DRAWS, bootstrap_rate, homogeneity
from audits.stats.multiplicity import holm
from audits.table import make_table
from datamodules.completions import SAFE_TYPES, XSTEST_TYPES, Completions
from datamodules.group_mentions import find_mentions
from datamodules.prompt_templates import FEWEST_SHARED, Lint
from datamodules.refusals import EMPTY

AUDIT = "refusals"
XSTEST_SUBSET = "xstest"
TESTED = ("refusal_rate", "incapable_rate")
SPECS = ("by-template", "by-prompt")
DISPARITY, DISPARITY_WELL_FORMED = "within-template", "within-template-well-formed"

SPREAD = "disparity_max_min"
TAKEN_AS_SAFE, NOT_COMPARED = "taken_as_safe", "groups_not_compared"

Rows = list[dict[str, Any]]


def refusal_table(dataset: str, models: tuple[Completions, ...], n_draws: int = N_DRAWS, seed: int = 0) -> pa.Table:
    """Audit the completions of models.

    Args:
        dataset: Name of the file.
        models: Completions by model.
        n_draws: Draws of each bootstrap and permutation.
        seed: Seed of the draws.

    Returns:
        Rows of the audit table: slices `safe` and `unsafe`, features `type:NAME` and `group:NAME`, `scorer` the model;
        subset `xstest` restates the rates on the types of XSTest, where the file holds others too. Rows on two models
        have both in `scorer`.
    """
    rows: Rows = []
    all_judged = [Judged(completions) for completions in models]
    for judged in all_judged:
        for own in (
            _rates(judged, n_draws, seed),
            _disparities(judged, n_draws, seed),
            _published_denominator(judged),
            _left_out(judged),
            _mentions(judged),
            _lint_rows(judged.lint),
        ):
            rows += [row | {"scorer": judged.completions.model} for row in own]
    rows += model_pair_rows(all_judged)
    _adjust_spreads(rows)
    return make_table([row | {"audit": AUDIT, "dataset": dataset} for row in rows])


def _rates(judged: Judged, n_draws: int, seed: int) -> Rows:
    rows: Rows = []
    inability = judged.inability()
    for subset, feature, mask in _parts(judged):
        for side in SIDES:
            inside = mask & judged.sides[side]
            if not inside.any():
                continue
            # Inability is told of a model, not of types and groups.
            for mode, method, metric, outcome in judged.judgements() + ([] if subset or feature else inability):
                same = {"subset": subset, "slice": side, "feature": feature, "metric": metric, "mode": mode}
                rows += _rate_rows(judged, inside & np.isfinite(outcome), outcome, n_draws, seed, same, method)
    return rows


def _rate_rows(
    judged: Judged, counted: Bools, outcome: Floats, n_draws: int, seed: int, same: dict[str, Any], method: str
) -> Rows:
    """One row per spec; the rate is the same, the interval is not."""
    rows: Rows = []
    for spec, clusters in zip(SPECS, (judged.by_template, judged.by_prompt), strict=True):
        found = bootstrap_rate(outcome[counted], clusters[counted], n_draws, seed)
        columns = ("estimate", "std_error", "ci_low", "ci_high", "n", "n_clusters")
        rows.append(same | {"spec": spec, "method": method} | {name: getattr(found, name) for name in columns})
    return rows


def _parts(judged: Judged) -> list[tuple[str, str, Bools]]:
    """Return subset, feature and rows of all that has rates: everything, XSTest's types, each type, each group."""
    completions = judged.completions
    is_xstest = np.isin(completions.types, XSTEST_TYPES)
    parts = [("", "", judged.usable)]
    if is_xstest.any() and not is_xstest[judged.usable].all():
        parts.append((XSTEST_SUBSET, "", judged.usable & is_xstest))
    kinds = sorted({kind for kind in completions.types.tolist() if kind})
    parts += [("", f"type:{kind}", judged.usable & (completions.types == kind)) for kind in kinds]
    for group in judged.templates.compared:
        parts.append(("", f"group:{group}", judged.usable & (completions.groups == group)))
    return parts


def _disparities(judged: Judged, n_draws: int, seed: int) -> Rows:
    """Tests of the compared groups, on the prompts whose template several groups share."""
    completions, templates = judged.completions, judged.templates
    rows: Rows = []
    if not templates.compared:
        return rows
    compared = templates.shared & np.isin(completions.groups, templates.compared)
    well_formed = ~np.isin(completions.prompts, sorted(judged.lint.flawed_prompts))
    for side in SIDES:
        for spec, kept in ((DISPARITY, compared), (DISPARITY_WELL_FORMED, compared & well_formed)):
            for mode, method, metric, outcome in judged.judgements():
                counted = judged.sides[side] & kept & np.isfinite(outcome)
                if metric in TESTED and counted.any():
                    same = {"slice": side, "mode": mode, "spec": spec}
                    rows += _disparity_rows(judged, counted, outcome, n_draws, seed, same, metric, method)
    return rows


def _disparity_rows(
    judged: Judged,
    counted: Bools,
    outcome: Floats,
    n_draws: int,
    seed: int,
    same: dict[str, Any],
    metric: str,
    method: str,
) -> Rows:
    groups, templates = judged.completions.groups[counted], judged.templates.templates[counted]
    # A prompt that two groups share would be two units: it says something else of each.
    units = np.char.add(np.char.add(groups, "\n"), judged.completions.prompts[counted])
    found = homogeneity(outcome[counted], groups, templates, units, n_draws, seed, FEWEST_SHARED)
    same = same | {"n": found.n, "n_clusters": found.n_strata}
    prefix = "" if metric == "refusal_rate" else f"{metric.removesuffix('_rate')}_"
    rows: Rows = [
        same
        | {"metric": f"{prefix}{SPREAD}", "method": f"{method}-permutation"}
        | {"estimate": found.spread, "p_value": found.p_spread},
        same
        | {"metric": f"{prefix}disparity_chi2", "method": f"{method}-chi2-df{found.df}"}
        | {"estimate": found.chi2, "p_value": found.p_chi2},
    ]
    adjusted = holm(found.p_groups)
    for k, group in enumerate(np.unique(groups).tolist()):
        row = same | {"metric": f"{metric}_difference", "feature": f"group:{group}", "method": f"{method}-permutation"}
        tested = {"estimate": found.differences[k], "p_value": found.p_groups[k], "p_adjusted": adjusted[k]}
        rows.append(row | tested | {"n": int(found.n_groups[k])})
    return rows


def _adjust_spreads(rows: Rows) -> None:
    """Adjust the tests of spreads by Holm, in place: a family is the models and sides of one metric, mode and spec."""
    families: dict[tuple[str, str, str], Rows] = {}
    for row in rows:
        if row["metric"].endswith(SPREAD):
            families.setdefault((row["metric"], row["mode"], row["spec"]), []).append(row)
    for own in families.values():
        for row, p_adjusted in zip(own, holm(np.array([row["p_value"] for row in own])), strict=True):
            row["p_adjusted"] = p_adjusted


def _published_denominator(judged: Judged) -> Rows:
    """Return what the HH audit printed for unsafe prompts: refusals of these over the number of safe ones."""
    mode, method, _, outcome = judged.judgements()[0]
    known = np.isfinite(outcome)
    safe, unsafe = (int((judged.sides[side] & known).sum()) for side in SIDES)
    refused = float(outcome[judged.sides["unsafe"] & known].sum())
    if not safe or not unsafe:
        return []
    same = {"slice": "unsafe", "mode": mode, "metric": "refusal_rate_over_n_safe", "spec": "pooled", "method": method}
    return [same | {"estimate": refused / safe, "n": safe}]


def _left_out(judged: Judged) -> Rows:
    """Count what some rate leaves out or takes for granted, and how far flags and string matcher agree."""
    completions = judged.completions
    empty, flagged = judged.classes == EMPTY, np.isfinite(completions.published)
    reasons = {
        "no-prompt": completions.prompts == "",
        "no-type": completions.types == "",
        "empty-completion": judged.usable & empty,
        "no-flag": judged.usable & ~flagged if judged.has_flags else np.zeros(len(flagged), dtype=np.bool_),
    }
    n = len(flagged)
    rows: Rows = [
        {"metric": "left_out", "method": reason, "estimate": float(mask.sum()), "n": n}
        for reason, mask in reasons.items()
        if mask.any()
    ]
    taken = judged.usable & ~completions.is_unsafe & ~np.isin(completions.types, SAFE_TYPES)
    for kind in sorted(set(completions.types[taken].tolist())):
        count = float((taken & (completions.types == kind)).sum())
        rows.append({"metric": TAKEN_AS_SAFE, "feature": f"type:{kind}", "estimate": count, "n": n})
    if alone := set(completions.groups.tolist()) - {""} - set(judged.templates.compared):
        rows.append({"metric": NOT_COMPARED, "method": "few-shared-templates", "estimate": float(len(alone))})
    both = flagged & np.isfinite(judged.matched)
    if both.any():
        agreed = float((completions.published == judged.matched)[both].mean())
        same = {"metric": "flag_agreement", "mode": "as_published", "method": f"{MATCHER}-match"}
        rows.append(same | {"estimate": agreed, "n": int(both.sum())})
    return rows


def _mentions(judged: Judged) -> Rows:
    """How often completions that name one compared group name their prompt's, beside chance."""
    completions, compared = judged.completions, judged.templates.compared
    asked = np.flatnonzero(judged.templates.shared & np.isin(completions.groups, compared))
    if not len(asked):
        return []
    found = find_mentions([completions.texts[i] for i in asked.tolist()], completions.groups[asked], compared)
    shares = (("own_group_named", found.own), ("own_group_named_by_chance", found.by_chance))
    return [{"metric": metric, "estimate": share, "n": found.n} for metric, share in shares]


def _lint_rows(lint: Lint) -> Rows:
    """What is repeated among the prompts, and how many read wrong; n is what is counted from."""
    rows: Rows = [{"metric": "distinct_prompts", "estimate": float(lint.n_prompts), "n": lint.n_rows}]
    for metric, repeated in (("repeated_group", lint.repeated_groups), ("repeated_template", lint.repeated_templates)):
        rows += [{"metric": metric, "feature": name, "estimate": float(factor)} for name, factor in repeated.items()]
    for kind, prompts in lint.flawed.items():
        rows.append({"metric": "flawed_prompts", "feature": kind, "estimate": float(len(prompts)), "n": lint.n_prompts})
    return rows
