"""What is a preference pair, and what is unusual about a set of them?"""

import textwrap
from array import array
from collections import Counter
from dataclasses import asdict, dataclass
from itertools import pairwise
from typing import Any

import numpy as np

from datamodules.dialogue import Dialogue, normalise, view_parts
from datamodules.encoding_damage import is_damaged
from datamodules.files import digest_of, key_of

SIDES = ("chosen", "rejected", "a", "b")


@dataclass(frozen=True, slots=True)
class PreferencePair:
    """Two dialogues of which `first` was preferred, or which are tied.

    `subset` is empty where a data set has no subsets. Pairs of one `cluster_id` are statistically dependent.
    """

    pair_id: str
    subset: str
    first: Dialogue
    second: Dialogue
    is_tie: bool
    cluster_id: str

    @property
    def sides(self) -> tuple[str, str]:
        """Names of `first` and `second`: chosen and rejected, or a and b of a tie."""
        return ("a", "b") if self.is_tie else ("chosen", "rejected")


@dataclass(frozen=True, slots=True)
class PairCounts:
    """How many pairs there are and how many are unusual; an unusual pair is kept."""

    n_pairs: int
    n_ties: int
    n_clusters: int
    n_identical_pairs: int
    """Both sides have the same canonical text."""
    n_prompts_differ: int
    """The two sides have different canonical prompts."""
    n_repeated_roles: int
    """A side has two turns of one role in a row."""
    n_empty_responses: dict[str, int]
    """Side name -> pairs whose last assistant turn is empty on that side; only sides that occur are listed."""
    n_duplicate_pairs: int
    """Both normalised texts, in this order, already occurred in an earlier pair."""
    n_repeated_prompts: int
    """The normalised prompt of the first side already occurred in an earlier pair."""
    n_damaged_pairs: int
    """A side looks decoded with the wrong encoding (`datamodules.encoding_damage`)."""


@dataclass(frozen=True, slots=True)
class PreferenceReport(PairCounts):
    """What was read, from which files, and what is unusual about it."""

    files: dict[str, str]
    """File name, relative to the data root where there is one -> sha256."""
    n_read: int
    """Rows in the files; `n_pairs` exceeds it where one row holds several pairs."""
    unparsable: dict[str, int]
    """Reason -> rows that state no pair and were left out."""
    n_other_part: int
    """Pairs that were left out because their prompt is in the other part of the data (`datamodules.parts`)."""
    subsets: dict[str, PairCounts]
    """The counts within each subset; empty where the data set has no subsets."""

    def to_dict(self) -> dict[str, Any]:
        """Return the report as JSON-able data."""
        return asdict(self)

    def lines(self) -> list[str]:
        """Return the report for a reader, in lines of at most 100 columns; what does not occur is not mentioned."""
        lines = [f"{name}  sha256 {digest[:12]}" for name, digest in self.files.items()]
        lines.append(f"{self.n_read:,} rows read: {_describe(self)}")
        if self.unparsable:
            reasons = ", ".join(f"{reason} {n:,}" for reason, n in self.unparsable.items())
            lines.append(f"{sum(self.unparsable.values()):,} rows left out: {reasons}")
        if self.n_other_part:
            lines.append(f"{self.n_other_part:,} pairs in the other part of the data, not read here")
        lines += [f"{name}: {_describe(counts)}" for name, counts in self.subsets.items()]
        return [part for line in lines for part in textwrap.wrap(line, width=100, subsequent_indent="    ")]


@dataclass(frozen=True, slots=True)
class _Facts:
    """What the counts need of one pair; keys are 64-bit digests, of which a million meet with chance 3e-8."""

    sides: tuple[str, str]
    cluster_key: int
    is_identical: bool
    prompts_differ: bool
    has_repeated_roles: bool
    empty_sides: tuple[str, ...]
    pair_key: int
    prompt_key: int
    is_damaged: bool


class _Tally:
    """Running counts of one scope: a few numbers and three 8-byte keys a pair."""

    def __init__(self) -> None:
        self._n: Counter[str] = Counter()
        self._empty: dict[str, int] = {}
        self._clusters, self._pairs, self._prompts = array("Q"), array("Q"), array("Q")

    def add(self, facts: _Facts) -> None:
        """Count one pair."""
        self._n["pairs"] += 1
        self._n["ties"] += facts.sides == ("a", "b")
        self._n["identical"] += facts.is_identical
        self._n["prompts_differ"] += facts.prompts_differ
        self._n["repeated_roles"] += facts.has_repeated_roles
        self._n["damaged"] += facts.is_damaged
        for side in facts.sides:
            self._empty[side] = self._empty.get(side, 0) + (side in facts.empty_sides)
        self._clusters.append(facts.cluster_key)
        self._pairs.append(facts.pair_key)
        self._prompts.append(facts.prompt_key)

    def counts(self) -> dict[str, Any]:
        """Return the fields of `PairCounts`."""
        n = self._n["pairs"]
        return {
            "n_pairs": n,
            "n_ties": self._n["ties"],
            "n_clusters": _n_distinct(self._clusters),
            "n_identical_pairs": self._n["identical"],
            "n_prompts_differ": self._n["prompts_differ"],
            "n_repeated_roles": self._n["repeated_roles"],
            "n_empty_responses": {side: self._empty[side] for side in SIDES if side in self._empty},
            "n_duplicate_pairs": n - _n_distinct(self._pairs),
            "n_repeated_prompts": n - _n_distinct(self._prompts),
            "n_damaged_pairs": self._n["damaged"],
        }


def _n_distinct(keys: "array[int]") -> int:
    return len(np.unique(np.frombuffer(keys, dtype=np.uint64)))


def cluster_of(dialogue: Dialogue) -> str:
    """Return the cluster of a dialogue: a digest of its normalised first human turn.

    Dialogues of hh-rlhf that share an opening come from one conversation at different lengths, so they are dependent
    although their whole prompts differ. The opening clusters more widely than the exact prompt: intervals get wider,
    never too narrow, by it.
    """
    opening = next(turn.text for turn in dialogue.turns if turn.role == "human")
    return digest_of(normalise(opening))[:16]


class ReportBuilder:
    """Counts pairs as they are read, as a whole and within each named subset, without keeping their texts."""

    def __init__(self) -> None:
        self._whole = _Tally()
        self._subsets: dict[str, _Tally] = {}

    def add(self, pair: PreferencePair) -> None:
        """Count one pair."""
        facts = _facts(pair)
        self._whole.add(facts)
        if pair.subset:
            self._subsets.setdefault(pair.subset, _Tally()).add(facts)

    def report(
        self, *, files: dict[str, str], n_read: int, unparsable: dict[str, int], n_other_part: int
    ) -> PreferenceReport:
        """Return the counts.

        Args:
            files: File name -> sha256.
            n_read: Rows in the files.
            unparsable: Reason -> rows left out.
            n_other_part: Pairs left out because they are in the other part.
        """
        return PreferenceReport(
            **self._whole.counts(),
            files=files,
            n_read=n_read,
            unparsable=unparsable,
            n_other_part=n_other_part,
            subsets={name: PairCounts(**tally.counts()) for name, tally in self._subsets.items()},
        )


def _facts(pair: PreferencePair) -> _Facts:
    dialogues = (pair.first, pair.second)
    texts = [dialogue.render() for dialogue in dialogues]
    prompts = [view_parts(dialogue, "prompt")[1] for dialogue in dialogues]
    return _Facts(
        sides=pair.sides,
        cluster_key=key_of(pair.cluster_id),
        is_identical=texts[0] == texts[1],
        prompts_differ=prompts[0] != prompts[1],
        has_repeated_roles=any(_repeats_a_role(dialogue) for dialogue in dialogues),
        empty_sides=tuple(side for side, dialogue in zip(pair.sides, dialogues, strict=True) if not dialogue.response),
        pair_key=key_of("\0".join(normalise(text) for text in texts)),
        prompt_key=key_of(normalise(prompts[0])),
        is_damaged=any(is_damaged(text) for text in texts),
    )


def _repeats_a_role(dialogue: Dialogue) -> bool:
    return any(a.role == b.role for a, b in pairwise(dialogue.turns))


def _describe(counts: PairCounts) -> str:
    findings = [
        (counts.n_ties, "ties"),
        (counts.n_identical_pairs, "with identical sides"),
        (counts.n_prompts_differ, "whose prompts differ"),
        (counts.n_repeated_roles, "with a role twice in a row"),
        *((n, f"with an empty {side} response") for side, n in counts.n_empty_responses.items()),
        (counts.n_duplicate_pairs, "duplicates"),
        (counts.n_repeated_prompts, "repeating a prompt"),
        (counts.n_damaged_pairs, "that look mis-decoded"),
    ]
    said = [f"{n:,} {what}" for n, what in findings if n]
    return "; ".join([f"{counts.n_pairs:,} pairs in {counts.n_clusters:,} clusters", *said])
