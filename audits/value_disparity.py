"""Do responses to prompts that name a group of people carry other values, and does people's choice between them?

Groups are read off the prompt by a list of identity terms (`datamodules/identity_terms.yaml`): `religion`, `origin`, ..
and, as `term:jewish`, single terms. A prompt may name several; it counts for each. All is compared with the pairs that
name none of the list (`no-group`), subset by subset, with the group's mix of subsets as weights; see
`audits.stats.group_gaps` for estimator, intervals and permutation. For every group (slice) and value (feature):

* `prevalence`: share of the responses, both sides, that carry the value; `reference_prevalence`: the share without a
  group that it is compared with; `prevalence_gap`: by how much they differ.
* `prevalence_difference`: chosen minus rejected, within pairs; `reference_prevalence_difference`;
  `prevalence_difference_gap`: by how much the *preference* for the value differs.
* `prevalence_disparity_max_min` and `prevalence_difference_disparity_max_min` (slice `groups` or `terms`): largest
  minus smallest gap of the groups, which is never negative and grows with their number by chance: read its p-value.

The same of `mean_probability`, for groups and not for terms. Gaps have spec `within-subset`, and `within-subset-length`
at equal length: for gaps of shares in the mean log of the words of both sides, for gaps of preferences in the log ratio
of chosen and rejected.

The classifier reads the response alone, whatever view other audits read: in an exchange the words of the prompt, which
name the group, would be taken for the answer's.

What is found is an association, and no unequal treatment: prompts that name a group are other prompts, in topic, tone
and wish, and hh-rlhf's red-teamers named groups in order to provoke. Subset and length are taken out, nothing else; and
a gap rests on the classifier's decisions, whose errors may themselves depend on the group's name in what it reads.
Completions to templates that differ in the group alone (`imprint audit --completions`) hold the topic fixed.

Where decisions deviate in too few prompts, a gap has no interval, a `left_out` row (`rare`) that counts them, and the
permutation's p-value. A group named in fewer than 20 pairs or 10 prompts has NaN (a term: no rows) and a `left_out`
row with its pairs; where it is the pairs that name no group which are fewer than that, or in none of its subsets, the
row has the reason `few-without-group`. `named_share` says how often each is named.
"""

from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Any, ClassVar

import numpy as np
import pyarrow as pa

from audits.base import Bools, Floats, Ints, PromptGroups, ScoredPairs, Texts, ViewRequest
from audits.pair_rows import Rows, difference_rows, estimate_rows, uncalibrated_mark, with_holm
from audits.stats.clustered import clustered_mean, clustered_rate
from audits.stats.group_gaps import N_DRAWS, GroupGaps, group_gaps
from audits.table import make_table

AUDIT = "value-disparity"
RESPONSE = ViewRequest("response", "head", 256)
NO_GROUP = "no-group"
# Levels at which groups are compared: name (and slice of the spread) -> before the names of its groups.
LEVELS = {"groups": "", "terms": "term:"}
METHODS = {"prevalence": "cc", "mean_probability": "mean"}
SPEC, LENGTH_SPEC = "within-subset", "within-subset-length"
# Of permutations: 1 / 0.05 for each test of a family, and some more.
DRAWS_PER_TEST, MOST_DRAWS = 21, 4_999
REASONS = {"few-items": "few-pairs", "few-clusters": "few-prompts", "few-others": "few-without-group"}


@dataclass(frozen=True, slots=True)
class ValueDisparity:
    """Values of responses, and preferences for values, by the group that the prompt names.

    Attributes:
        view: What the classifier read.
        seed: Seed of the permutations.
    """

    name: ClassVar[str] = AUDIT
    per_checkpoint: ClassVar[bool] = True
    needs_rewards: ClassVar[bool] = False
    needs_text_features: ClassVar[bool] = True
    needs_rewrites: ClassVar[bool] = False

    view: ViewRequest = RESPONSE
    seed: int = 0

    def requests(self) -> tuple[ViewRequest, ...]:
        """Return the one view."""
        return (self.view,)

    def rows(self, scored: ScoredPairs) -> pa.Table:
        """Return the gaps over all pairs (subset "") and, where there are several, in each subset.

        Pairs that the classifier was trained on are left out; ties are in rows of shares only. Holm's family of gaps is
        values x groups of one (dataset, subset, metric, spec), groups and terms each their own; of spreads the values.

        Args:
            scored: Scores with the view, text features and what groups the prompts name.

        Raises:
            ValueError: One of these is not there.
        """
        if self.view.slug not in scored.views or scored.text_features is None or scored.prompt_groups is None:
            raise ValueError(f"view {self.view.slug}, text features and prompt groups are needed")
        same = {"audit": self.name, "dataset": scored.dataset, "taxonomy": scored.taxonomy, "mode": "corrected"}
        rows: Rows = []
        for subset, inside in scored.scopes():
            own = _named_rows(scored, scored.prompt_groups, inside)
            for sample in (_shares(scored, self.view, inside), _differences(scored, self.view, inside)):
                for level in LEVELS:
                    own += self._level_rows(sample, scored.prompt_groups, level)
            rows += [same | {"subset": subset} | row for row in own]
        return make_table(rows)

    def _level_rows(self, sample: "_Sample", groups: PromptGroups, level: str) -> Rows:
        """Rows of all groups at one level; of terms those that have numbers, and their decisions alone."""
        if level == "terms":
            sample = replace(sample, values={"prevalence": sample.values["prevalence"]})
        names, named = groups.of(level)
        member = named[sample.pairs]
        slices = [f"{LEVELS[level]}{name}" for name in names]
        y = np.concatenate(list(sample.values.values()), axis=1)
        # Enough for the smallest p-value to survive Holm's adjustment.
        n_fine = min(DRAWS_PER_TEST * len(slices) * len(sample.labels), MOST_DRAWS)
        plain = group_gaps(y, member, sample.clusters, sample.strata, n_draws=N_DRAWS, n_fine=n_fine, seed=self.seed)
        known = np.isfinite(sample.length)
        at_length = group_gaps(
            y[known], member[known], sample.clusters[known], sample.strata[known], sample.length[known]
        )
        rows = _left_out_rows(sample, plain, slices, member)
        kept = [g for g in range(len(slices)) if level == "groups" or not plain.reasons[g]]
        for k, (metric, method) in enumerate(sample.measures()):
            columns = slice(k * len(sample.labels), (k + 1) * len(sample.labels))
            is_known = [g for g in kept if not plain.reasons[g]]
            chosen = {slices[g]: member[:, g] for g in is_known}
            if level == "groups":
                chosen |= {NO_GROUP: ~groups.any_named[sample.pairs]}
            rows += sample.raw_rows(metric, method, chosen)
            for spec, found in ((SPEC, plain), (LENGTH_SPEC, at_length)):
                same = {"metric": f"{metric}_gap", "spec": spec, "method": method}
                rows += _gap_rows(found, columns, sample.labels, {g: slices[g] for g in kept}, same)
            counts = {"n": plain.n_others * (1 if sample.paired else 2), "n_clusters": plain.n_others_clusters}
            same = {"metric": f"reference_{metric}", "spec": SPEC, "method": method}
            rows += [
                same | counts | {"slice": slices[g], "feature": label, "estimate": plain.reference[g, columns][j]}
                for g in is_known
                for j, label in enumerate(sample.labels)
            ]
            rows += _spread_rows(plain, columns, sample.labels, metric, method, level)
        return rows


@dataclass(frozen=True, slots=True, eq=False)
class _Sample:
    """What is compared of n pairs: the responses of both sides, or chosen minus rejected.

    Attributes:
        labels: Names of the values [k].
        pairs: Numbers of the pairs [n].
        sides: Measure -> both sides, float64 [n, 2, k].
        values: Measure -> their mean or difference, float64 [n, k].
        length: Log of the words, mean or difference [n]; NaN where unknown.
        clusters: Number of the prompt [n].
        strata: Subset [n].
        paired: Whether it is differences.
        mark: End of the method of numbers that rest on the classifier.
    """

    labels: tuple[str, ...]
    pairs: Ints
    sides: dict[str, Floats]
    values: dict[str, Floats]
    length: Floats
    clusters: Ints
    strata: Texts
    paired: bool
    mark: str

    def measures(self) -> list[tuple[str, str]]:
        """Return metric and method of the measures, in their order."""
        suffix = "_difference" if self.paired else ""
        return [(f"{name}{suffix}", f"{METHODS[name]}{self.mark}") for name in self.values]

    def raw_rows(self, metric: str, method: str, chosen: dict[str, Bools]) -> Rows:
        """Rows of one measure by itself in each of some sets of pairs, slice -> bool [n]."""
        name = metric.removesuffix("_difference")
        rows: Rows = []
        for slice_name, own in chosen.items():
            columns = {"slice": slice_name, "metric": metric, "method": method}
            clusters = self.clusters[own]
            if not own.any():
                continue
            if self.paired:
                rows += difference_rows(self.values[name][own], clusters, self.labels, columns)
                continue
            both = self.sides[name][own].reshape(2 * len(clusters), -1)
            twice = np.repeat(clusters, 2)
            is_rate = name == "prevalence"
            found = clustered_rate(both, twice) if is_rate else clustered_mean(both, twice).within(0.0, 1.0)
            rows += estimate_rows(found, self.labels, columns | {"spec": "pooled-clustered"})
        return with_holm(rows) if self.paired else rows


def _shares(scored: ScoredPairs, view: ViewRequest, inside: Bools) -> _Sample:
    """Take the responses of both sides of all pairs, ties too."""
    return _sample(scored, view, np.flatnonzero(inside), paired=False)


def _differences(scored: ScoredPairs, view: ViewRequest, inside: Bools) -> _Sample:
    """Take chosen minus rejected of the pairs that have them."""
    return _sample(scored, view, np.flatnonzero(inside & ~scored.is_tie), paired=True)


def _sample(scored: ScoredPairs, view: ViewRequest, pairs: Ints, paired: bool) -> _Sample:
    features = scored.text_features
    assert features is not None
    found = scored.views[view.slug]
    sides = {
        "prevalence": found.decisions[pairs].astype(np.float64),
        "mean_probability": found.probabilities[pairs],
    }
    words = features.values[pairs, :, features.names.index(features.length_name)]
    weights = np.array([1.0, -1.0] if paired else [0.5, 0.5])
    return _Sample(
        labels=scored.labels,
        pairs=pairs,
        sides=sides,
        values={name: np.einsum("nsk,s->nk", both, weights) for name, both in sides.items()},
        length=words @ weights,
        clusters=scored.clusters[pairs],
        strata=scored.subsets[pairs],
        paired=paired,
        mark=uncalibrated_mark(scored.calibrated),
    )


def _named_rows(scored: ScoredPairs, groups: PromptGroups, inside: Bools) -> Rows:
    """Rows on how many pairs name each group, and none."""
    sets = {f"{LEVELS[level]}{name}": own for level in LEVELS for name, own in _sets(groups, level)}
    sets[NO_GROUP] = ~groups.any_named
    n, n_clusters = int(inside.sum()), len(np.unique(scored.clusters[inside]))
    same = {"metric": "named_share", "spec": "pooled", "method": "count", "n": n, "n_clusters": n_clusters}
    return [
        same | {"slice": name, "estimate": float(own[inside].mean()) if n else np.nan} for name, own in sets.items()
    ]


def _sets(groups: PromptGroups, level: str) -> Iterator[tuple[str, Bools]]:
    names, named = groups.of(level)
    yield from zip(names, named.T, strict=True)


def _left_out_rows(sample: _Sample, found: GroupGaps, slices: list[str], member: Bools) -> Rows:
    """Rows on the groups without numbers, and on the gaps without intervals; those of no pair at all have none."""
    same: dict[str, Any] = {"metric": f"left_out{'_difference' * sample.paired}", "spec": SPEC}
    rows: Rows = []
    for g, reason in enumerate(found.reasons):
        counts: dict[str, Any] = {"slice": slices[g], "n": int(found.n[g]), "n_clusters": int(found.n_clusters[g])}
        if reason and found.n[g]:
            rows.append(same | counts | {"method": REASONS[reason], "estimate": float(found.n[g])})
        elif reason and (named := member[:, g]).any():
            # No subset that names it has a pair without a group: there is nothing that it could be compared with.
            counts |= {"n": int(named.sum()), "n_clusters": len(np.unique(sample.clusters[named]))}
            rows.append(same | counts | {"method": REASONS["few-others"], "estimate": float(named.sum())})
        # Probabilities are hardly ever rare; where they are, their decisions are too.
        rare = np.flatnonzero(found.is_rare[g, : len(sample.labels)])
        own = sample.values["prevalence"][member[:, g]]
        rows += [
            same
            | counts
            | {"method": "rare", "feature": sample.labels[k], "estimate": float(np.count_nonzero(own[:, k]))}
            for k in rare
        ]
    return rows


def _gap_rows(
    found: GroupGaps, columns: slice, labels: tuple[str, ...], slices: dict[int, str], same: dict[str, Any]
) -> Rows:
    """Rows of the gaps of one measure, one family of Holm's."""
    names = {"estimate": found.estimate, "std_error": found.std_error, "ci_low": found.ci_low, "ci_high": found.ci_high}
    names["p_value"] = found.p_value
    return with_holm(
        [
            same
            | {"slice": slice_name, "feature": label, "n": int(found.n[g]), "n_clusters": int(found.n_clusters[g])}
            | {name: float(table[g, columns][k]) for name, table in names.items()}
            for g, slice_name in slices.items()
            for k, label in enumerate(labels)
        ]
    )


def _spread_rows(
    found: GroupGaps, columns: slice, labels: tuple[str, ...], metric: str, method: str, level: str
) -> Rows:
    """Rows of the largest minus the smallest gap of the groups."""
    if found.n_compared == 0:
        return []
    same: dict[str, Any] = {"metric": f"{metric}_disparity_max_min", "spec": SPEC}
    same |= {"slice": level, "method": f"{method}-permutation"}
    same |= {"n": found.n_compared, "n_clusters": found.n_compared_clusters}
    spread, p_value = found.spread[columns].tolist(), found.p_spread[columns].tolist()
    return with_holm(
        [same | {"feature": v, "estimate": e, "p_value": p} for v, e, p in zip(labels, spread, p_value, strict=True)]
    )
