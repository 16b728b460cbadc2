"""What does a spec regress on what? Items in groups, which of them it can use, and its columns."""

from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from audits.stats.clustered import ROUNDING
from audits.stats.ols import constant_columns

Floats = NDArray[np.float64]
Bools = NDArray[np.bool_]
Ints = NDArray[np.int64]

PUBLISHED_SPEC = "pooled"
HEADLINE_SPEC = "within"
ITEM_SPEC = "within-item"
SPECS = (PUBLISHED_SPEC, "pooled-clustered", HEADLINE_SPEC, ITEM_SPEC)
LENGTH = "-length"
# Slice of the audit table -> the rewards that are needed for it: the last minus the first.
SLICES = {"": ("none",), "pre": ("pre",), "post": ("post",), "post-pre": ("pre", "post")}
# Sides or models are few; more item ids than this name single texts, and effects of them would explain everything.
MAX_ITEM_EFFECTS = 100


@dataclass(frozen=True, slots=True, eq=False)
class ItemTable:
    """Items with rewards and features; n items, k features. NaN marks what is missing.

    Attributes:
        group_ids: Pair or prompt of each item, [n].
        cluster_ids: Cluster of each item [n]; a group lies in one cluster.
        item_ids: Side or model of each item [n]; distinct within a group.
        rewards: Role (`pre` and `post`, or `none`) -> rewards, float64 [n].
        features: float64 [n, k].
        feature_names: Names of the columns [k].
        length_name: The feature that is the length of the text, held equal in the `-length` specs and only there; None
            leaves these specs out.
    """

    group_ids: NDArray[Any]
    cluster_ids: NDArray[Any]
    item_ids: NDArray[Any]
    rewards: dict[str, Floats]
    features: Floats
    feature_names: tuple[str, ...]
    length_name: str | None = None

    def __post_init__(self) -> None:
        n = len(self.group_ids)
        arrays = {"cluster_ids": self.cluster_ids, "item_ids": self.item_ids, **self.rewards}
        for name, array in arrays.items():
            if array.shape != (n,):
                raise ValueError(f"{name} must have shape ({n},), not {array.shape}")
        if self.features.shape != (n, len(self.feature_names)):
            raise ValueError(f"features {self.features.shape} do not fit {n} items and {self.feature_names}")
        if len(set(self.feature_names)) < len(self.feature_names) or any(f.startswith("(") for f in self.feature_names):
            raise ValueError(f"feature names must be distinct and start with no parenthesis: {self.feature_names}")
        if set(self.rewards) not in ({"none"}, {"post"}, {"pre", "post"}):
            raise ValueError(f"rewards must be none, or pre and post, not {', '.join(self.rewards)}")
        if self.length_name is not None and self.length_name not in self.feature_names:
            raise ValueError(f"length {self.length_name} is not among the features")
        if set(self.feature_names) <= {self.length_name}:
            raise ValueError("no feature beside the length: there is nothing to regress on")
        groups, clusters, items = (_codes(ids) for ids in (self.group_ids, self.cluster_ids, self.item_ids))
        if _n_pairs(groups, items) < n:
            raise ValueError("an item occurs twice in a group")
        if _n_pairs(groups, clusters) > len(np.unique(groups)):
            raise ValueError("a group lies in several clusters")

    @property
    def slices(self) -> tuple[str, ...]:
        """Slices of the audit table that the rewards allow."""
        return tuple(name for name, needed in SLICES.items() if set(needed) <= set(self.rewards))

    @property
    def specs(self) -> tuple[str, ...]:
        """Specs to fit."""
        return SPECS if self.length_name is None else (*SPECS, *(spec + LENGTH for spec in SPECS))

    def reward(self, slice_name: str) -> Floats:
        """Return the reward of a slice, float64 [n]: `post-pre` is post minus pre."""
        first, *rest = (self.rewards[role] for role in SLICES[slice_name])
        with np.errstate(invalid="ignore"):
            return rest[0] - first if rest else first


@dataclass(frozen=True, slots=True, eq=False)
class Design:
    """What a spec regresses: the outcome [n] on columns [n, k].

    Attributes:
        names: All terms beside the intercept, features before item effects [k].
        x: Columns, float64 [n, k].
        y: Outcome, float64 [n].
        intercept: Whether a constant belongs to it.
        varying: Which columns vary, bool [k].
        reason: Why it cannot be fitted, or empty.
    """

    names: tuple[str, ...]
    x: Floats
    y: Floats
    intercept: bool
    varying: Bools
    reason: str = ""


def usable_rows(table: ItemTable, slice_name: str, spec: str) -> tuple[Ints, dict[str, int]]:
    """Return the rows that a spec can use, and how many it cannot for each reason (the first that holds)."""
    rewards = np.stack([table.rewards[role] for role in SLICES[slice_name]])
    features = table.features[:, _columns(table, spec)]
    left = np.ones(rewards.shape[1], dtype=np.bool_)
    counted = {}
    for reason, bad in (
        ("reward-missing", np.isnan(rewards).any(axis=0)),
        ("reward-infinite", np.isinf(rewards).any(axis=0)),
        ("feature-missing", ~np.isfinite(features).all(axis=1)),
    ):
        counted[reason] = int((left & bad).sum())
        left &= ~bad
    if spec.startswith(HEADLINE_SPEC):
        _, group, size = np.unique(table.group_ids[left], return_inverse=True, return_counts=True)
        alone = size[group] == 1
        counted["single-item-group"] = int(alone.sum())
        left[np.flatnonzero(left)[alone]] = False
    return np.flatnonzero(left), counted


def make_design(table: ItemTable, slice_name: str, spec: str, used: Ints) -> Design:
    """Return what a spec regresses, for the rows that it uses."""
    columns = _columns(table, spec)
    names = tuple(table.feature_names[k] for k in columns)
    x, y = table.features[used][:, columns], table.reward(slice_name)[used]
    if not spec.startswith(HEADLINE_SPEC):
        return Design(names, x, y, True, ~constant_columns(x))
    reason = "" if len(used) else "no group with two usable items"
    if spec.startswith(ITEM_SPEC):
        levels, code = np.unique(table.item_ids[used], return_inverse=True)
        if len(levels) > MAX_ITEM_EFFECTS:
            reason = f"{len(levels)} item ids are more than {MAX_ITEM_EFFECTS}: they name texts, not sides or models"
        else:
            x = np.column_stack([x, code[:, None] == np.arange(1, len(levels))])
            names += tuple(f"(item {level})" for level in levels[1:])
    groups = table.group_ids[used]
    x, y = deviations(x, groups), deviations(y[:, None], groups)[:, 0]
    return Design(names, x, y, False, ~constant_columns(x), reason)


def deviations(values: Floats, groups: NDArray[Any]) -> Floats:
    """Return values [n, k] minus their group's mean; what is only rounding is 0."""
    _, group, size = np.unique(groups, return_inverse=True, return_counts=True)
    sums = np.zeros((len(size), values.shape[1]))
    np.add.at(sums, group, values)
    result = values - (sums / size[:, None])[group]
    result[np.abs(result) <= ROUNDING * np.abs(values).max(axis=0, initial=0.0)] = 0.0
    return result


def coded_ids(table: ItemTable) -> ItemTable:
    """Return the table with whole numbers for group and cluster ids, which sort faster than texts."""
    return replace(table, group_ids=_codes(table.group_ids), cluster_ids=_codes(table.cluster_ids))


def _columns(table: ItemTable, spec: str) -> list[int]:
    """Columns of the features that a spec uses: the length only in the `-length` specs."""
    return [k for k, name in enumerate(table.feature_names) if spec.endswith(LENGTH) or name != table.length_name]


def _codes(ids: NDArray[Any]) -> Ints:
    """Number ids from 0 in sorted order."""
    return np.asarray(np.unique(ids, return_inverse=True)[1], dtype=np.int64)


def _n_pairs(first: Ints, second: Ints) -> int:
    """Count the distinct pairs of two codes [n]."""
    return len(np.unique(first * (second.max(initial=0) + 1) + second))
