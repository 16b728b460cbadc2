"""What is an audit, and what is it given? Scores of pairs in, rows of the audit table out."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Literal, Protocol

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from datamodules.identity_terms import named_groups
from datamodules.views import ViewRequest

__all__ = ["Audit", "ScoredPairs", "ScoredView", "ViewRequest"]

Floats = NDArray[np.float64]
Bools = NDArray[np.bool_]
Ints = NDArray[np.int64]
Texts = NDArray[np.str_]


@dataclass(frozen=True, slots=True, eq=False)
class ScoredView:
    """What the classifier said about both sides of every pair in one view.

    Side 0 is chosen (or a), side 1 rejected (or b).

    Attributes:
        view: Slug of the view.
        probabilities: float64 [n_pairs, 2, n_labels], in [0, 1].
        decisions: bool [n_pairs, 2, n_labels].
        text_rows: Number of the distinct token sequence, int64 [n_pairs, 2]; equal numbers on both sides mean that
            the pair cannot be told apart in this view.
        truncated: Whether the text was cut to length, bool [n_pairs, 2].
    """

    view: str
    probabilities: Floats
    decisions: Bools
    text_rows: Ints
    truncated: Bools

    def __post_init__(self) -> None:
        shape = self.probabilities.shape
        if len(shape) != 3 or shape[1] != 2 or self.decisions.shape != shape:
            raise ValueError(f"scores [n_pairs, 2, n_labels] needed, got {shape} and {self.decisions.shape}")
        if self.text_rows.shape != shape[:2] or self.truncated.shape != shape[:2]:
            raise ValueError(f"text_rows and truncated must have shape {shape[:2]}")
        if not ((self.probabilities >= 0) & (self.probabilities <= 1)).all():
            raise ValueError(f"probabilities of view {self.view} are NaN or outside [0, 1]")
        if self.decisions.dtype != np.bool_:
            raise ValueError(f"decisions must be bool, not {self.decisions.dtype}")


@dataclass(frozen=True, slots=True, eq=False)
class Reward:
    """What one reward model gave both sides of every pair.

    Attributes:
        name: Name of the reward model.
        role: `pre` or `post` (before or after it was trained on such preferences), or `none`.
        values: float64 [n_pairs, 2]; NaN where a side was not scored.
    """

    name: str
    role: Literal["pre", "post", "none"]
    values: Floats


@dataclass(frozen=True, slots=True, eq=False)
class TextFeatures:
    """What was measured on the text of both sides' responses, without any model.

    Attributes:
        names: Names of the features [n_features].
        values: float64 [n_pairs, 2, n_features]; NaN where undefined.
        length_name: The feature that is the length of the response.
    """

    names: tuple[str, ...]
    values: Floats
    length_name: str


def subset_scopes(subsets: Texts, counted: Bools) -> list[tuple[str, Bools]]:
    """Return what rows are made for: the counted pairs (subset ""), then those of each subset where there are several.

    Args:
        subsets: Subset of each pair, empty for one that is in none, [n].
        counted: Which pairs count, bool [n].

    Returns:
        Name of the subset, and which pairs are in it, bool [n].
    """
    names = np.unique(subsets)
    own = [name for name in names if name] if len(names) > 1 else []
    return [("", counted), *((str(name), counted & (subsets == name)) for name in own)]


@dataclass(frozen=True, slots=True, eq=False)
class PromptGroups:
    """Which groups of people the prompts of pairs name, by a list of terms.

    Attributes:
        terms: The terms [n_terms].
        groups: The groups that these belong to [n_groups].
        group_of: Position in `groups` of each term [n_terms].
        named: Whether the prompt holds the term, bool [n_pairs, n_terms].
    """

    terms: tuple[str, ...]
    groups: tuple[str, ...]
    group_of: tuple[int, ...]
    named: Bools

    @property
    def any_named(self) -> Bools:
        """Whether a prompt holds any term, bool [n_pairs]."""
        return np.asarray(self.named.any(axis=1), dtype=np.bool_)

    def of(self, level: str) -> tuple[tuple[str, ...], Bools]:
        """Return names and membership, bool [n_pairs, n], of `terms` or, at any other level, of groups."""
        if level == "terms":
            return self.terms, self.named
        return self.groups, named_groups(self.named, self.group_of, len(self.groups))


@dataclass(frozen=True, slots=True, eq=False)
class Rewrites:
    """What became of the pairs that were to be rewritten with their meaning kept.

    Attributes:
        source: Where the rewrites came from.
        scored: The pairs of which both sides were rewritten and kept, scored as the originals were; None where there
            are none.
        similarity: Cosine similarity of rewritten and original response, float64 [n_kept, 2].
        n_requested: Sides that were to be rewritten.
        left_out: Reason -> sides that were not rewritten or not kept; a side whose other side failed counts too.
    """

    source: str
    scored: "ScoredPairs | None"
    similarity: Floats
    n_requested: int
    left_out: dict[str, int]


@dataclass(frozen=True, slots=True, eq=False)
class GoldLabels:
    """What people found in some of the responses, which were drawn for labelling with known probabilities.

    Attributes:
        labels: float64 [n_pairs, 2, n_labels], 1 or 0, in the order of the score columns; NaN for a side that was not
            labelled (a side has all labels or none).
        probability: Chance with which the side was drawn, float64 [n_pairs, 2], in (0, 1]; NaN where not labelled.
    """

    labels: Floats
    probability: Floats

    def __post_init__(self) -> None:
        is_missing = np.isnan(self.labels)
        drawn = self.probability[self.has]
        if (is_missing.any(axis=2) != is_missing.all(axis=2)).any():
            raise ValueError("a side has all gold labels or none")
        if not np.isin(self.labels[~is_missing], (0.0, 1.0)).all():
            raise ValueError("gold labels must be 1 or 0")
        if not ((drawn > 0) & (drawn <= 1)).all():
            raise ValueError("probabilities of drawing must lie in (0, 1]")

    @property
    def has(self) -> Bools:
        """Which sides were labelled, bool [n_pairs, 2]."""
        return np.asarray(~np.isnan(self.labels[:, :, 0]), dtype=np.bool_)


@dataclass(frozen=True, slots=True, eq=False)
class HeldOut:
    """What the classifier said about annotated texts that neither its weights nor its thresholds were fitted on.

    Attributes:
        probabilities: Calibrated, float64 [n_texts, n_labels].
        decisions: bool [n_texts, n_labels].
        targets: int64 [n_texts, n_labels], 1, 0 or -1 (unknown).
        groups: Texts of one group are not independent, [n_texts] str.
    """

    probabilities: Floats
    decisions: Bools
    targets: Ints
    groups: Texts

    def __post_init__(self) -> None:
        shape = self.probabilities.shape
        if self.decisions.shape != shape or self.targets.shape != shape or self.groups.shape != shape[:1]:
            raise ValueError("held-out probabilities, decisions and targets must have one shape [n_texts, n_labels]")


@dataclass(frozen=True, slots=True, eq=False)
class ScoredPairs:
    """One preference data set with the scores of all requested views, aligned by pair.

    Attributes:
        dataset: Name of the data set.
        taxonomy: Name of the taxonomy.
        slugs: Value slugs.
        labels: Score columns: the slugs, or with signed values `<slug>-for` and `<slug>-against`.
        signed: Whether the values are signed.
        calibrated: Whether thresholds were fitted on known labels; if not, a decision means "p above 1/L".
        pair_ids: [n_pairs] str, unique.
        subsets: [n_pairs] str.
        clusters: Number of the prompt, int64 [n_pairs].
        is_tie: Whether neither side is preferred, bool [n_pairs].
        views: Scores by view slug.
        rewards: What reward models gave, none or several.
        text_features: What was measured on the responses; None where no audit asked for it.
        rewrites: The same pairs with rewritten responses; None where no audit asked for them.
        trained_on: Whether the classifier was trained (or its thresholds fitted) on a text of the pair, bool [n_pairs];
            None where that is unknown.
        gold: Labels by people of a random sample of responses; None where there are none.
        held_out: How the classifier does on annotated texts that it was not fitted on; None where that is unknown.
        prompt_groups: Which groups of people the prompts name; None where no audit asked for it.
    """

    dataset: str
    taxonomy: str
    slugs: tuple[str, ...]
    labels: tuple[str, ...]
    signed: bool
    calibrated: bool
    pair_ids: Texts
    subsets: Texts
    clusters: Ints
    is_tie: Bools
    views: dict[str, ScoredView]
    rewards: tuple[Reward, ...] = ()
    text_features: TextFeatures | None = None
    rewrites: Rewrites | None = None
    trained_on: Bools | None = None
    gold: GoldLabels | None = None
    held_out: HeldOut | None = None
    prompt_groups: PromptGroups | None = None

    def __post_init__(self) -> None:
        n, n_labels = len(self.pair_ids), len(self.labels)
        if len(np.unique(self.pair_ids)) != n:
            raise ValueError(f"pair ids of {self.dataset} are not unique")
        expected = (
            tuple(f"{s}-{sign}" for s in self.slugs for sign in ("for", "against")) if self.signed else self.slugs
        )
        if sorted(self.labels) != sorted(expected):
            raise ValueError(f"labels {self.labels} do not fit the slugs {self.slugs}")
        if wrong := [slug for slug, view in self.views.items() if slug != view.view]:
            raise ValueError(f"view {wrong[0]} holds {self.views[wrong[0]].view}")
        for name, array, shape in self._arrays(n, n_labels):
            if array.shape != shape:
                raise ValueError(f"{name} must have shape {shape}, not {array.shape}")
        for name in ("is_tie", "trained_on"):
            array = getattr(self, name)
            if array is not None and array.dtype != np.bool_:
                raise ValueError(f"{name} must be bool, not {array.dtype}")

    def _arrays(self, n: int, n_labels: int) -> Iterator[tuple[str, NDArray[Any], tuple[int, ...]]]:
        """Every array with its name and the shape that it must have."""
        yield "subsets", self.subsets, (n,)
        yield "clusters", self.clusters, (n,)
        yield "is_tie", self.is_tie, (n,)
        yield from ((f"view {slug}", view.probabilities, (n, 2, n_labels)) for slug, view in self.views.items())
        yield from ((f"reward {reward.name}", reward.values, (n, 2)) for reward in self.rewards)
        if self.text_features is not None:
            yield "text features", self.text_features.values, (n, 2, len(self.text_features.names))
        if self.trained_on is not None:
            yield "trained_on", self.trained_on, (n,)
        if self.gold is not None:
            yield "gold labels", self.gold.labels, (n, 2, n_labels)
        if self.held_out is not None:
            yield "held-out targets", self.held_out.targets, (len(self.held_out.targets), n_labels)
        if self.prompt_groups is not None:
            yield "prompt groups", self.prompt_groups.named, (n, len(self.prompt_groups.terms))

    def scopes(self, keep_trained_on: bool = False) -> list[tuple[str, Bools]]:
        """Return what rows are made for: all pairs (subset ""), then each subset where there are several.

        Args:
            keep_trained_on: Whether pairs with a text that the classifier was trained on count: predictions on them
                look better than they are. As-published rows keep them, as the papers did.

        Returns:
            Name of the subset, and which pairs are in it, bool [n_pairs].
        """
        counted = np.ones(len(self.pair_ids), dtype=np.bool_)
        if self.trained_on is not None and not keep_trained_on:
            counted = ~self.trained_on
        return subset_scopes(self.subsets, counted)

    def signs(self) -> tuple[Ints, Ints]:
        """Return the columns of the for-labels and of the against-labels, each int64 [n_slugs], in slug order."""
        pick = [[self.labels.index(f"{s}-{sign}") for s in self.slugs] for sign in ("for", "against")]
        return np.array(pick[0], dtype=np.int64), np.array(pick[1], dtype=np.int64)


class Audit(Protocol):
    """One question asked of scored preference data: a frozen dataclass that holds its settings."""

    @property
    def name(self) -> str:
        """Name in the table's `audit` column."""

    @property
    def per_checkpoint(self) -> bool:
        """Whether the answer depends on the classifier; if not, it is computed once per data revision."""

    @property
    def needs_rewards(self) -> bool:
        """Whether it asks for rewards."""

    @property
    def needs_text_features(self) -> bool:
        """Whether it asks for what can be measured on the texts without a model."""

    @property
    def needs_rewrites(self) -> bool:
        """Whether it asks for rewritten responses."""

    def requests(self) -> tuple[ViewRequest, ...]:
        """Return the views that must be scored."""

    def rows(self, scored: ScoredPairs) -> pa.Table:
        """Return the answer as rows of the audit table, without the checkpoint's columns."""
