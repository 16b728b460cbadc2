"""Did what a reward model rewards, as this classifier sees it, move between checkpoints?

The rewards stay as they are; the values found in the same responses change with the checkpoint, and the slopes with
them. Each look has its own regression, so a change is the difference of two `beta` rows of the reward imprint. Its
error comes from the difference of both regressions' influence, cluster by cluster, since they share all items. As in
`drift`, intervals speak of the population of prompts, and one family holds the changes of all features and looks.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial

import numpy as np
import pyarrow as pa

from audits.base import Bools, Floats, Ints, ViewRequest
from audits.drift import NAME, Look, check_same_pairs, common_scopes, judge
from audits.drift_description import Row
from audits.item_table import HEADLINE_SPEC, LENGTH, ItemTable, make_design, usable_rows
from audits.pair_rows import Rows, uncalibrated_mark
from audits.reward_imprint import fit_identified, item_table, reward_sets
from audits.stats.max_t import N_DRAWS, Simultaneous, effective_clusters
from audits.stats.ols import slope_influence, with_terms
from audits.table import make_table

SPECS = (HEADLINE_SPEC, HEADLINE_SPEC + LENGTH)
AT_BASELINE = "at-baseline:"
INFERENCE = ("std_error", "ci_low", "ci_high", "p_value", "p_adjusted")
# From estimates, influence, clusters behind each, how many of them inform it, and numbers of their looks.
Judge = Callable[[Floats, Floats, Ints, Floats, Ints], tuple[str, Simultaneous]]


def imprint_drift_rows(
    baseline: Look,
    looks: Sequence[Look],
    view: ViewRequest,
    planned_looks: int | None = None,
    n_draws: int = N_DRAWS,
    seed: int = 0,
) -> pa.Table:
    """Return how far the slopes of the `within` specs moved from the baseline to each look, over all pairs.

    Rows have audit `drift`, metric `beta_change`, spec `<spec>-from-<baseline name>`, slice and scorer as the reward
    imprint has them, and method `max-t` or `spending` (see `drift_rows`); the family is all features and looks of one
    (scorer, slice, spec). The estimate is NaN, and a `left_out` row says why in its method (`at-baseline:` where it is
    the baseline's doing), for a feature that has no slope at one of the two looks: `constant`, `combination-of:`
    others; or whose slope there stands for others too: `joined-by:` them. A slope that rests on one prompt has no
    error, and a `no_error` row; where a whole regression has no slope or no error, a `not_fitted` or `no_error` row
    without a feature says why.

    Args:
        baseline: What the looks are compared to; with the view, rewards and text features.
        looks: Other checkpoints at the same pairs, rewards and text features, each with another step.
        view: What the classifier read.
        planned_looks: How many looks there will be at most; None when all looks are in.
        n_draws: Draws of the multiplier bootstrap.
        seed: Seed of its signs.

    Raises:
        ValueError: No look, other pairs, labels, rewards or text features than the baseline's, the view was not scored,
            two looks of one step, or more looks than planned.
    """
    if not looks:
        raise ValueError("no look to compare with the baseline")
    for look in (baseline, *looks):
        check_same_pairs(baseline, look)
        _check_same_measures(baseline, look, view)
    scored = baseline.scored
    mark = uncalibrated_mark(all(look.scored.calibrated for look in (baseline, *looks)))
    same = {"audit": NAME, "dataset": scored.dataset, "taxonomy": scored.taxonomy, "mode": "corrected"}
    judged = partial(judge, planned_looks=planned_looks, n_draws=n_draws, seed=seed)
    _, inside = common_scopes(baseline, looks)[0]
    rows: Rows = []
    for scorers, rewards in reward_sets(scored.rewards):
        tables = [item_table(look.scored, view, inside, rewards) for look in (baseline, *looks)]
        for slice_name in tables[0].slices:
            for spec in (spec for spec in SPECS if spec in tables[0].specs):
                before, *after = (_slopes(table, slice_name, spec) for table in tables)
                columns = {"slice": slice_name, "scorer": scorers[slice_name], "spec": f"{spec}-from-{baseline.name}"}
                steps = [same | columns | {"step": look.step, "epoch": look.epoch} for look in looks]
                rows += _family_rows(before, after, steps, mark, judged)
    return make_table(rows)


@dataclass(frozen=True, slots=True, eq=False)
class _Slopes:
    """One regression of k features.

    Attributes:
        names: Features [k].
        beta: Slopes [k]; NaN where there is none, or it stands for other features too.
        has_error: Which slopes have an error, bool [k].
        influence: Of each cluster on the slopes [G, k].
        effective: How many clusters inform each slope [k]; NaN where it has no error.
        clusters: The clusters [G], sorted.
        n: Rows.
        left_out: Feature -> why it has no slope that can be compared.
        unsure: Features whose slope rests on one cluster, so that it has no error.
        failed: (metric, reason) where no slope, or no error of any slope, is defined.
    """

    names: tuple[str, ...]
    beta: Floats
    has_error: Bools
    influence: Floats
    effective: Floats
    clusters: Ints
    n: int
    left_out: dict[str, str]
    unsure: tuple[str, ...]
    failed: tuple[str, str] | None


def _slopes(table: ItemTable, slice_name: str, spec: str) -> _Slopes:
    """Fit one regression as the reward imprint does, and take its influence."""
    spec_fit, combined, reason = fit_identified(table, slice_name, spec)
    used, _ = usable_rows(table, slice_name, spec)
    design = make_design(table, slice_name, spec, used)
    clusters = table.cluster_ids[used]
    fit = with_terms(spec_fit.fit, design.names)
    beta, fitted, has_error = fit.beta.copy(), np.isfinite(fit.beta), np.isfinite(fit.std_error)
    influence, effective = np.zeros((len(np.unique(clusters)), len(beta))), np.full(len(beta), np.nan)
    if has_error.any():
        influence[:, fitted], shares = slope_influence(design.x[:, fitted], design.y, beta[fitted], clusters)
        # Clusters without the feature inform its slope of nothing, whatever the residuals of the others are.
        effective[fitted] = np.minimum(effective_clusters(influence[:, fitted], shares), 1 / (shares**2).sum(axis=0))
    left_out: dict[str, str] = {}
    if fitted.any():
        joined = {name: [other for other, parts in combined.items() if name in parts] for name in design.names}
        for k, name in enumerate(design.names):
            if name in combined:
                left_out[name] = f"combination-of:{'+'.join(combined[name])}"
            elif joined[name]:
                left_out[name] = f"joined-by:{'+'.join(joined[name])}"
            elif not fitted[k]:
                left_out[name] = "constant"
    beta[[k for k, name in enumerate(design.names) if name in left_out]] = np.nan
    failed = ("no_error" if fitted.any() else "not_fitted", reason) if reason else None
    alone = np.isfinite(beta) & ~has_error & (failed is None)
    unsure = tuple(name for name, is_alone in zip(design.names, alone, strict=True) if is_alone)
    every = np.unique(clusters)
    return _Slopes(design.names, beta, has_error, influence, effective, every, len(used), left_out, unsure, failed)


def _family_rows(
    before: _Slopes, after: Sequence[_Slopes], looks: Sequence[Row], mark: str, judge_by: Judge
) -> Iterator[Row]:
    """Rows of one family: slopes at the baseline and at each look, and the columns that stand for each look."""
    every = np.unique(np.concatenate([before.clusters, *(now.clusters for now in after)]))
    shape = (len(after), len(before.names))
    influence = np.zeros((len(every), *shape))
    influence[np.searchsorted(every, before.clusters)] -= before.influence[:, None]
    estimates, n_clusters = np.empty(shape), np.empty(shape, dtype=np.int64)
    for j, now in enumerate(after):
        influence[np.searchsorted(every, now.clusters), j] += now.influence
        estimates[j] = now.beta - before.beta
        n_clusters[j] = len(np.union1d(before.clusters, now.clusters))
    has_error = np.stack([before.has_error & now.has_error for now in after])
    judged = np.where(has_error, estimates, np.nan).ravel()
    numbers = np.repeat(np.arange(shape[0]), shape[1])
    effective = np.stack([np.minimum(before.effective, now.effective) for now in after]).ravel()
    method, found = judge_by(judged, influence.reshape(len(every), -1), n_clusters.ravel(), effective, numbers)
    columns = {name: getattr(found, name).reshape(shape).tolist() for name in INFERENCE}
    for j, (now, look) in enumerate(zip(after, looks, strict=True)):
        same = look | {"n": now.n, "n_clusters": int(n_clusters[j, 0])}
        for k, feature in enumerate(before.names):
            row = {"metric": "beta_change", "feature": feature, "method": f"{method}{mark}"}
            row |= {"estimate": float(estimates[j, k])} | {name: column[j][k] for name, column in columns.items()}
            yield same | row
        for prefix, fitted in ((AT_BASELINE, before), ("", now)):
            for feature, reason in fitted.left_out.items():
                yield same | {"metric": "left_out", "feature": feature, "method": prefix + reason}
            for feature in fitted.unsure:
                yield same | {"metric": "no_error", "feature": feature, "method": f"{prefix}one-cluster"}
            if fitted.failed:
                yield same | {"metric": fitted.failed[0], "method": prefix + fitted.failed[1]}


def _check_same_measures(baseline: Look, look: Look, view: ViewRequest) -> None:
    """Raise ValueError where a look lacks what the regressions need, or has other rewards or text features."""
    one, other = baseline.scored, look.scored
    if view.slug not in other.views or not other.rewards or other.text_features is None:
        raise ValueError(f"view {view.slug}, rewards and text features are needed at {look.name}")
    rewards = [[(reward.name, reward.role) for reward in scored.rewards] for scored in (one, other)]
    if rewards[0] != rewards[1] or not _equal(
        [reward.values for reward in one.rewards], [reward.values for reward in other.rewards]
    ):
        raise ValueError(f"rewards of {look.name} are not those of {baseline.name}: a change would be theirs")
    texts = one.text_features
    assert texts is not None
    if texts.names != other.text_features.names or not _equal([texts.values], [other.text_features.values]):
        raise ValueError(f"text features of {look.name} are not those of {baseline.name}: a change would be theirs")


def _equal(some: Sequence[Floats], others: Sequence[Floats]) -> bool:
    """Tell whether arrays are equal, NaN to NaN."""
    return all(np.array_equal(one, other, equal_nan=True) for one, other in zip(some, others, strict=True))
