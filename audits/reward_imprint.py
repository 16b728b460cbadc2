"""Which values does a reward model reward? Its scores regressed on the values found, at every checkpoint.

The features are the classifier's decisions and what was measured on the text itself (refusal phrases, hedging, lists,
sentiment, diversity); the length of the response is held equal in the `-length` specs. See `reward_regression` for the
specs: `within` is the headline, `pooled` is SEAL's (arXiv 2408.10270).
"""

from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Any, ClassVar

import numpy as np
import pyarrow as pa

from audits.base import Bools, Floats, Reward, ScoredPairs, ViewRequest
from audits.gold_imprint import gold_rows
from audits.item_table import ITEM_SPEC, ItemTable, make_design, usable_rows
from audits.pair_rows import Rows, uncalibrated_mark
from audits.resistance import pre_and_post
from audits.reward_regression import SpecFit, fit_spec, is_published, regression_rows
from audits.stats.ols import collinear_columns
from audits.table import make_table
from audits.value_distribution import EXCHANGE, SIDES

# Feature -> the features (or item effects) that it is a combination of.
Combinations = dict[str, tuple[str, ...]]


@dataclass(frozen=True, slots=True)
class RewardImprint:
    """Regressions of rewards on values and text features.

    Attributes:
        view: What the classifier read.
    """

    name: ClassVar[str] = "reward-imprint"
    per_checkpoint: ClassVar[bool] = True
    needs_rewards: ClassVar[bool] = True
    needs_text_features: ClassVar[bool] = True
    needs_rewrites: ClassVar[bool] = False

    view: ViewRequest = EXCHANGE

    def requests(self) -> tuple[ViewRequest, ...]:
        """Return the one view."""
        return (self.view,)

    def rows(self, scored: ScoredPairs) -> pa.Table:
        """Return the slopes over all pairs and in each subset, for every reward model.

        Every side of every pair is an item, ties too, since which side people preferred is not used; only the
        `within-item` specs, which hold it equal, are of the other pairs. Holm's (in `pooled`, Bonferroni's) family is
        the terms of one regression. Beside the rows of `regression_rows`:

        * `left_out`: a feature without a slope, for the reason in `method`: `constant` (within specs: on both sides of
          every pair alike), or `combination-of:` features before it, which keep their slopes.
        * `not_fitted`, `no_error`: no slope at all, or no error of any slope, for the reason in `method`.
        * Pairs that the classifier was trained on are in no row but the `pooled` ones, which are as published.
        * With gold labels, slopes corrected for the classifier's errors: see `gold_imprint.gold_rows`.

        Methods end in `-uncalibrated` where thresholds were not fitted.

        Args:
            scored: Scores with the view, rewards and text features.

        Raises:
            ValueError: The view, the rewards or the text features are not there, or two rewards share a role.
        """
        if self.view.slug not in scored.views or not scored.rewards or scored.text_features is None:
            raise ValueError(f"view {self.view.slug}, rewards and text features are needed")
        method = f"ols{uncalibrated_mark(scored.calibrated)}"
        rows: Rows = []
        for (subset, inside), (_, everything) in zip(scored.scopes(), scored.scopes(keep_trained_on=True), strict=True):
            same = {"audit": self.name, "dataset": scored.dataset, "subset": subset, "taxonomy": scored.taxonomy}
            for scorers, rewards in reward_sets(scored.rewards):
                every = item_table(scored, self.view, inside, rewards)
                untied = item_table(scored, self.view, inside & ~scored.is_tie, rewards)
                published = every
                if scored.trained_on is not None:
                    published = item_table(scored, self.view, everything, rewards)
                for slice_name in every.slices:
                    columns = same | {"scorer": scorers[slice_name]}
                    for spec in every.specs:
                        whole = published if is_published(spec) else every
                        own = [*_spec_rows(whole, untied if spec.startswith(ITEM_SPEC) else whole, slice_name, spec)]
                        own += gold_rows(scored.gold, every, inside, slice_name, spec, own)
                        rows += [columns | row | ({"method": method} if row["method"] == "ols" else {}) for row in own]
        return make_table(rows)


def reward_sets(rewards: tuple[Reward, ...]) -> list[tuple[dict[str, str], dict[str, Floats]]]:
    """Group rewards into what is regressed together.

    Returns:
        Slice of the audit table -> name in the `scorer` column, and role -> rewards. `pre` and `post` belong together;
        every other reward stands alone.

    Raises:
        ValueError: Two rewards in one of the roles.
    """
    both = pre_and_post(rewards)
    alone: list[tuple[dict[str, str], dict[str, Floats]]]
    alone = [({"": r.name}, {"none": r.values}) for r in rewards if both is None or r.role == "none"]
    if both is None:
        return alone
    pre, post = both
    names = {"pre": pre.name, "post": post.name, "post-pre": f"{post.name}-{pre.name}"}
    return [(names, {"pre": pre.values, "post": post.values}), *alone]


def item_table(scored: ScoredPairs, view: ViewRequest, inside: Bools, rewards: dict[str, Floats]) -> ItemTable:
    """Stack both sides of some pairs into items, chosen and rejected (a and b) of a pair in turn.

    A text feature with the name of a value is called `text-<name>`.

    Args:
        scored: Scores with the view and text features.
        view: What the classifier read.
        inside: Which pairs, bool [n_pairs].
        rewards: Role -> float64 [n_pairs, 2].
    """
    texts = scored.text_features
    assert texts is not None
    pairs = np.flatnonzero(inside)
    values = scored.views[view.slug].decisions[pairs].astype(np.float64)
    features = np.concatenate([values, texts.values[pairs]], axis=2)
    renamed = {name: f"text-{name}" if name in scored.labels else name for name in texts.names}
    sides = np.where(scored.is_tie[pairs, None], SIDES[True], SIDES[False])
    return ItemTable(
        group_ids=np.repeat(pairs, 2),
        cluster_ids=np.repeat(scored.clusters[pairs], 2),
        item_ids=sides.ravel(),
        rewards={role: array[pairs].ravel() for role, array in rewards.items()},
        features=features.reshape(-1, features.shape[2]),
        feature_names=(*scored.labels, *renamed.values()),
        length_name=renamed[texts.length_name],
    )


def fit_identified(table: ItemTable, slice_name: str, spec: str) -> tuple[SpecFit, Combinations, str]:
    """Fit a spec without the features that are combinations of others on the rows that it uses.

    Two rare values that tell the same pairs apart are one feature there, however they differ elsewhere.

    Returns:
        The regression, the features that were left out, and why no slope or no error is defined, or nothing.
    """
    fit = fit_spec(table, slice_name, spec)
    if np.isfinite(fit.fit.beta).any():
        return fit, {}, fit.fit.reason
    combined, reason = _combinations(table, slice_name, spec)
    if not combined:
        return fit, {}, reason or fit.fit.reason
    kept = [k for k, name in enumerate(table.feature_names) if name not in combined]
    names = tuple(table.feature_names[k] for k in kept)
    fit = fit_spec(replace(table, features=table.features[:, kept], feature_names=names), slice_name, spec)
    return fit, combined, fit.fit.reason


def _combinations(table: ItemTable, slice_name: str, spec: str) -> tuple[Combinations, str]:
    """Name the features that item effects, the length and the features before them determine, or say why none is.

    Where there are more columns than the rows can tell apart, every further column is a combination, and leaving them
    out would fit the reward exactly: nothing is left out then, and nothing fitted.
    """
    used, _ = usable_rows(table, slice_name, spec)
    design = make_design(table, slice_name, spec, used)
    held = [name for name in design.names if name.startswith("(") or name == table.length_name]
    order = sorted(np.flatnonzero(design.varying).tolist(), key=lambda k: design.names[k] not in held)
    if design.reason or not order:
        return {}, ""
    n_means = 1 if design.intercept else len(np.unique(table.group_ids[used]))
    if len(order) > len(used) - n_means:
        groups = "" if design.intercept else f" in {n_means} groups"
        return {}, f"{len(used)} rows{groups} are too few for {len(order)} features that vary"
    names = [design.names[k] for k in order]
    found = collinear_columns(design.x[:, order], names, intercept=design.intercept)
    # What a spec holds equal cannot be left out of it, nor can everything beside the length.
    is_left = set(found).isdisjoint(held) and not set(table.feature_names) <= {*found, table.length_name}
    return (found, "") if is_left else ({}, "")


def _spec_rows(every: ItemTable, table: ItemTable, slice_name: str, spec: str) -> Iterator[dict[str, Any]]:
    """Rows of one regression on some of the items, with what was left out of it."""
    spec_fit, combined, reason = fit_identified(table, slice_name, spec)
    yield from regression_rows([spec_fit])
    fit = spec_fit.fit
    same = {"slice": slice_name, "spec": spec, "mode": "as_published" if is_published(spec) else "corrected"}
    if n_tied := len(every.group_ids) - len(table.group_ids):
        counts = {"n": len(every.group_ids), "n_clusters": len(np.unique(every.cluster_ids))}
        yield same | counts | {"metric": "rows_dropped", "method": "tie", "estimate": n_tied}
    counts = {"n": fit.n, "n_clusters": spec_fit.used_clusters}
    reasons = {feature: f"combination-of:{'+'.join(others)}" for feature, others in combined.items()}
    for feature in reasons:
        yield same | counts | {"metric": "beta", "feature": feature, "method": "ols"}
    is_fitted = np.isfinite(fit.beta).any()
    if is_fitted:
        slopes = zip(fit.names, fit.beta, strict=True)
        reasons |= {name: "constant" for name, slope in slopes if np.isnan(slope) and not name.startswith("(")}
    for feature, why in reasons.items():
        yield same | counts | {"metric": "left_out", "feature": feature, "method": why}
    if reason:
        yield same | counts | {"metric": "no_error" if is_fitted else "not_fitted", "method": reason}
