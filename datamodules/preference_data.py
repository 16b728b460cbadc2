"""What is a set of preference pairs? Ids and clusters are held; texts are read from the files when they are needed."""

import hashlib
import json
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np

from datamodules.preference_pairs import PreferencePair, PreferenceReport


@dataclass(frozen=True, slots=True, eq=False)
class PairIndex:
    """What is known of every pair besides its texts, in file order.

    Attributes:
        pair_ids: [n_pairs] str, unique.
        subsets: [n_pairs] str.
        cluster_ids: [n_pairs] str.
        is_tie: bool [n_pairs].
    """

    pair_ids: np.ndarray
    subsets: np.ndarray
    cluster_ids: np.ndarray
    is_tie: np.ndarray

    def __len__(self) -> int:
        return len(self.pair_ids)

    @property
    def sides(self) -> np.ndarray:
        """Names of both sides of every pair, str [n_pairs, 2]: chosen and rejected, or a and b of a tie."""
        return np.where(self.is_tie[:, None], ("a", "b"), ("chosen", "rejected"))


@dataclass(frozen=True, slots=True, eq=False)
class PreferenceData:
    """The pairs of one data set.

    Attributes:
        name: Its name.
        index: Ids, subsets, clusters and ties.
        report: What was read, and what is unusual about it.
        digest: A sha256 of the content (ids, subsets, canonical texts, ties), so it does not depend on the layout of
            the file.
        is_sample: Whether this is an embedded sample, for learning the tool and not for conclusions.
        read: Reads the pairs, in the order of the index; may be called again.
    """

    name: str
    index: PairIndex
    report: PreferenceReport
    digest: str
    is_sample: bool
    read: Callable[[], Iterator[PreferencePair]]


class ContentDigest:
    """Digest of pairs that are read one after the other: `PreferenceData.digest` when all were added."""

    def __init__(self) -> None:
        self._sha256 = hashlib.sha256()

    def add(self, pair: PreferencePair) -> None:
        """Add one pair."""
        content = [pair.pair_id, pair.subset, pair.first.render(), pair.second.render(), pair.is_tie]
        self._sha256.update(json.dumps(content, ensure_ascii=False).encode("utf-8") + b"\n")

    def hexdigest(self) -> str:
        """Return the digest of what was added."""
        return self._sha256.hexdigest()
