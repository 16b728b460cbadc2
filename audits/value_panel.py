"""Which values do models answer with, how far are they from a target, and does a reward follow them?

Rows on value vectors of answers, whoever predicted them, several models to the same prompts. Everything that the
answers to one prompt share is respected: intervals are clustered by prompt, models are compared within prompts.
"""

import itertools
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from audits.item_table import ItemTable
from audits.pair_rows import Rows, estimate_rows, with_holm
from audits.reward_regression import SpecFit, fit_specs, regression_rows
from audits.stats.clustered import clustered_mean, clustered_rate
from audits.stats.group_gaps import group_gaps
from audits.stats.rank_correlation import clustered_spearman
from audits.stats.value_distance import basealign_distance, smooth_distance, value_distances
from audits.value_vectors import AUDIT, circle_fits, circle_rows, mean_rows, measures, nets, paired_rows
from datamodules.target_vectors import TargetVector
from datamodules.taxonomy import Taxonomy
from datamodules.value_vectors import STORED, ValueVectors

Floats = NDArray[np.float64]
Bools = NDArray[np.bool_]

# Comparisons of two models are many where models are.
MOST_COMPARED = 6
# Of prompts among tags: with 140 tests of one slice, Holm's smallest p-value is still below 0.05.
TAG_DRAWS = 2_999


def panel_rows(data: ValueVectors, taxonomy: Taxonomy, targets: Sequence[TargetVector]) -> Rows:
    """Return all rows but the regressions of rewards: `slice` is the model, empty for all, and `subset` the tag."""
    rows: Rows = []
    for model, inside in _scopes(data):
        columns = {"slice": model}
        found = measures(data.vectors[inside], taxonomy, targets)
        rows += mean_rows(found, data.prompts[inside], columns)
        rows += mask_rows(data.vectors[inside], data.prompts[inside], taxonomy.slugs, targets, columns)
        fits = circle_fits(data.vectors[inside], data.prompts[inside], taxonomy)
        rows += circle_rows(fits, taxonomy.slugs, columns)
        if data.rewards is not None:
            estimate = clustered_mean(data.rewards[inside][:, None], data.prompts[inside])
            same = {"metric": "mean_reward", "method": "mean", "spec": "pooled-clustered", "mode": "corrected"}
            rows += estimate_rows(estimate, [""], same | columns)
        rows += tag_rows(data, inside, columns)
    rows += _model_rows(data, taxonomy, targets) + stored_rows(data, targets)
    return [{"audit": AUDIT, "dataset": data.name, "taxonomy": taxonomy.name} | row for row in rows]


def reward_fits(data: ValueVectors) -> list[SpecFit]:
    """Regress the reward on the values: pooled, clustered by prompt and within prompts, as `imprint reward regress`.

    Returns:
        Nothing where the file has no rewards; without length where it has none.
    """
    if data.rewards is None:
        return []
    features, names = data.vectors, nets(data.slugs)
    if data.lengths is not None:
        features, names = np.column_stack([features, data.lengths]), (*names, data.length_name)
    table = ItemTable(
        group_ids=data.prompts,
        cluster_ids=data.prompts,
        item_ids=data.models,
        rewards={"none": data.rewards},
        features=features,
        feature_names=names,
        length_name=None if data.lengths is None else data.length_name,
    )
    return fit_specs(table)


def reward_rows(fits: Sequence[SpecFit], data: ValueVectors, taxonomy: Taxonomy) -> Rows:
    """Return the rows of `reward_fits`, of the audit `reward-imprint`."""
    return regression_rows(fits, dataset=data.name, taxonomy=taxonomy.name, scorer="reward")


def mask_rows(
    vectors: Floats,
    prompts: NDArray[Any],
    slugs: tuple[str, ...],
    targets: Sequence[TargetVector],
    columns: Mapping[str, Any],
) -> Rows:
    """Rows on what BaseAlign's mask does to its distance.

    `mask_rank_correlation` is Spearman's between the distance as published and itself without the mask (method
    `unmasked`), or the smooth one (method `smooth`): what a reward ranks by must not run against what it stands for.
    `free_share` is the share of texts that the mask puts at distance 0 although without it they are at none.
    """
    rows: Rows = []
    for target in targets:
        t = target.vector(slugs)
        masked, unmasked = basealign_distance(vectors, t), basealign_distance(vectors, t, mask=None)
        same = {"feature": target.name, "mode": "as_published", "spec": "pooled-clustered", **columns}
        for method, other in (("unmasked", unmasked), ("smooth", smooth_distance(vectors, t, target.weight(slugs)))):
            found = clustered_spearman(masked, other, prompts)
            names = ("estimate", "std_error", "ci_low", "ci_high", "n", "n_clusters")
            row = {name: getattr(found, name) for name in names}
            rows.append(same | row | {"metric": "mask_rank_correlation", "method": method})
        free = clustered_rate(((masked == 0) & (unmasked > 0))[:, None], prompts)
        rows += estimate_rows(free, [target.name], same | {"metric": "free_share", "method": "count"})
    return rows


def tag_rows(data: ValueVectors, inside: Bools, columns: Mapping[str, Any]) -> Rows:
    """Rows on values by tag of the prompt: the mean of each value, and how far it is from that of all other prompts.

    The difference is tested by dealing the tag to other prompts (values are so skewed that t finds differences of tags
    that mean nothing, where few prompts have them), and undefined for a tag of fewer than 20 answers or 10 prompts. Its
    interval is by t with prompt-clustered errors. Holm's family is all values of all tags of one slice, since who reads
    such a table looks at all of it.
    """
    rows: Rows = []
    tested: Rows = []
    vectors, prompts = data.vectors[inside], data.prompts[inside]
    for k, tag in enumerate(data.tag_names):
        has = data.tags[inside, k]
        scope = {"mode": "corrected", "method": "mean", "subset": tag, **columns}
        estimate = clustered_mean(vectors[has], prompts[has]).within(-1.0, 1.0)
        mean = {"metric": "mean_value", "spec": "pooled-clustered"}
        rows += estimate_rows(estimate, nets(data.slugs), scope | mean)
        contrast = {"metric": "value_contrast", "spec": "pooled-clustered"}
        tested += [scope | contrast | row for row in _contrasts(vectors, has, prompts, data.slugs)]
    return rows + with_holm(tested)


def stored_rows(data: ValueVectors, targets: Sequence[TargetVector]) -> Rows:
    """Rows on how far the distances that the file stores are from ours: the largest absolute difference."""
    rows: Rows = []
    by_name = {target.name: target for target in targets}
    for column, (method, name) in STORED.items():
        if column not in data.stored or name not in by_name:
            continue
        ours = value_distances(data.vectors, by_name[name].vector(data.slugs))[method]
        for model, inside in _scopes(data):
            errors = np.abs(ours - data.stored[column])[inside]
            known = errors[~np.isnan(errors)]
            row: dict[str, Any] = {"slice": model, "feature": name, "metric": "stored_distance_error", "method": method}
            row |= {"mode": "as_published", "spec": "max-abs", "n": len(known)}
            row |= {"estimate": known.max() if len(known) else np.nan}
            rows.append(row | {"n_clusters": len(np.unique(data.prompts[inside][~np.isnan(errors)]))})
    return rows


def _scopes(data: ValueVectors) -> list[tuple[str, Bools]]:
    """All answers (slice "") and, where there are several, those of each model."""
    names = data.model_names
    own = [(name, data.models == name) for name in names] if len(names) > 1 else []
    return [("", np.ones(len(data.models), dtype=np.bool_)), *own]


def _contrasts(vectors: Floats, has: Bools, prompts: NDArray[Any], slugs: Sequence[str]) -> Rows:
    """Mean of each value where the tag is minus its mean where it is not, clustered by prompt."""
    one = np.zeros(len(has), dtype=np.int64)
    found = group_gaps(vectors, has[:, None], prompts, one, n_draws=TAG_DRAWS, permuted=True)
    columns = {"estimate": found.estimate, "std_error": found.std_error, "ci_low": found.ci_low}
    columns |= {"ci_high": found.ci_high, "p_value": found.p_value}
    same = {"n": len(has), "n_clusters": len(np.unique(prompts))}
    return [
        same | {"feature": feature} | {name: float(table[0, k]) for name, table in columns.items()}
        for k, feature in enumerate(nets(slugs))
    ]


def _model_rows(data: ValueVectors, taxonomy: Taxonomy, targets: Sequence[TargetVector]) -> Rows:
    """Rows on two models' answers to the same prompts, paired; none where models are too many to compare all."""
    names = data.model_names
    rows: Rows = []
    if len(names) > MOST_COMPARED:
        return rows
    for first, second in itertools.combinations(names, 2):
        own = [np.flatnonzero(data.models == name) for name in (first, second)]
        shared, i, j = np.intersect1d(data.prompts[own[0]], data.prompts[own[1]], return_indices=True)
        if len(shared):
            one, other = (measures(data.vectors[at], taxonomy, targets) for at in (own[0][i], own[1][j]))
            rows += paired_rows(one, other, shared, {"slice": f"{first} - {second}"})
    return rows
