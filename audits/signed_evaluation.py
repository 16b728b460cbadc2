"""How well does a classifier tell signed values on test texts, and what would their frequencies alone have given?

FULCRA's own evaluation reports accuracy, which counts mostly texts that a value is not in. Here are F1 of each sign and
kappa, with intervals over redrawn groups of texts, and beside every number what the shares of training give.

A text that is not labelled with a value counts as neither for nor against it: in FULCRA's files "no connection" and
"not annotated" are the same, so that some of what counts as wrongly found may be there.
"""

from collections.abc import Sequence
from dataclasses import dataclass, fields
from typing import Any

import numpy as np
from numpy.typing import NDArray

from audits.stats.chance_outcomes import always_f1, majority_scores, random_scores
from audits.stats.paired_bootstrap import group_weights
from audits.stats.redrawn_metrics import mean_of_defined
from audits.stats.signed_outcomes import (
    AVERAGES,
    SIGNS,
    signed_outcomes,
    signed_scores,
    signed_slugs,
)
from datamodules.annotated_text import UNKNOWN

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]

N_REDRAWS = 2000
FEWEST_REDRAWS = 100
PER_VALUE = ("f1_for", "f1_against", "kappa", "kappa_linear", "accuracy")


@dataclass(frozen=True, slots=True)
class SignedRow:
    """One score of a value or, where `value` is empty, an average over values; NaN where undefined.

    Attributes:
        metric: `f1_for`, `f1_against`, `kappa`, `kappa_linear`, `accuracy`, or one of `signed_outcomes.AVERAGES`.
        value: Slug.
        estimate: On the test texts as they are.
        ci_low: 2.5% quantile over redraws of whole groups of texts; of a mean over values, over the redraws in which
            the same values have a score: one that a redraw lost would move the mean whatever was decided.
        ci_high: 97.5% quantile.
        n_redraws: Redraws behind the interval, which is NaN below `FEWEST_REDRAWS`.
        random: What draws with the shares of training score on average.
        majority: What the most frequent outcome of training scores.
        always: F1 of saying the sign of every text.
        train_share: Share of training texts with the sign; NaN for other metrics.
        n: Test texts in which the value is known; for an average all texts.
        n_groups: Groups of texts that depend on each other, of all test texts.
        n_positives: Test texts with the sign, for F1; with either sign, for the others.
        n_values: Values with a score, for an average; 1 or 0 for a value.
    """

    metric: str
    value: str
    estimate: float
    ci_low: float
    ci_high: float
    n_redraws: int
    random: float
    majority: float
    always: float
    train_share: float
    n: int
    n_groups: int
    n_positives: int
    n_values: int


COLUMNS = tuple(field.name for field in fields(SignedRow))


def signed_rows(
    decisions: NDArray[np.bool_],
    targets: NDArray[np.integer],
    labels: Sequence[str],
    groups: NDArray[np.integer],
    shares: Floats,
    n_redraws: int = N_REDRAWS,
    seed: int = 0,
) -> list[SignedRow]:
    """Score decisions on signed labels: the averages, then the values.

    Args:
        decisions: bool [n, L], at most one of a value on.
        targets: 1, 0 or -1 (unknown) [n, L].
        labels: Pairs of `<slug>-for` and `<slug>-against` [L].
        groups: Group number of each text [n].
        shares: Share of each outcome in training, `chance_outcomes.outcome_shares` [K, 3].
        n_redraws: Redraws of the groups.
        seed: Seed of the redraws.
    """
    slugs = signed_slugs(labels)
    truth, decided = signed_outcomes(targets, labels), signed_outcomes(decisions, labels)
    # The texts as they are come first.
    weights = np.vstack([np.ones(len(truth), dtype=np.int64), group_weights(groups, n_redraws, seed)])
    found = signed_scores(decided, truth, weights)
    chance = {"random": random_scores(truth, shares), "majority": majority_scores(truth, shares)}
    always = {f"f1_{name}": always_f1(truth, sign) for name, sign in SIGNS.items()}
    n_groups = len(np.unique(groups))
    averages = found.averages()
    rows = []
    for metric in AVERAGES:
        own = metric.removesuffix("_macro").removesuffix("_pooled")
        defined = ~np.isnan(getattr(found, own))
        same_values = (defined == defined[0]).all(axis=1)
        rows.append(
            _row(metric, "", np.where(same_values, averages[metric], np.nan))
            | {name: float(each.averages()[metric][0]) for name, each in chance.items()}
            | {"always": float(mean_of_defined(always[own][None])[0]) if own in always else np.nan}
            | {"n": len(truth), "n_positives": int(_n_positives(truth, own).sum()), "n_values": int(defined[0].sum())}
        )
    for metric in PER_VALUE:
        drawn, n_positives = getattr(found, metric), _n_positives(truth, metric)
        for k, slug in enumerate(slugs):
            rows.append(
                _row(metric, slug, drawn[:, k])
                | {name: float(getattr(each, metric)[0, k]) for name, each in chance.items()}
                | {"always": float(always[metric][k]) if metric in always else np.nan}
                | {"train_share": float(shares[k, _sign(metric)]) if metric in always else np.nan}
                | {"n": int((truth[:, k] != UNKNOWN).sum()), "n_positives": int(n_positives[k])}
                | {"n_values": int(not np.isnan(drawn[0, k]))}
            )
    return [SignedRow(**({"train_share": np.nan, "n_groups": n_groups} | row)) for row in rows]


def shares_of_rows(rows: Sequence[SignedRow], slugs: Sequence[str]) -> Floats:
    """Return the shares of training [K, 3] that rows were made with."""
    by = {(row.metric, row.value): row.train_share for row in rows}
    held, opposed = (np.array([by[f"f1_{name}", slug] for slug in slugs]) for name in SIGNS)
    return np.column_stack([opposed, 1 - held - opposed, held])


def headline(rows: Sequence[SignedRow]) -> dict[str, float]:
    """Return the averages and their baselines by flat name, for a tracker."""
    found = {row.metric: row.estimate for row in rows if not row.value}
    for row in rows:
        if not row.value and not row.metric.startswith("kappa"):
            found |= {f"{row.metric}_random": row.random, f"{row.metric}_majority": row.majority}
    return found


def _row(metric: str, value: str, drawn: Floats) -> dict[str, Any]:
    """Estimate and interval from the observed score, first, and those of the redraws [B]."""
    known = drawn[1:][~np.isnan(drawn[1:])]
    is_known = len(known) >= FEWEST_REDRAWS and np.isfinite(drawn[0])
    low, high = np.percentile(known, [2.5, 97.5]) if is_known else (np.nan, np.nan)
    own = {"metric": metric, "value": value, "estimate": float(drawn[0]), "n_redraws": len(known)}
    return own | {"ci_low": float(low), "ci_high": float(high)}


def _n_positives(truth: Ints, metric: str) -> Ints:
    """Count the texts [K] with the sign that a metric is about, or with either."""
    signs = [_sign(metric)] if metric.startswith("f1_") else list(SIGNS.values())
    return np.asarray(np.isin(truth, signs).sum(axis=0))


def _sign(metric: str) -> int:
    return SIGNS[metric.removeprefix("f1_")]
