"""What moved between checkpoints, when, by how much, and is it more than the luck of which prompts were drawn?

The same pairs are looked at again, so every change is a paired difference, clustered by prompt. One family holds the
changes of all values, looks and slices of a (data set, subset): adjusted p-values and intervals are simultaneous, by
max-T over all of them, or, while a run goes on, look by look with Bonferroni over the planned looks (`spending`). Each
holds its level by itself: who looks while a run goes on and again at its end, or with another baseline, looks twice.

Intervals speak of the population of prompts that the set was drawn from: they say what other prompts of that kind would
have shown with these same weights and thresholds. Every checkpoint has thresholds of its own, so a share of decisions
may move because they do; `mean_probability_change` does not know them. Intervals say nothing of another training run,
of another data set, or of whether the classifier is right; numerical noise of scoring is no part of them either.

A share can stand still while many decisions change both ways: churn and kappa stand next to every net change.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from audits.base import Bools, Floats, Ints, ScoredPairs
from audits.drift_description import Row, Slice, description_rows, features, reaches, slices, with_nets
from audits.pair_rows import Rows, uncalibrated_mark
from audits.stats.clustered import ROUNDING, cluster_sums
from audits.stats.max_t import N_DRAWS, Simultaneous, effective_clusters, max_t, spending
from audits.stats.paired import unanimous_p_value
from audits.table import make_table
from audits.value_distribution import SIDES

NAME = "drift"


@dataclass(frozen=True, slots=True, eq=False)
class Look:
    """One checkpoint's scores of a data set.

    Attributes:
        step: Training step of the checkpoint.
        epoch: Its epoch.
        name: How rows and reports call it.
        scored: Its scores.
    """

    step: int | None
    epoch: float | None
    name: str
    scored: ScoredPairs


def drift_rows(
    baseline: Look,
    looks: Sequence[Look],
    view: str,
    planned_looks: int | None = None,
    n_draws: int = N_DRAWS,
    seed: int = 0,
) -> pa.Table:
    """Return what changed from the baseline to each look, over all pairs (subset "") and in each subset.

    Pairs with a text that any of the checkpoints was trained on are left out. Rows have the step and epoch of the look
    and spec `from-<baseline name>`; the other columns of the run are empty. Per value, look and slice (`chosen` and
    `rejected`, ties `a` and `b`, and `chosen-rejected`, the difference of the two), after minus before:

    * `prevalence_change` (`prevalence_difference_change`), method `max-t` or `spending`: raw p-value of the clustered
      mean; p_adjusted and interval hold for the whole family, with the nets of signed values in it. Where all
      differences are the same no error can be seen: the p-value is that of exact sign flips, adjusted by Bonferroni.
    * `mean_probability_change` (`mean_probability_difference_change`): pointwise interval, no test.
    * `churn`: share of decisions that changed. `kappa`: agreement with the baseline beyond chance.
    * `psi`: population stability index of probabilities in the baseline's deciles; descriptive.

    and per look and slice `rank_correlation` of the values' prevalences (methods `spearman`, `kendall`) and
    `js_distance` of top-1 shares. Where a threshold was not fitted, methods of threshold and probability rows end in
    `-uncalibrated`.

    Args:
        baseline: What the looks are compared to.
        looks: Later checkpoints, or others, each with another step; all with the baseline's pairs in its order.
        view: Slug of the view.
        planned_looks: How many looks there will be at most; None when all looks are in.
        n_draws: Draws of the multiplier bootstrap.
        seed: Seed of its signs.

    Raises:
        ValueError: No look, other pairs or labels than the baseline's, a view that was not scored, two looks of one
            step, or more looks than planned.
    """
    if not looks:
        raise ValueError("no look to compare with the baseline")
    for look in (baseline, *looks):
        check_same_pairs(baseline, look)
        if view not in look.scored.views:
            raise ValueError(f"view {view} was not scored at {look.name}, only {', '.join(look.scored.views)}")
    scored = baseline.scored
    same = {"audit": NAME, "dataset": scored.dataset, "taxonomy": scored.taxonomy, "mode": "corrected"}
    same["spec"] = f"from-{baseline.name}"
    columns = [{"step": look.step, "epoch": look.epoch} for look in looks]
    rows: Rows = []
    for subset, inside in common_scopes(baseline, looks):
        parts = _parts(scored, inside)
        if not parts:
            continue
        changes = _changes(scored, parts, [look.scored.views[view].decisions for look in looks], view)
        found = _change_rows(changes, columns, _mark(baseline, looks), planned_looks, n_draws, seed)
        for tie, pairs in parts:
            found += description_rows(scored, view, pairs, tie, [*zip(columns, (k.scored for k in looks), strict=True)])
        rows += [same | {"subset": subset} | row for row in found]
    return make_table(rows)


def check_same_pairs(baseline: Look, look: Look) -> None:
    """Raise ValueError where two looks are not at the same pairs with the same labels, in the same order."""
    one, other = baseline.scored, look.scored
    for name in ("dataset", "taxonomy", "slugs", "labels", "signed"):
        if getattr(one, name) != getattr(other, name):
            found = f"{getattr(other, name)}, not {getattr(one, name)}"
            raise ValueError(f"{name} of {look.name} are not those of {baseline.name}: {found}")
    for name in ("pair_ids", "subsets", "clusters", "is_tie"):
        if not np.array_equal(getattr(one, name), getattr(other, name)):
            raise ValueError(f"{name} of {look.name} are not those of {baseline.name}")


def common_scopes(baseline: Look, looks: Sequence[Look]) -> list[tuple[str, Bools]]:
    """Return the baseline's scopes without the pairs that any of the checkpoints was trained on."""
    known = [look.scored.trained_on for look in (baseline, *looks) if look.scored.trained_on is not None]
    trained_on = np.logical_or.reduce(known) if known else None
    return replace(baseline.scored, trained_on=trained_on).scopes()


def influence_on_mean(values: Floats, clusters: Ints) -> tuple[Floats, Floats]:
    """Return the means of values [n, k], finite, and the sums over each cluster of the items' influence on them.

    Returns:
        float64 [k], and [G, k] in sorted order of the clusters; 0 throughout where clusters do not vary.
    """
    n = len(values)
    means = values.mean(axis=0)
    sums = cluster_sums(values - means, clusters) / n
    is_rounding = np.sqrt((sums**2).sum(axis=0)) <= ROUNDING * np.abs(values).max(axis=0)
    sums[:, is_rounding] = 0.0
    return means, sums


def judge(
    estimates: Floats,
    influence: NDArray[np.floating],
    n_clusters: Ints,
    effective: Floats,
    looks: Ints,
    planned_looks: int | None,
    n_draws: int,
    seed: int,
) -> tuple[str, Simultaneous]:
    """Judge one family of changes; returns how (`max-t`, or `spending` where looks are planned), and what was found.

    Args:
        estimates: [m].
        influence: Sums over clusters of the influence of items [G, m]; see `max_t`.
        n_clusters: Clusters behind each [m].
        effective: How many of them inform each [m]; see `effective_clusters`.
        looks: Number of the look of each [m].
        planned_looks: How many looks there will be at most; None when all are in.
        n_draws: Draws of the multiplier bootstrap.
        seed: Seed of its signs.
    """
    if planned_looks is None:
        return "max-t", max_t(estimates, influence, n_clusters, effective=effective, n_draws=n_draws, seed=seed)
    found = spending(
        estimates, influence, looks, planned_looks, n_clusters, effective=effective, n_draws=n_draws, seed=seed
    )
    return "spending", found


@dataclass(frozen=True, slots=True, eq=False)
class _Changes:
    """Paired changes of one family, all of shape [slices, looks, features] but the influence [G, ...].

    Attributes:
        features: Names of the features.
        parts: The slices.
        n: Pairs behind each slice, [slices].
        estimates: Mean changes.
        influence: Sums over clusters of the influence of pairs; float32 is enough for an error, and this is large.
        n_clusters: Clusters behind each.
        effective: How many of them inform each.
        unanimous: p-value of sign flips where all differences are the same, else NaN.
        reach: Largest possible change.
    """

    features: list[str]
    parts: list[Slice]
    n: list[int]
    estimates: Floats
    influence: NDArray[np.float32]
    n_clusters: Ints
    effective: Floats
    unanimous: Floats
    reach: Floats


def _parts(scored: ScoredPairs, inside: Bools) -> list[tuple[bool, Ints]]:
    """Split pairs into those with a preferred side and ties, where there are any; by cluster, which sums faster."""
    split = [(tie, np.flatnonzero(inside & (scored.is_tie == tie))) for tie in SIDES]
    return [(tie, rows[np.argsort(scored.clusters[rows], kind="stable")]) for tie, rows in split if len(rows)]


def _changes(scored: ScoredPairs, parts: list[tuple[bool, Ints]], looks: Sequence[Bools], view: str) -> _Changes:
    """Measure the changes of decisions from the baseline to each look; looks hold decisions [n_pairs, 2, n_labels]."""
    every = np.unique(scored.clusters[np.concatenate([pairs for _, pairs in parts])])
    shown = [(part, pairs) for tie, pairs in parts for part in slices(tie)]
    shape = (len(shown), len(looks), len(features(scored)))
    influence = np.zeros((len(every), *shape), dtype=np.float32)
    estimates, effective, unanimous, reach = (np.empty(shape) for _ in range(4))
    n_clusters = np.empty(shape, dtype=np.int64)
    for s, (part, pairs) in enumerate(shown):
        clusters = scored.clusters[pairs]
        names, sizes = np.unique(clusters, return_counts=True)
        present, shares = np.searchsorted(every, names), sizes[:, None] / len(pairs)
        before = scored.views[view].decisions
        n_clusters[s], reach[s] = len(present), reaches(scored) * part.reach
        for k, after in enumerate(looks):
            flips = after[pairs].astype(np.int8) - before[pairs].astype(np.int8)
            change = with_nets(part.weights[0] * flips[:, 0] + part.weights[1] * flips[:, 1], scored)
            estimates[s, k], sums = influence_on_mean(change.astype(np.float64), clusters)
            influence[present, s, k], effective[s, k] = sums, effective_clusters(sums, shares)
            unanimous[s, k] = unanimous_p_value(change, n_clusters[s, k])
    n = [len(pairs) for _, pairs in shown]
    drawn = [part for part, _ in shown]
    return _Changes(features(scored), drawn, n, estimates, influence, n_clusters, effective, unanimous, reach)


def _change_rows(
    changes: _Changes, looks: Sequence[Row], mark: str, planned_looks: int | None, n_draws: int, seed: int
) -> Rows:
    """Rows of one family of changes; looks give the columns that stand for each."""
    shape = changes.estimates.shape
    influence = changes.influence.reshape(len(changes.influence), -1)
    numbers = np.broadcast_to(np.arange(len(looks))[:, None], shape).ravel()
    estimates, n_clusters = changes.estimates.ravel(), changes.n_clusters.ravel()
    effective = changes.effective.ravel()
    method, found = judge(estimates, influence, n_clusters, effective, numbers, planned_looks, n_draws, seed)
    unanimous, reach = changes.unanimous.ravel(), changes.reach.ravel()
    n_tests = estimates.size // len(looks) * (planned_looks or len(looks))
    columns = {
        "estimate": estimates,
        "std_error": found.std_error,
        "ci_low": np.maximum(found.ci_low, -reach),
        "ci_high": np.minimum(found.ci_high, reach),
        "p_value": np.where(np.isnan(unanimous), found.p_value, unanimous),
        "p_adjusted": np.where(np.isnan(unanimous), found.p_adjusted, np.minimum(n_tests * unanimous, 1.0)),
        "n_clusters": n_clusters,
    }
    cells = {name: column.tolist() for name, column in columns.items()}
    rows: Rows = []
    for j, (s, k, f) in enumerate(np.ndindex(shape)):
        part = changes.parts[s]
        row: Row = {"slice": part.name, "metric": f"prevalence{part.mark}_change", "method": f"{method}{mark}"}
        row |= {"feature": changes.features[f], "n": changes.n[s]}
        rows.append(looks[k] | row | {name: cell[j] for name, cell in cells.items()})
    return rows


def _mark(baseline: Look, looks: Sequence[Look]) -> str:
    """Return the end of the methods of one family, in which all looks stand together."""
    return uncalibrated_mark(all(look.scored.calibrated for look in (baseline, *looks)))
