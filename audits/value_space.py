"""Where in Schwartz's value space does preference data lie, and does the classifier's space have the shape of theory?

A classifier with signed Schwartz labels (as trained on FULCRA) gives every response a value vector: of each value the
probability that the text speaks for it minus the probability that it speaks against it. Per side: the mean of each
value and of the four groups above them, and mean distances to target vectors (see `audits.stats.value_distance`); of
chosen minus rejected the paired differences. Whether the values lie on the circle is asked of the responses and, where
there are held-out annotated texts, of the scores and of the labels there: what the labels themselves do not show, no
classifier trained on them can. Of each value these texts tell too whether its scores follow the labels.

The means are those of the classifier's probabilities, not corrected for its errors. Pairs that the classifier was
trained on are left out.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
import pyarrow as pa

from audits.base import Bools, Floats, HeldOut, ScoredPairs, ScoredView, ViewRequest
from audits.pair_rows import Rows, uncalibrated_mark
from audits.stats.rank_correlation import clustered_spearman
from audits.table import make_table
from audits.value_distribution import EXCHANGE, SIDES
from audits.value_vectors import AUDIT, circle_fits, circle_rows, mean_rows, measures, nets, paired_rows
from datamodules.errors import InputError
from datamodules.target_vectors import TAXONOMY, TargetVector, read_targets
from datamodules.taxonomy import Taxonomy, load_taxonomy


@dataclass(frozen=True, slots=True)
class ValueSpace:
    """Value vectors of both sides of preference data.

    Attributes:
        view: What the classifier read.
        targets: What distances are measured to.
    """

    name: ClassVar[str] = AUDIT
    per_checkpoint: ClassVar[bool] = True
    needs_rewards: ClassVar[bool] = False
    needs_text_features: ClassVar[bool] = False
    needs_rewrites: ClassVar[bool] = False

    view: ViewRequest = EXCHANGE
    targets: tuple[TargetVector, ...] = ()

    def requests(self) -> tuple[ViewRequest, ...]:
        """Return the one view."""
        return (self.view,)

    def rows(self, scored: ScoredPairs) -> pa.Table:
        """Return value vectors over all pairs (subset "") and, where there are several, over each subset.

        Slices are the sides, `chosen-rejected` (paired differences, Holm over the features of one metric and method;
        the groups are a family of their own, because they restate the values), and for the circle also "" (both sides),
        `held-out` and `held-out-labels`. Rows `label_correlation` and `labelled_texts` (slice
        `held-out`) say how far held-out labels vouch for a value. A slice without pairs has no rows.

        Args:
            scored: Scores with the view.

        Raises:
            InputError: A classifier without signed Schwartz labels.
            ValueError: The view was not scored.
        """
        require_signed_schwartz(scored.labels)
        if self.view.slug not in scored.views:
            raise ValueError(f"view {self.view.slug} was not scored, only {', '.join(scored.views)}")
        taxonomy = load_taxonomy(TAXONOMY)
        targets = self.targets or read_targets()
        same = {"audit": self.name, "dataset": scored.dataset, "taxonomy": scored.taxonomy}
        mark = uncalibrated_mark(scored.calibrated)
        rows: Rows = []
        for subset, inside in scored.scopes():
            own = _scope_rows(scored, scored.views[self.view.slug], inside, taxonomy, targets, mark)
            rows += [same | {"subset": subset} | row for row in own]
        if scored.held_out is not None:
            rows += [same | row for row in _held_out_rows(scored.held_out, scored.labels, taxonomy)]
        return make_table(rows)


def has_signed_schwartz(labels: Sequence[str]) -> bool:
    """Tell whether labels are those of Schwartz's ten values with a sign, in any order."""
    return set(labels) == set(load_taxonomy(TAXONOMY).labels)


def require_signed_schwartz(
    labels: Sequence[str],
    what: str = f"audit {AUDIT}",
    fix: str = f"leave {AUDIT} out of --audit.audits, or train with --data.name fulcra",
) -> None:
    """Raise InputError unless labels are those of Schwartz's ten values with a sign.

    Args:
        labels: Of the classifier.
        what: What asks for them.
        fix: What mends it.
    """
    if not has_signed_schwartz(labels):
        needed = load_taxonomy(TAXONOMY).labels
        shown = ", ".join(list(labels)[:4]) + (", .." if len(labels) > 4 else "")
        raise InputError(
            f"{what} of a classifier with the labels {shown}",
            f"one with signed Schwartz labels ({needed[0]}, {needed[1]}, ..), such as experiments/fulcra.yaml trains",
            fix,
        )


def value_vectors(values: Floats, labels: Sequence[str], taxonomy: Taxonomy) -> Floats:
    """Return for minus against of every value, in the order of the taxonomy, float64 [..., K], of values [..., L]."""
    plus, minus = ([list(labels).index(f"{slug}-{sign}") for slug in taxonomy.slugs] for sign in ("for", "against"))
    return np.asarray(values[..., plus] - values[..., minus], dtype=np.float64)


def _scope_rows(
    scored: ScoredPairs,
    view: ScoredView,
    inside: Bools,
    taxonomy: Taxonomy,
    targets: tuple[TargetVector, ...],
    mark: str,
) -> Rows:
    rows: Rows = []
    for tie, sides in SIDES.items():
        pairs = np.flatnonzero(inside & (scored.is_tie == tie))
        if not len(pairs):
            continue
        clusters = scored.clusters[pairs]
        found = []
        for side, name in enumerate(sides):
            vectors = value_vectors(view.probabilities[pairs, side], scored.labels, taxonomy)
            found.append(measures(vectors, taxonomy, targets, mark))
            rows += mean_rows(found[side], clusters, {"slice": name})
            if not tie:
                rows += _circle(vectors, clusters, taxonomy, name)
        if not tie:
            rows += paired_rows(found[0], found[1], clusters, {"slice": "chosen-rejected"})
    pairs = np.flatnonzero(inside)
    if len(pairs):
        vectors = value_vectors(view.probabilities[pairs], scored.labels, taxonomy).reshape(2 * len(pairs), -1)
        rows += _circle(vectors, np.repeat(scored.clusters[pairs], 2), taxonomy, "")
    return rows


def _held_out_rows(held_out: HeldOut, labels: tuple[str, ...], taxonomy: Taxonomy) -> Rows:
    """Rows on the circle of held-out annotated texts, as scored and as labelled; a text with unknown labels is out."""
    known = (held_out.targets >= 0).all(axis=1)
    rows: Rows = []
    for name, values in (("held-out", held_out.probabilities), ("held-out-labels", held_out.targets)):
        if known.any():
            vectors = value_vectors(values[known].astype(np.float64), labels, taxonomy)
            rows += _circle(vectors, held_out.groups[known], taxonomy, name)
    return rows + _label_rows(held_out, labels, taxonomy)


def _label_rows(held_out: HeldOut, labels: tuple[str, ...], taxonomy: Taxonomy) -> Rows:
    """Rows on whether each value of a vector follows what annotators found in held-out texts.

    `label_correlation` is Spearman's with their label, 1, -1 or 0, and `labelled_texts` how many of the texts they
    labelled with the value: where these are few, or none, nothing vouches for its means.
    """
    rows: Rows = []
    targets = np.where(held_out.targets < 0, np.nan, held_out.targets)
    truth = value_vectors(targets, labels, taxonomy)
    scores = value_vectors(held_out.probabilities, labels, taxonomy)
    for k, feature in enumerate(nets(taxonomy.slugs)):
        found = clustered_spearman(scores[:, k], truth[:, k], held_out.groups)
        same = {"slice": "held-out", "feature": feature, "mode": "corrected", "n": found.n}
        same |= {"n_clusters": found.n_clusters}
        row = {name: getattr(found, name) for name in ("estimate", "std_error", "ci_low", "ci_high")}
        row |= {"metric": "label_correlation", "method": "spearman", "spec": "pooled-clustered"}
        count = {"metric": "labelled_texts", "method": "count", "estimate": (np.abs(truth[:, k]) == 1).sum()}
        rows += [same | row, same | count]
    return rows


def _circle(vectors: Floats, clusters: Any, taxonomy: Taxonomy, slice_name: str) -> Rows:
    return circle_rows(circle_fits(vectors, clusters, taxonomy), taxonomy.slugs, {"slice": slice_name})
