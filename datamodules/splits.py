"""Who is in train, validation and test?

Stratified over labels (after Sechidis et al. 2011, iterative stratification, here over groups), grouped so that texts
that share a declared group, a dialogue opening or a normalised text never straddle, and checked for leaks.
"""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from datamodules.annotations import AnnotatedText, dialogue_group
from datamodules.dialogue import normalise
from datamodules.errors import InputError

_ONE_CLASS = {
    "train": "the classifier cannot learn when it does not hold",
    "val": "its threshold is not its own, see the notes on thresholds",
    "test": "metrics that need both are undefined (-)",
}


@dataclass(frozen=True, slots=True)
class Fold:
    """One of several parts of the texts that are test in turn.

    Attributes:
        number: Which part, from 0.
        n: How many there are.
    """

    number: int
    n: int


@dataclass(frozen=True, slots=True)
class Splits:
    """Texts per split, in file order.

    Attributes:
        train: Texts to fit weights on.
        val: Texts to choose the checkpoint, temperatures and thresholds on.
        test: Texts read once at the end.
        n_groups: Groups per split; no group is in two of them.
        n_leaks_dropped: Training candidates left out because a given test file holds the same text or dialogue opening.
        n_test_groups_shared: Given test texts whose declared group also occurs in the training file; they are kept,
            because the file's owner drew the line there, and counted.
        n_overlaps_dropped: Training texts left out because another data set of the run validates or tests on them.
    """

    train: tuple[AnnotatedText, ...]
    val: tuple[AnnotatedText, ...]
    test: tuple[AnnotatedText, ...]
    n_groups: dict[str, int]
    n_leaks_dropped: int
    n_test_groups_shared: int
    n_overlaps_dropped: int = 0

    @property
    def by_name(self) -> dict[str, tuple[AnnotatedText, ...]]:
        """Texts by the split's name."""
        return {"train": self.train, "val": self.val, "test": self.test}

    def to_dict(self) -> dict[str, Any]:
        """Ids per split with the counts, as `splits.json` holds them."""
        return {
            **{name: [text.text_id for text in texts] for name, texts in self.by_name.items()},
            "n_groups": self.n_groups,
            "n_leaks_dropped": self.n_leaks_dropped,
            "n_test_groups_shared": self.n_test_groups_shared,
            **({"n_overlaps_dropped": self.n_overlaps_dropped} if self.n_overlaps_dropped else {}),
        }


def content_keys(text: AnnotatedText) -> tuple[tuple[str, str], tuple[str, str]]:
    """What makes two texts the same content: the normalised text, and the normalised dialogue opening."""
    return ("text", normalise(text.text)), ("opening", dialogue_group(text.text))


def connected_groups(texts: Sequence[AnnotatedText]) -> np.ndarray:
    """Number the groups of texts that are connected by a declared group, an opening or an equal text.

    Returns:
        Group numbers by first appearance, int64 [n].
    """
    parent = list(range(len(texts)))

    def root(i: int) -> int:
        while parent[i] != i:
            parent[i] = parent[parent[i]]
            i = parent[i]
        return i

    owner: dict[tuple[str, str], int] = {}
    for i, text in enumerate(texts):
        for key in (("group", text.group_id), *content_keys(text)):
            a, b = sorted((root(owner.setdefault(key, i)), root(i)))
            parent[b] = a
    numbers: dict[int, int] = {}
    return np.array([numbers.setdefault(root(i), len(numbers)) for i in range(len(texts))], dtype=np.int64)


def stratified_parts(positives: np.ndarray, groups: np.ndarray, fractions: Sequence[float], seed: int) -> np.ndarray:
    """Assign whole groups to parts so that each part gets its share of every label.

    The label with the fewest texts left is dealt out first; each of its groups, large ones first, goes to the part
    that lacks that label most (then to the part that lacks texts most).

    Args:
        positives: Whether the label holds, bool [n, n_labels].
        groups: Group numbers 0..n_groups-1, int [n].
        fractions: Share of each part; they sum to one.
        seed: Decides between equal choices.

    Returns:
        Part number per text, int64 [n].
    """
    n_groups = int(groups.max()) + 1
    sizes = np.bincount(groups, minlength=n_groups).astype(float)
    counts = np.zeros((n_groups, positives.shape[1]))
    np.add.at(counts, groups, positives.astype(float))
    shuffled = np.random.default_rng(seed).permutation(n_groups)
    order = shuffled[np.argsort(-sizes[shuffled], kind="stable")]
    shares = np.asarray(fractions, dtype=float)
    wanted_texts = shares * sizes.sum()
    wanted_labels = shares[:, None] * counts.sum(axis=0)
    part_of_group = np.full(n_groups, -1, dtype=np.int64)

    def assign(group: int, need: np.ndarray) -> None:
        part = int(np.lexsort((-wanted_texts, -need))[0])
        part_of_group[group] = part
        wanted_texts[part] -= sizes[group]
        wanted_labels[part] -= counts[group]

    while True:
        left = counts[part_of_group < 0].sum(axis=0)
        if not left.any():
            break
        label = int(np.argmin(np.where(left > 0, left, np.inf)))
        for group in order:
            if part_of_group[group] < 0 and counts[group, label] > 0:
                assign(group, wanted_labels[:, label])
    for group in order:
        if part_of_group[group] < 0:
            assign(group, wanted_texts)
    parts: np.ndarray = part_of_group[groups]
    return parts


def split_texts(
    texts: Sequence[AnnotatedText],
    given_test: Sequence[AnnotatedText] | None,
    val_fraction: float,
    test_fraction: float,
    seed: int,
    fold: Fold | None = None,
) -> Splits:
    """Split annotated texts into train, validation and test.

    Args:
        texts: All texts, or the training file's where a test file is given.
        given_test: The data set's own test (or validation) file; it becomes test as it stands.
        val_fraction: Share of `texts` for validation.
        test_fraction: Share of `texts` for test; not used where `given_test` or `fold` is.
        seed: Decides between equal choices; the folds of one seed have every text in test once.
        fold: The part that becomes test; validation is cut from the others.

    Raises:
        InputError: Fractions that leave no training text, too few groups to fill every split, or folds of a data set
            with a test file.
    """
    if fold is not None:
        _check_fold(fold, val_fraction, given_test is not None)
        test_fraction = 1 / fold.n
    check_fractions(val_fraction, 0.0 if given_test is not None else test_fraction)
    n_leaks, n_shared = 0, 0
    if given_test is not None:
        keys = {key for text in given_test for key in content_keys(text)}
        kept = [text for text in texts if keys.isdisjoint(content_keys(text))]
        n_leaks = len(texts) - len(kept)
        texts = kept
        train_groups = {text.group_id for text in texts}
        n_shared = sum(text.group_id in train_groups for text in given_test)
    if not texts:
        raise InputError(
            "no training text left after the leak check", "training texts that are not in the test file", "--data.path"
        )
    groups = connected_groups(texts)
    names = ("train", "val") if given_test is not None else ("train", "val", "test")
    fractions = [val_fraction] if given_test is not None else [val_fraction, test_fraction]
    if groups.max() + 1 < len(names):
        found = f"{len(texts)} texts in {groups.max() + 1} group(s)"
        raise InputError(
            found, f"at least {len(names)} groups, one for each of {', '.join(names)}", "more data, or --data.path"
        )
    positives = np.array([text.labels for text in texts], dtype=np.int64) == 1
    if fold is None:
        part = stratified_parts(positives, groups, [1 - sum(fractions), *fractions], seed)
    else:
        part = _fold_parts(positives, groups, val_fraction, fold, seed)
    chosen = {name: tuple(t for t, p in zip(texts, part, strict=True) if p == k) for k, name in enumerate(names)}
    for name in names:
        if not chosen[name]:
            found = f"no text for {name} out of {len(texts)} texts in {groups.max() + 1} groups"
            shares = "larger --data.val_fraction or --data.test_fraction"
            fix = shares if fold is None else "a larger --data.val_fraction or fewer --data.n_folds"
            raise InputError(found, "every split filled", f"{fix}, or more data")
    n_groups = {name: len(set(groups[part == k].tolist())) for k, name in enumerate(names)}
    test = tuple(given_test) if given_test is not None else chosen["test"]
    if given_test is not None:
        n_groups["test"] = int(connected_groups(test).max()) + 1
    check_no_leak({"train": chosen["train"], "val": chosen["val"], "test": test})
    return Splits(chosen["train"], chosen["val"], test, n_groups, n_leaks, n_shared)


def _fold_parts(positives: np.ndarray, groups: np.ndarray, val_fraction: float, fold: Fold, seed: int) -> np.ndarray:
    """Assign whole groups to train (0), validation (1) and test (2), the fold; int64 [n]."""
    in_test = stratified_parts(positives, groups, [1 / fold.n] * fold.n, seed) == fold.number
    part = np.full(len(groups), 2, dtype=np.int64)
    if in_test.all():
        return part
    # Its share is that of all texts, of which the fold is gone.
    share = val_fraction * fold.n / (fold.n - 1)
    _, others = np.unique(groups[~in_test], return_inverse=True)
    part[~in_test] = stratified_parts(positives[~in_test], others, [1 - share, share], seed)
    return part


def _check_fold(fold: Fold, val_fraction: float, has_test: bool) -> None:
    """Raise InputError unless a fold can be test."""
    if has_test:
        found = f"{fold.n} folds of a data set that ships a test file"
        raise InputError(found, "one or the other", "leave out --data.n_folds and --data.fold")
    if fold.n < 2 or not 0 <= fold.number < fold.n:
        found = f"fold {fold.number} of {fold.n}"
        raise InputError(found, "at least 2 folds, numbered from 0", "--data.fold and --data.n_folds")
    if not 0 < val_fraction < 1 - 1 / fold.n:
        found = f"val_fraction {val_fraction} with {fold.n} folds"
        raise InputError(found, "positive shares that leave a training part", "--data.val_fraction and --data.n_folds")


def check_fractions(val_fraction: float, test_fraction: float) -> None:
    """Raise InputError unless both fractions are in (0, 1) (test may be 0) and leave a training part."""
    if not 0 < val_fraction < 1 or not 0 <= test_fraction < 1 or val_fraction + test_fraction >= 1:
        raise InputError(
            f"val_fraction {val_fraction} and test_fraction {test_fraction}",
            "positive shares that leave a training part",
            "--data.val_fraction and --data.test_fraction",
        )


def check_no_leak(splits: dict[str, Sequence[AnnotatedText]]) -> None:
    """Raise RuntimeError when two splits share a text or a dialogue opening: the split would be wrong."""
    owners: dict[tuple[str, str], str] = {}
    for name, texts in splits.items():
        for text in texts:
            for key in content_keys(text):
                if owners.setdefault(key, name) != name:
                    raise RuntimeError(f"text {text.text_id} of {name} shares its {key[0]} with {owners[key]}")


def label_counts(texts: Sequence[AnnotatedText], labels: Sequence[str]) -> dict[str, tuple[int, int]]:
    """Count per label the texts where it holds and the texts where it is known."""
    positive, known = Counter[str](), Counter[str]()
    for text in texts:
        for label, state in zip(labels, text.labels, strict=True):
            positive[label] += state == 1
            known[label] += state != -1
    return {label: (positive[label], known[label]) for label in labels}


def require_contrast(texts: Sequence[AnnotatedText], labels: Sequence[str]) -> None:
    """Raise InputError when all training texts are labelled alike, so that nothing tells one from another.

    Args:
        texts: Training texts, at least one.
        labels: Names of their labels.
    """
    carried = {tuple(state == 1 for state in text.labels) for text in texts}
    known = {state for text in texts for state in text.labels}
    if len(carried) > 1 and (len(labels) > 1 or 0 in known):
        return
    names = ", ".join(label for label, state in zip(labels, texts[0].labels, strict=True) if state == 1) or "nothing"
    what = f"all carry {names} and nothing else" if len(carried) == 1 else f"carry {names} or do not say"
    found = f"{len(texts)} training texts that {what}"
    raise InputError(found, "texts with different values, or texts known to carry none", "more data, or --data.path")


def one_class_lines(splits: Splits, labels: Sequence[str]) -> list[str]:
    """Tell for which labels a split holds one class only: there metrics are undefined and thresholds not their own."""
    lines = []
    for name, texts in splits.by_name.items():
        counts = label_counts(texts, labels)
        none = [label for label, (positive, _) in counts.items() if positive == 0]
        every = [label for label, (positive, _) in counts.items() if positive == len(texts)]
        if none and name != "train":
            lines.append(f"warning: no {name} text carries {', '.join(none)}: {_ONE_CLASS[name]}")
        if every:
            lines.append(f"warning: every {name} text carries {', '.join(every)}: {_ONE_CLASS[name]}")
    return lines
