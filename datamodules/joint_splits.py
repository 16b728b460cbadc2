"""How do data sets with different taxonomies become one set of splits, and which texts must then go?

Every text keeps the labels of its own data set; those of the other taxonomies are `NOT_ASKED`.
"""

from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from datamodules.annotated_text import NOT_ASKED
from datamodules.annotation_datamodule import PooledFeatures, TokenisedSplit, TokenisedSplits
from datamodules.splits import Splits, connected_groups, content_keys
from datamodules.tokenise import TokenisedTexts


def without_overlap(parts: Sequence[Splits]) -> list[Splits]:
    """Drop from the training texts of each data set what another one validates or tests on.

    A text counts as the same where its normalised text or its dialogue opening is.

    Args:
        parts: The splits of each data set.

    Returns:
        The splits, in order, with counts of what was dropped.
    """
    # Its own val and test are no part of its train anyway.
    held_out = {key for own in parts for text in (*own.val, *own.test) for key in content_keys(text)}
    found = []
    for own in parts:
        train = tuple(text for text in own.train if held_out.isdisjoint(content_keys(text)))
        n_groups = {**own.n_groups, "train": len(np.unique(connected_groups(train)))}
        n_dropped = len(own.train) - len(train)
        found.append(replace(own, train=train, n_groups=n_groups, n_overlaps_dropped=n_dropped))
    return found


def joined_splits(parts: Sequence[TokenisedSplits]) -> TokenisedSplits:
    """Put all splits of several data sets together; see `joined`."""
    return TokenisedSplits(*(joined([getattr(own, name) for own in parts]) for name in ("train", "val", "test")))


def joined(parts: Sequence[TokenisedSplit]) -> TokenisedSplit:
    """Put one split of several data sets together, the labels of one beside those of the other; one stays as it is."""
    if len(parts) == 1:
        return parts[0]
    widths = [own.targets.shape[1] for own in parts]
    ends = np.cumsum(widths)
    targets, groups, n_groups = [], [], 0
    for own, end, width in zip(parts, ends, widths, strict=True):
        block = np.full((len(own.texts), int(ends[-1])), NOT_ASKED, dtype=np.int64)
        block[:, end - width : end] = own.targets
        targets.append(block)
        groups.append(own.groups + n_groups)
        n_groups += int(own.groups.max()) + 1
    return TokenisedSplit(
        texts=tuple(text for own in parts for text in own.texts),
        tokens=TokenisedTexts(
            [ids for own in parts for ids in own.tokens.ids], np.concatenate([own.tokens.truncated for own in parts])
        ),
        targets=np.concatenate(targets),
        groups=np.concatenate(groups),
    )


def asked(targets: np.ndarray, columns: slice) -> np.ndarray:
    """Tell which texts were annotated for the labels in these columns, bool [n]; `targets` int [n, n_labels]."""
    mask: np.ndarray = targets[:, columns.start] != NOT_ASKED
    return mask


def part_of(split: TokenisedSplit, columns: slice) -> TokenisedSplit:
    """Return the texts of a joined split that were annotated for the labels in some columns, with these labels."""
    rows = np.flatnonzero(asked(split.targets, columns))
    features = split.features
    return TokenisedSplit(
        texts=tuple(split.texts[i] for i in rows),
        tokens=TokenisedTexts([split.tokens.ids[i] for i in rows], split.tokens.truncated[rows]),
        targets=split.targets[rows][:, columns],
        groups=split.groups[rows],
        features=None if features is None else PooledFeatures(features.vectors, features.rows[rows], features.encoder),
    )
