"""How well is it told whether texts speak for a value, against it, or neither?

Of every text and value there is one of three outcomes. F1 is taken of each sign by itself, because a text hardly ever
speaks against a value and most say nothing of most: accuracy would mostly count the texts that say nothing. Cohen's
kappa is the agreement with the truth beyond that by chance, plain, or with "for" taken for "against" counted as twice
as far off (linear weights). Over several values it is the mean of theirs, or pooled as De Vries et al. (2008) have it,
1 - sum_k observed_k / sum_k by_chance_k of the shares of disagreement. (One table of all values together would count it
as agreement to know which values are frequent.)

What is undefined is NaN, and that depends on the truth alone, never on what was decided: a sign without a text has no
F1, a value of which all texts have the same outcome has no kappa. Unknown outcomes are left out value by value.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from audits.stats.redrawn_metrics import columns_of, label_f1, mean_of_defined
from datamodules.annotated_text import UNKNOWN

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]

AGAINST, NEITHER, FOR = 0, 1, 2
SIGNS = {"for": FOR, "against": AGAINST}
# How far apart two outcomes are, truth by decision, as kappa counts it.
PLAIN = 1.0 - np.eye(3)
LINEAR = np.abs(np.subtract.outer(np.arange(3), np.arange(3))) / 2
AVERAGES = (
    *("f1_for_macro", "f1_against_macro", "kappa_macro", "kappa_linear_macro"),
    *("kappa_pooled", "kappa_linear_pooled", "accuracy_macro"),
)


@dataclass(frozen=True, slots=True, eq=False)
class SignedScores:
    """Scores of K values in B redraws of the texts, float64 [B, K] but the pooled ones [B]; NaN where undefined."""

    f1_for: Floats
    f1_against: Floats
    kappa: Floats
    kappa_linear: Floats
    accuracy: Floats
    kappa_pooled: Floats
    kappa_linear_pooled: Floats

    def averages(self) -> dict[str, Floats]:
        """Return the means over the values with a score, and the pooled kappas, by the names of `AVERAGES`; [B]."""
        found = {name: getattr(self, name.removesuffix("_macro")) for name in AVERAGES}
        return {name: mean_of_defined(v) if name.endswith("_macro") else v for name, v in found.items()}


def signed_slugs(labels: Sequence[str]) -> tuple[str, ...]:
    """Return the values of signed labels, in order; none where the labels are not pairs of `-for` and `-against`."""
    slugs = tuple(label.removesuffix("-for") for label in labels if label.endswith("-for"))
    pairs = {f"{slug}-{sign}" for slug in slugs for sign in SIGNS}
    return slugs if pairs == set(labels) and len(labels) == 2 * len(slugs) else ()


def signed_outcomes(states: ArrayLike, labels: Sequence[str]) -> Ints:
    """Return the outcome of every value, int64 [n, K]: FOR, AGAINST, NEITHER, or UNKNOWN (-1).

    Args:
        states: Of the labels [n, L]: 1, 0 or -1 (unknown), or decisions, of which `Calibration.decide` leaves at most
            one of a value on: the one that is farther above its threshold.
        labels: Pairs of `<slug>-for` and `<slug>-against` [L].

    Raises:
        ValueError: Labels that are no such pairs, or a value that is both held and opposed.
    """
    slugs, table = signed_slugs(labels), np.asarray(states).astype(np.int64)
    if not slugs or table.shape[1:] != (len(labels),):
        raise ValueError(f"states of pairs <slug>-for, <slug>-against needed, got {table.shape} of {tuple(labels)}")
    held, opposed = (table[:, [list(labels).index(f"{slug}-{sign}") for slug in slugs]] for sign in SIGNS)
    if ((held == 1) & (opposed == 1)).any():
        raise ValueError("a value is held and opposed in one text")
    return np.where((held == UNKNOWN) | (opposed == UNKNOWN), UNKNOWN, NEITHER + held - opposed)


def signed_scores(decided: Ints, truth: Ints, weights: NDArray[np.number]) -> SignedScores:
    """Score decided outcomes.

    Args:
        decided: Outcomes [n, K], none unknown.
        truth: Outcomes [n, K].
        weights: How often each text is in, one row per redraw [B, n].
    """
    w = columns_of(weights)
    tables = _tables(decided, truth, w)
    total = tables.sum(axis=(2, 3))
    right = np.trace(tables, axis1=2, axis2=3)
    kappa, pooled = _kappas(tables, PLAIN)
    linear, linear_pooled = _kappas(tables, LINEAR)
    return SignedScores(
        f1_for=sign_f1(decided, truth, w, FOR),
        f1_against=sign_f1(decided, truth, w, AGAINST),
        kappa=kappa,
        kappa_linear=linear,
        accuracy=_divided(right, total, total > 0),
        kappa_pooled=pooled,
        kappa_linear_pooled=linear_pooled,
    )


def sign_f1(decided: Ints, truth: Ints, weights: NDArray[np.number], sign: int) -> Floats:
    """F1 of one outcome against the other two, of every value [B, K]; arguments as `signed_scores`."""
    return label_f1(decided == sign, np.where(truth == UNKNOWN, UNKNOWN, truth == sign), weights)


def _tables(decided: Ints, truth: Ints, w: Floats) -> Floats:
    """Count the texts of every redraw and value by truth and decision, [B, K, 3, 3]."""
    cells = np.where(truth == UNKNOWN, -1, 3 * truth + decided)
    is_in = (cells[:, :, None] == np.arange(9)).reshape(len(truth), -1)
    return np.asarray(w @ is_in).reshape(len(w), truth.shape[1], 3, 3)


def _kappas(tables: Floats, apart: Floats) -> tuple[Floats, Floats]:
    """Kappa of every value [B, K] and the pooled one [B], of tables [B, K, 3, 3] and how far outcomes are apart."""
    n = tables.sum(axis=(2, 3), keepdims=True)
    shares = _divided(tables, n, n > 0, 0.0)
    observed = (shares * apart).sum(axis=(2, 3))
    true, decided = shares.sum(axis=3), shares.sum(axis=2)
    by_chance = np.einsum("bki,ij,bkj->bk", true, apart, decided)
    varies = (true > 0).sum(axis=2) > 1
    own = 1 - _divided(observed, by_chance, varies)
    observed, by_chance = (np.where(varies, part, 0.0).sum(axis=1) for part in (observed, by_chance))
    return own, 1 - _divided(observed, by_chance, varies.any(axis=1))


def _divided(a: Floats, b: Floats, where: NDArray[np.bool_], otherwise: float = np.nan) -> Floats:
    return np.asarray(np.divide(a, b, out=np.full(a.shape, otherwise), where=where))
