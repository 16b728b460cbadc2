"""What is in a preference data set: which pairs, texts and words, and is it more on one side than on the other?

Counted (metric `count`): what `datamodules.pair_quality` finds of pairs, of prompts and of responses, a fact about
these pairs, so without an error; n is how many were looked at. Counted too: languages (`language_count`), and rows that
state no pair (`rows_left_out`).

Compared, as chosen minus rejected of the pairs that state a preference, with errors clustered by prompt: findings of
responses (`finding_rate`), what a response does with the request (`response_class_rate`; empty responses have no
class), identity terms (`identity_term_rate`, `identity_group_rate`), and length (`longer_rate`, `log_length_ratio`).
Rates have slices for each side; differences have the metric's name with `_difference`, and Holm's family is the
features of one metric in one subset.
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
import pyarrow as pa

from audits.base import Bools, Floats, Ints, subset_scopes
from audits.pair_rows import Rows, estimate_rows, with_holm
from audits.stats.clustered import clustered_mean, clustered_rate
from audits.stats.discordance import no_contrast_p_value
from audits.stats.length_bias import length_bias
from audits.table import make_table
from audits.value_distribution import SIDES
from datamodules.identity_terms import named_groups
from datamodules.pair_quality import PairQuality
from datamodules.refusals import CLASSES, EMPTY

NAME = "dataset-quality"
PROMPT = "prompt"
CONTRAST = "chosen-rejected"
LENGTHS = ("n_words", "n_characters")
# What holds of a pair and is nothing to look at.
NOT_LISTED = ("tie",)
# Classes of responses that are listed by id.
LISTED_CLASSES = ("partial", "refuse", "incapable")
EXAMPLES: pa.Schema = pa.schema([(name, pa.string()) for name in ("dataset", "subset", "pair_id", "side", "finding")])


@dataclass(frozen=True, slots=True)
class DatasetQuality:
    """The audit of preference data by themselves; needs no model and is the same at every checkpoint."""

    name: ClassVar[str] = NAME
    per_checkpoint: ClassVar[bool] = False

    def rows(self, quality: PairQuality) -> pa.Table:
        """Return rows over all pairs (subset "") and, where there are several subsets, over each."""
        rows: Rows = []
        everything = np.ones(len(quality.pair_ids), dtype=np.bool_)
        for subset, inside in subset_scopes(quality.subsets, everything):
            rows += [{**row, "subset": subset} for row in _scope_rows(quality, inside)]
        rows += _left_out(quality)
        same = {"audit": NAME, "dataset": quality.dataset, "mode": "corrected"}
        return make_table([row | same for row in rows])


def finding_examples(quality: PairQuality) -> pa.Table:
    """List every finding by id, in the order of the file: columns of `EXAMPLES`; `side` is empty for whole pairs."""
    sides = np.where(quality.is_tie[:, None], SIDES[True], SIDES[False])
    found: list[tuple[int, str, str]] = []
    for name, marks in quality.pairs.items():
        if name not in NOT_LISTED:
            found += [(i, "", name) for i in np.flatnonzero(marks).tolist()]
    for name, marks in quality.prompts.items():
        found += [(i, PROMPT, name) for i in np.flatnonzero(marks).tolist()]
    on_sides = dict(quality.responses)
    on_sides |= {name: quality.classes == CLASSES.index(name) for name in LISTED_CLASSES}
    for name, marks in on_sides.items():
        found += [(i, str(sides[i, side]), name) for i, side in np.argwhere(marks).tolist()]
    found.sort(key=lambda row: row[0])  # stable: findings of a pair stay in the order above
    rows = [(quality.dataset, str(quality.subsets[i]), str(quality.pair_ids[i]), side, name) for i, side, name in found]
    columns = [pa.array([row[k] for row in rows], type=pa.string()) for k in range(len(EXAMPLES))]
    return pa.table(columns, schema=EXAMPLES)


def _scope_rows(quality: PairQuality, inside: Bools) -> Iterator[Mapping[str, Any]]:
    """Rows of some pairs."""
    yield from _counts(quality.pairs, inside, quality.clusters, "")
    yield from _counts(quality.prompts, inside, quality.clusters, PROMPT)
    yield from _languages(quality.languages[:, 0], inside, quality.clusters, PROMPT)
    for tie, sides in SIDES.items():
        pairs = inside & (quality.is_tie == tie)
        if not pairs.any():
            continue
        for side, name in enumerate(sides):
            found = {finding: marks[:, side] for finding, marks in quality.responses.items()}
            yield from _counts(found, pairs, quality.clusters, name)
            yield from _languages(quality.languages[:, 1 + side], pairs, quality.clusters, name)
    yield from _prompt_terms(quality, np.flatnonzero(inside))
    for tie, sides in SIDES.items():
        pairs = np.flatnonzero(inside & (quality.is_tie == tie))
        if len(pairs):
            for metric, features, values in _measures(quality, pairs):
                yield from _compared(metric, features, values, quality.clusters[pairs], sides)
    decided = np.flatnonzero(inside & ~quality.is_tie)
    if len(decided):
        yield from _length_rows(quality, decided)


def _counts(found: Mapping[str, Bools], among: Bools, clusters: Ints, slice_name: str) -> Rows:
    """One row per finding: how many of these pairs have it."""
    counts: dict[str, Any] = {"metric": "count", "slice": slice_name, "spec": "pooled", "method": "count"}
    counts |= {"n": int(among.sum()), "n_clusters": len(np.unique(clusters[among]))}
    return [counts | {"feature": name, "estimate": int((marks & among).sum())} for name, marks in found.items()]


def _languages(codes: Any, among: Bools, clusters: Ints, slice_name: str) -> Rows:
    """One row per language that occurs, in the order of the codes."""
    found = {str(code): codes == code for code in np.unique(codes[among])}
    return [row | {"metric": "language_count"} for row in _counts(found, among, clusters, slice_name)]


def _left_out(quality: PairQuality) -> Rows:
    """One row per reason why rows of the files state no pair, and one on all of them together."""
    same = {"metric": "rows_left_out", "spec": "pooled", "method": "count", "n": quality.n_read}
    total = sum(quality.left_out.values())
    return [same | {"feature": name, "estimate": n} for name, n in (("", total), *quality.left_out.items())]


def _measures(quality: PairQuality, pairs: Ints) -> Iterator[tuple[str, Sequence[str], Floats]]:
    """What is compared: metric, features [k], and 0 or 1 (NaN: no such thing) of both sides [n, 2, k]."""
    responses = [marks[pairs] for marks in quality.responses.values()]
    yield "finding_rate", list(quality.responses), np.stack(responses, axis=2).astype(np.float64)
    classes = quality.classes[pairs][:, :, None]
    is_class = np.where(classes == EMPTY, np.nan, classes == np.arange(len(CLASSES)))
    yield "response_class_rate", list(CLASSES), is_class
    for metric, features, terms in _identity(quality, pairs):
        yield metric, features, terms[:, 1:].astype(np.float64)


def _identity(quality: PairQuality, pairs: Ints) -> Iterator[tuple[str, Sequence[str], Bools]]:
    """Identity terms, one by one and by group, of prompt and responses: bool [n, 3, k]."""
    terms = quality.terms[pairs]
    yield "identity_term_rate", quality.term_list.terms, terms
    groups = quality.term_list.groups
    yield "identity_group_rate", groups, named_groups(terms, quality.term_list.group_of, len(groups))


def _prompt_terms(quality: PairQuality, pairs: Ints) -> Iterator[Mapping[str, Any]]:
    """Rows on the identity terms of prompts."""
    for metric, features, terms in _identity(quality, pairs):
        yield from _rates(metric, features, terms[:, 0].astype(np.float64), quality.clusters[pairs], PROMPT)


def _rates(metric: str, features: Sequence[str], values: Floats, clusters: Ints, slice_name: str) -> Rows:
    """One row per feature: the share of texts that have it."""
    columns = {"metric": metric, "slice": slice_name, "spec": "pooled-clustered", "method": "share"}
    return estimate_rows(clustered_rate(values, clusters), features, columns)


def _compared(
    metric: str, features: Sequence[str], values: Floats, clusters: Ints, sides: tuple[str, str]
) -> Iterator[Mapping[str, Any]]:
    """Rates of both sides; of pairs with a preference their paired difference too, with Holm over the features."""
    for side, name in enumerate(sides):
        yield from _rates(metric, features, values[:, side], clusters, name)
    if sides != SIDES[False]:
        return
    differences = values[:, 0] - values[:, 1]
    estimate = clustered_mean(differences, clusters).within(-1.0, 1.0)
    columns = {"metric": f"{metric}_difference", "slice": CONTRAST, "spec": "within", "method": "share"}
    rows = estimate_rows(estimate, features, columns)
    yield from _tested(rows, [_sign_flips(column, clusters) for column in differences.T])


def _sign_flips(differences: Floats, clusters: Ints) -> float:
    """Test whether either side has it as often; pairs with an unknown side are left out."""
    known = np.isfinite(differences)
    return float(no_contrast_p_value(differences[known, None], clusters[known])[0])


def _tested(rows: Rows, p_values: Iterable[float]) -> Rows:
    """Add p-values to rows that are one family of Holm's."""
    return with_holm([row | {"p_value": p} for row, p in zip(rows, p_values, strict=True)])


def _length_rows(quality: PairQuality, decided: Ints) -> Iterator[Mapping[str, Any]]:
    """Rows on the lengths of chosen and rejected responses."""
    lengths = np.stack([quality.n_words[decided], quality.n_characters[decided]], axis=2)
    clusters = quality.clusters[decided]
    for side, name in enumerate(SIDES[False]):
        mean = clustered_mean(lengths[:, side].astype(np.float64), clusters)
        columns = {"metric": "mean_length", "slice": name, "spec": "pooled-clustered", "method": "mean"}
        yield from estimate_rows(mean, LENGTHS, columns)
    bias = length_bias(lengths, clusters)
    for metric, method, estimate in (
        ("longer_rate", "sign-test", bias.longer),
        ("log_length_ratio", "mean", bias.log_ratio),
    ):
        columns = {"metric": metric, "slice": CONTRAST, "spec": "within", "method": method}
        yield from _tested(estimate_rows(estimate, LENGTHS, columns), estimate.p_value.tolist())
    counts: dict[str, Any] = {"metric": "equal_length", "slice": CONTRAST, "spec": "pooled", "method": "count"}
    counts |= {"n": len(decided), "n_clusters": len(np.unique(clusters))}
    for feature, n in zip(LENGTHS, bias.n_equal.tolist(), strict=True):
        yield counts | {"feature": feature, "estimate": n}
