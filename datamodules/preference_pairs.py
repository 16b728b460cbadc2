"""What is a preference pair, and what is unusual about a set of them?"""

import textwrap
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass
from itertools import pairwise
from typing import Any

from datamodules.dialogue import Dialogue, normalise, view_parts
from datamodules.files import digest_of


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


@dataclass(frozen=True, slots=True)
class PreferenceReport(PairCounts):
    """What was read, from which files, and what is unusual about it."""

    files: dict[str, str]
    """File name, relative to the data root where there is one -> sha256."""
    n_read: int
    """Rows in the files; `n_pairs` exceeds it where one row holds several pairs."""
    unparsable: dict[str, int]
    """Reason -> rows that state no pair and were left out."""
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
        lines += [f"{name}: {_describe(counts)}" for name, counts in self.subsets.items()]
        return [part for line in lines for part in textwrap.wrap(line, width=100, subsequent_indent="    ")]


@dataclass(frozen=True, slots=True)
class _Facts:
    """What the counts need of one pair, so that texts are rendered and folded once."""

    sides: tuple[str, str]
    cluster_id: str
    is_identical: bool
    prompts_differ: bool
    has_repeated_roles: bool
    empty_sides: tuple[str, ...]
    pair_key: str
    prompt_key: str


def cluster_of(dialogue: Dialogue) -> str:
    """Return the cluster of a dialogue: a digest of its normalised first human turn.

    Dialogues of hh-rlhf that share an opening come from one conversation at different lengths, so they are dependent
    although their whole prompts differ. The opening clusters more widely than the exact prompt: intervals get wider,
    never too narrow, by it.
    """
    opening = next(turn.text for turn in dialogue.turns if turn.role == "human")
    return digest_of(normalise(opening))[:16]


def report_on(
    pairs: Sequence[PreferencePair], *, files: dict[str, str], n_read: int, unparsable: dict[str, int]
) -> PreferenceReport:
    """Count what is unusual about `pairs`, as a whole and within each named subset.

    Args:
        pairs: The pairs that were kept, in file order.
        files: File name -> sha256.
        n_read: Rows in the files.
        unparsable: Reason -> rows left out.
    """
    facts = [_facts(pair) for pair in pairs]
    by_subset: dict[str, list[_Facts]] = {}
    for pair, fact in zip(pairs, facts, strict=True):
        if pair.subset:
            by_subset.setdefault(pair.subset, []).append(fact)
    subsets = {name: PairCounts(**_counts(some)) for name, some in by_subset.items()}
    return PreferenceReport(**_counts(facts), files=files, n_read=n_read, unparsable=unparsable, subsets=subsets)


def _facts(pair: PreferencePair) -> _Facts:
    dialogues = (pair.first, pair.second)
    texts = [dialogue.render() for dialogue in dialogues]
    prompts = [view_parts(dialogue, "prompt")[1] for dialogue in dialogues]
    return _Facts(
        sides=pair.sides,
        cluster_id=pair.cluster_id,
        is_identical=texts[0] == texts[1],
        prompts_differ=prompts[0] != prompts[1],
        has_repeated_roles=any(_repeats_a_role(dialogue) for dialogue in dialogues),
        empty_sides=tuple(side for side, dialogue in zip(pair.sides, dialogues, strict=True) if not dialogue.response),
        pair_key=digest_of([normalise(text) for text in texts]),
        prompt_key=digest_of(normalise(prompts[0])),
    )


def _repeats_a_role(dialogue: Dialogue) -> bool:
    return any(a.role == b.role for a, b in pairwise(dialogue.turns))


def _counts(facts: Sequence[_Facts]) -> dict[str, Any]:
    """Return the fields of `PairCounts`."""
    empty = Counter(side for fact in facts for side in fact.empty_sides)
    occurring = {side for fact in facts for side in fact.sides}
    return {
        "n_pairs": len(facts),
        "n_ties": sum(fact.sides == ("a", "b") for fact in facts),
        "n_clusters": len({fact.cluster_id for fact in facts}),
        "n_identical_pairs": sum(fact.is_identical for fact in facts),
        "n_prompts_differ": sum(fact.prompts_differ for fact in facts),
        "n_repeated_roles": sum(fact.has_repeated_roles for fact in facts),
        "n_empty_responses": {side: empty[side] for side in ("chosen", "rejected", "a", "b") if side in occurring},
        "n_duplicate_pairs": _n_repeated(fact.pair_key for fact in facts),
        "n_repeated_prompts": _n_repeated(fact.prompt_key for fact in facts),
    }


def _n_repeated(keys: Iterable[str]) -> int:
    return sum(n - 1 for n in Counter(keys).values())


def _describe(counts: PairCounts) -> str:
    findings = [
        (counts.n_ties, "ties"),
        (counts.n_identical_pairs, "with identical sides"),
        (counts.n_prompts_differ, "whose prompts differ"),
        (counts.n_repeated_roles, "with a role twice in a row"),
        *((n, f"with an empty {side} response") for side, n in counts.n_empty_responses.items()),
        (counts.n_duplicate_pairs, "duplicates"),
        (counts.n_repeated_prompts, "repeating a prompt"),
    ]
    said = [f"{n:,} {what}" for n, what in findings if n]
    return "; ".join([f"{counts.n_pairs:,} pairs in {counts.n_clusters:,} clusters", *said])
