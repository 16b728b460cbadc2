"""Which values does preference data carry, and do chosen responses carry others than rejected ones?

Corrected rows read one view of every pair with one checkpoint: per value and side the share of responses that carry it,
its share of top-1 votes and its mean probability, and chosen minus rejected as a paired difference, all with errors
clustered by prompt. As-published rows are Value Imprint's way: shares of argmax votes of whole dialogues cut after 128
tokens, two raw shares side by side, without errors. Ties have no chosen side: they are slices `a` and `b`, counted.

Method `cc`, classify and count, removes no classifier error. What is known of it stands beside: sensitivity bands from
held-out texts (`acc`, `pacc`, `emq`; not error-corrected) and, with gold labels, the error-corrected `ppi++` (see
`audits.prevalence`). Where thresholds were not fitted on known labels, the method of rows that rest on the classifier
alone ends in `-uncalibrated`, and a decision means "p above 1/L".

Corrected rows leave out the pairs that the classifier was trained on, and count them (`trained_on_share`); as-published
rows keep them, as the paper did.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
import pyarrow as pa

from audits.base import Bools, Floats, ScoredPairs, ScoredView, ViewRequest
from audits.prevalence import HeldOutRates, difference_rows, held_out_rates, share_rows
from audits.stats.clustered import Estimate, clustered_mean, clustered_rate
from audits.stats.discordance import no_contrast_p_value
from audits.stats.multiplicity import holm
from audits.stats.paired import unanimous_p_value
from audits.table import make_table

Rows = list[dict[str, Any]]
# What a row does not say is the same for many rows and filled in by the caller.
Columns = dict[str, Any]

SIDES = {False: ("chosen", "rejected"), True: ("a", "b")}  # by: is the pair a tie?

EXCHANGE = ViewRequest("exchange", "head", 256)
PUBLISHED = ViewRequest("dialogue", "head", 128)


@dataclass(frozen=True, slots=True)
class ValueDistribution:
    """Shares of values per side of preference data, and their paired differences.

    Attributes:
        view: What the corrected rows read.
        published_view: What the as-published rows read.
    """

    name: ClassVar[str] = "value-distribution"
    per_checkpoint: ClassVar[bool] = True
    needs_rewards: ClassVar[bool] = False
    needs_text_features: ClassVar[bool] = False
    needs_rewrites: ClassVar[bool] = False

    view: ViewRequest = EXCHANGE
    published_view: ViewRequest = PUBLISHED

    def requests(self) -> tuple[ViewRequest, ...]:
        """Return the two views, or one when they are equal."""
        return tuple(dict.fromkeys((self.view, self.published_view)))

    def rows(self, scored: ScoredPairs) -> pa.Table:
        """Return the distribution over all pairs (subset "") and, where there are several, over each subset.

        A slice without pairs has no rows, except the counted shares, which are NaN with n = 0. Holm's family is the
        values of one (dataset, subset, metric, method): `ppi++` asks of the labels what `cc` asks of the decisions. The
        net rows of signed values are a family of their own, because they restate the for- and against-rows.

        Args:
            scored: Scores of a data set that hold both views.

        Raises:
            ValueError: A requested view was not scored.
        """
        for view in self.requests():
            if view.slug not in scored.views:
                raise ValueError(f"view {view.slug} was not scored, only {', '.join(scored.views)}")
        corrected, published = scored.views[self.view.slug], scored.views[self.published_view.slug]
        same = {"audit": self.name, "dataset": scored.dataset, "taxonomy": scored.taxonomy}
        rates = None if scored.held_out is None else held_out_rates(scored.held_out, scored.calibrated)
        rows: Rows = []
        for (subset, inside), (_, everything) in zip(scored.scopes(), scored.scopes(keep_trained_on=True), strict=True):
            scope = same | {"subset": subset}
            ours = _corrected(scored, corrected, inside, rates)
            if scored.trained_on is not None:
                ours.append(_share(scored.trained_on, everything, scored) | {"metric": "trained_on_share"})
            rows += _with(ours, scope | {"mode": "corrected"})
            rows += _with(_published(scored, published, everything), scope | {"mode": "as_published"})
        return make_table(rows)


def _corrected(scored: ScoredPairs, view: ScoredView, inside: Bools, rates: HeldOutRates | None) -> Rows:
    """Rows of one subset as this project counts: clustered shares per side, paired differences, what errors may do."""
    rows = _counted(scored, view, inside)
    rows.append(_share(scored.is_tie, inside, scored) | {"metric": "tie_share"})
    for tie, sides in SIDES.items():
        pairs = np.flatnonzero(inside & (scored.is_tie == tie))
        if not len(pairs):
            continue
        clusters = scored.clusters[pairs]
        # One measure at a time: a large data set has millions of responses.
        first, second = (_measures(scored, view, pairs, side) for side in (0, 1))
        for chosen, rejected in zip(first, second, strict=True):
            for name, measure in zip(sides, (chosen, rejected), strict=True):
                columns = {"slice": name, "spec": "pooled-clustered"}
                rows += [row | columns for row in _rate_rows(measure, clusters)]
            if not tie:
                rows += _difference_rows(chosen, rejected, clusters)
        for side, name in enumerate(sides):
            rows += _with(share_rows(scored, view, pairs, side, rates), {"slice": name})
        if not tie:
            rows += _with(difference_rows(scored, view, pairs), {"slice": "chosen-rejected"})
    return rows


def _difference_rows(chosen: "_Measure", rejected: "_Measure", clusters: np.ndarray) -> Rows:
    """Rows of one measure of chosen minus rejected, paired; Holm over its features.

    Of decisions the p-value is that of sign flips, as in `value-contrast`: by t, four prompts of four that point one
    way would be significant, which chance alone does 1 in 8 times.
    """
    differences = chosen.values - rejected.values
    estimate = clustered_mean(differences, clusters).within(-chosen.width, chosen.width)
    unanimous = unanimous_p_value(differences, estimate.n_clusters)
    tested = no_contrast_p_value(differences, clusters) if chosen.decided else estimate.p_value
    p_value = np.where(np.isnan(unanimous), tested, unanimous)
    adjusted = holm(p_value)
    columns = {"slice": "chosen-rejected", "spec": "within", "method": chosen.method}
    columns["metric"] = f"{chosen.metric}_difference"
    return [
        row | columns | {"p_value": p_value[k], "p_adjusted": adjusted[k]}
        for k, row in enumerate(_rows(estimate, chosen.features))
    ]


def _published(scored: ScoredPairs, view: ScoredView, inside: Bools) -> Rows:
    """Rows of one subset as Value Imprint counts: raw shares of argmax votes, without errors."""
    rows = _counted(scored, view, inside)
    for tie, sides in SIDES.items():
        pairs = np.flatnonzero(inside & (scored.is_tie == tie))
        if not len(pairs):
            continue
        counts = {"spec": "pooled", "method": "cc", "n": len(pairs), "n_clusters": _distinct(scored, pairs)}
        shares = [_top1(view.probabilities[pairs, side]).mean(axis=0) for side in (0, 1)]
        columns = [(name, "top1_share", share) for name, share in zip(sides, shares, strict=True)]
        if not tie:
            columns.append(("chosen-rejected", "top1_share_difference", shares[0] - shares[1]))
        for name, metric, values in columns:
            rows += [
                counts | {"slice": name, "metric": metric, "feature": label, "estimate": value}
                for label, value in zip(scored.labels, values, strict=True)
            ]
    return rows


def _counted(scored: ScoredPairs, view: ScoredView, inside: Bools) -> Rows:
    """Rows on what the view can show at all: pairs it cannot tell apart (ties aside), texts it cuts."""
    preferred = inside & ~scored.is_tie
    same = view.text_rows[:, 0] == view.text_rows[:, 1]
    rows = [_share(same, preferred, scored) | {"metric": "indistinguishable_share", "slice": "chosen-rejected"}]
    for tie, sides in SIDES.items():
        pairs = inside & (scored.is_tie == tie)
        if pairs.any() or not tie:
            rows += [
                _share(view.truncated[:, side], pairs, scored) | {"metric": "truncated_share", "slice": name}
                for side, name in enumerate(sides)
            ]
    return rows


@dataclass(frozen=True, slots=True, eq=False)
class _Measure:
    """One thing measured of each response: values float64 [n, n_features] in [low, 1]; `rate` where they are 0 or 1.

    They are whole numbers where `decided`.
    """

    metric: str
    method: str
    features: Sequence[str]
    values: Floats
    rate: bool
    decided: bool
    low: float = 0.0

    @property
    def width(self) -> float:
        """Largest possible difference of two values."""
        return 1 - self.low


def _measures(scored: ScoredPairs, view: ScoredView, pairs: np.ndarray, side: int) -> Iterator[_Measure]:
    """Measure one side of some pairs; signed values add their net = for - against as measures of their own."""
    mark = "" if scored.calibrated else "-uncalibrated"
    decisions = view.decisions[pairs, side].astype(np.float64)
    probabilities = view.probabilities[pairs, side]
    prevalence = _Measure("prevalence", f"cc{mark}", scored.labels, decisions, True, True)
    mean = _Measure("mean_probability", f"mean{mark}", scored.labels, probabilities, False, False)
    yield prevalence
    yield _Measure("top1_share", "cc", scored.labels, _top1(probabilities), True, True)
    yield mean
    if scored.signed:
        plus, minus = scored.signs()
        nets = [f"{slug}-net" for slug in scored.slugs]
        for m in (prevalence, mean):
            yield _Measure(m.metric, m.method, nets, m.values[:, plus] - m.values[:, minus], False, m.decided, -1.0)


def _top1(probabilities: Floats) -> Floats:
    """One-hot votes of the most probable label (the first of equals), [n, n_labels]."""
    votes = np.zeros_like(probabilities)
    votes[np.arange(len(votes)), probabilities.argmax(axis=1)] = 1
    return votes


def _rate_rows(measure: _Measure, clusters: np.ndarray) -> Rows:
    """Rows of one measure of one side; a share has no null hypothesis, hence no p-value."""
    if measure.rate:
        estimate = clustered_rate(measure.values, clusters)
    else:
        estimate = clustered_mean(measure.values, clusters).within(measure.low, 1.0)
    same = {"metric": measure.metric, "method": measure.method}
    return [row | same for row in _rows(estimate, measure.features)]


def _rows(estimate: Estimate, features: Sequence[str]) -> Rows:
    """One row per column of an estimate, without p-values."""
    names = ("estimate", "std_error", "ci_low", "ci_high", "n", "n_clusters")
    columns = {name: getattr(estimate, name).tolist() for name in names}
    return [
        {"feature": feature} | {name: column[k] for name, column in columns.items()}
        for k, feature in enumerate(features)
    ]


def _share(event: Bools, among: Bools, scored: ScoredPairs) -> Columns:
    """A share counted on the data at hand: a fact about these pairs, so without an error."""
    n = int(among.sum())
    share = event[among].mean() if n else np.nan
    counts = {"n": n, "n_clusters": _distinct(scored, np.flatnonzero(among))}
    return {"spec": "pooled", "method": "count", "estimate": float(share)} | counts


def _distinct(scored: ScoredPairs, pairs: np.ndarray) -> int:
    """Count the prompts behind some pairs."""
    return len(np.unique(scored.clusters[pairs]))


def _with(rows: Rows, columns: Columns) -> Rows:
    """Add the columns to every row."""
    return [row | columns for row in rows]
