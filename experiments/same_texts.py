"""Did all variants predict the same test texts? Their predictions, put in one order and checked."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components

from audits.comparison import Predictions
from datamodules.errors import InputError
from experiments.variants import Run, Variant

ONE_TEST = "runs with one test split, such as one --data.split_seed, or all folds of it"


@dataclass(frozen=True, slots=True, eq=False)
class SameTexts:
    """Predictions of the same n texts by all runs of all variants.

    Attributes:
        labels: Names of the labels [L].
        targets: 1, 0 or -1 (unknown), int64 [n, L].
        groups: Number of the group of texts that depend on each other, int64 [n].
        predictions: Per variant one entry per repeat, whose folds are put together.
    """

    labels: tuple[str, ...]
    targets: np.ndarray
    groups: np.ndarray
    predictions: list[list[Predictions]]

    @property
    def n_groups(self) -> int:
        """How many groups there are."""
        return len(np.unique(self.groups))

    @property
    def n_positive_groups(self) -> np.ndarray:
        """Groups with a known positive of each label, int64 [L]."""
        return np.array([len(np.unique(self.groups[column == 1])) for column in self.targets.T], dtype=np.int64)


@dataclass(frozen=True, slots=True, eq=False)
class _Pooled:
    """One repeat: the runs of its folds one after the other, and for each text its fold."""

    runs: tuple[Run, ...]
    text_ids: np.ndarray
    groups: np.ndarray
    targets: np.ndarray
    probabilities: np.ndarray
    decisions: np.ndarray


def same_texts(variants: Sequence[Variant]) -> SameTexts:
    """Align the predictions of all variants by text.

    Texts that are in one group in any run are in one group.

    Raises:
        InputError: Other texts, labels or names of labels than in the first variant; the two runs are named.
    """
    reference = _pooled(variants[0].repeats[0])
    groups = [reference.groups]
    found = []
    for variant in variants:
        own = []
        for repeat in variant.repeats:
            pooled = _ordered_like(reference, _pooled(repeat))
            groups.append(pooled.groups)
            own.append(Predictions(pooled.probabilities, pooled.decisions))
        found.append(own)
    labels = reference.runs[0].predictions.labels
    return SameTexts(labels, reference.targets, joined_groups(groups), found)


def joined_groups(partitions: Sequence[np.ndarray]) -> np.ndarray:
    """Number the groups of texts that are connected in any of several partitions [n]: int64 [n]."""
    n = len(partitions[0])
    ones, others = [], []
    for groups in partitions:
        _, first, index = np.unique(groups, return_index=True, return_inverse=True)
        ones.append(np.arange(n))
        others.append(first[index])
    rows, columns = np.concatenate(ones), np.concatenate(others)
    graph = coo_array((np.ones(len(rows)), (rows, columns)), shape=(n, n))
    return np.asarray(connected_components(graph, directed=False)[1], dtype=np.int64)


def _pooled(repeat: tuple[Run, ...]) -> _Pooled:
    """Put the folds of one repeat together.

    Raises:
        InputError: A text occurs twice, or folds have other labels.
    """
    parts = [run.predictions for run in repeat]
    for run in repeat[1:]:
        _require_same_labels(repeat[0], run)
    text_ids = np.concatenate([part.text_ids for part in parts])
    names, counts = np.unique(text_ids, return_counts=True)
    if (counts > 1).any():
        twice = names[counts > 1]
        found = f"{len(twice):,} texts that are tested twice, such as {twice[0]}, in {_paths(repeat)}"
        raise InputError(found, "every text once", "the predictions of other runs")
    # No group straddles folds.
    starts = np.cumsum([0, *(int(part.groups.max()) + 1 for part in parts[:-1])])
    return _Pooled(
        runs=repeat,
        text_ids=text_ids,
        groups=np.concatenate([part.groups + start for part, start in zip(parts, starts, strict=True)]),
        targets=np.concatenate([part.targets for part in parts]),
        probabilities=np.concatenate([part.probabilities for part in parts]),
        decisions=np.concatenate([part.decisions for part in parts]),
    )


def _ordered_like(reference: _Pooled, other: _Pooled) -> _Pooled:
    """Return the same predictions in the order of the reference's texts.

    Raises:
        InputError: They are not of the same texts and labels.
    """
    _require_same_labels(reference.runs[0], other.runs[0])
    if not np.array_equal(np.sort(reference.text_ids), np.sort(other.text_ids)):
        n_common = len(np.intersect1d(reference.text_ids, other.text_ids))
        found = f"the test split of {_paths(other.runs)} ({len(other.text_ids):,} texts), which is not that of "
        found += f"{_paths(reference.runs)} ({len(reference.text_ids):,} texts; {n_common:,} in both)"
        raise InputError(found, "the same test texts in all variants", ONE_TEST)
    order = np.argsort(other.text_ids)[np.argsort(np.argsort(reference.text_ids))]
    targets = other.targets[order]
    if differing := int((targets != reference.targets).any(axis=1).sum()):
        found = f"{differing:,} test texts whose labels in {_paths(other.runs)} are not those in "
        found += _paths(reference.runs)
        raise InputError(found, "the same labels in all variants", "runs on one data revision")
    return _Pooled(
        other.runs,
        other.text_ids[order],
        other.groups[order],
        targets,
        other.probabilities[order],
        other.decisions[order],
    )


def _require_same_labels(one: Run, other: Run) -> None:
    if one.predictions.labels != other.predictions.labels:
        found = f"labels {_some(other)} of {other.directory.path}, and {_some(one)} of {one.directory.path}"
        raise InputError(found, "runs with the same labels", "runs of one --data.taxonomy")


def _some(run: Run) -> str:
    labels = run.predictions.labels
    return ", ".join(labels[:3]) + (f", .. ({len(labels)})" if len(labels) > 3 else "")


def _paths(runs: Sequence[Run]) -> str:
    more = f" and {len(runs) - 1} other folds" if len(runs) > 1 else ""
    return f"{runs[0].directory.path}{more}"
