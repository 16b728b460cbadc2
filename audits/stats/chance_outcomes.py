"""What would somebody score who knows how frequent each outcome is, and reads no text?

Baselines for signed values, from the shares of outcomes in training alone:

* `majority`: of every value the outcome that is most frequent in training;
* `random`: outcomes drawn at random with the training shares, text by text. Its scores are expectations over the draws,
  exact and not simulated. With n texts of which c have the sign, and a share q of draws of it, M ~ Bin(n, q) texts
  are drawn; given M, the hits are M c / n on average, so that E[F1] = 2 (c / n) E[M / (c + M)], a sum of n + 1 terms.
  Given how often each outcome was drawn, agreement is on average that by chance: kappa is 0, plain, weighted or pooled;
* `always`: every text is said to speak for (against) the value, F1 = 2 c / (n + c). Since E[F1] above grows with q,
  this is the most that can be had for one sign without reading.
"""

import numpy as np
from numpy.typing import NDArray
from scipy import stats

from audits.stats.signed_outcomes import AGAINST, FOR, NEITHER, SignedScores, sign_f1, signed_scores
from datamodules.annotated_text import UNKNOWN

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]


def outcome_shares(truth: Ints) -> Floats:
    """Return the share of each outcome among the texts where it is known, float64 [K, 3]; NaN where none is.

    Args:
        truth: Outcomes of training texts [n, K].
    """
    counts = (truth[:, :, None] == np.arange(3)).sum(axis=0).astype(np.float64)
    known = counts.sum(axis=1, keepdims=True)
    return np.asarray(np.divide(counts, known, out=np.full(counts.shape, np.nan), where=known > 0))


def majority_scores(truth: Ints, shares: Floats) -> SignedScores:
    """Score the most frequent outcome of training (of equals, neither before for before against), B = 1.

    Args:
        truth: Outcomes of the test texts [n, K].
        shares: Of training [K, 3].
    """
    order = [NEITHER, FOR, AGAINST]
    most = np.array(order)[np.nan_to_num(shares[:, order], nan=-1.0).argmax(axis=1)]
    return signed_scores(np.broadcast_to(most, truth.shape), _learnt(truth, shares), np.ones((1, len(truth))))


def random_scores(truth: Ints, shares: Floats) -> SignedScores:
    """Return the expected scores of outcomes drawn with the shares of training, B = 1; arguments as above."""
    # Which scores are defined, and the pooled ones, depend on the truth alone.
    one = majority_scores(truth, shares)
    counts = (truth[:, :, None] == np.arange(3)).sum(axis=0)
    n = counts.sum(axis=1)
    with np.errstate(invalid="ignore"):
        accuracy = (shares * counts).sum(axis=1) / np.maximum(n, 1)
    return SignedScores(
        f1_for=np.where(np.isnan(one.f1_for), np.nan, _expected_f1(n, counts[:, FOR], shares[:, FOR])),
        f1_against=np.where(np.isnan(one.f1_against), np.nan, _expected_f1(n, counts[:, AGAINST], shares[:, AGAINST])),
        kappa=np.where(np.isnan(one.kappa), np.nan, 0.0),
        kappa_linear=np.where(np.isnan(one.kappa_linear), np.nan, 0.0),
        accuracy=np.where(np.isnan(one.accuracy), np.nan, accuracy),
        kappa_pooled=np.where(np.isnan(one.kappa_pooled), np.nan, 0.0),
        kappa_linear_pooled=np.where(np.isnan(one.kappa_linear_pooled), np.nan, 0.0),
    )


def always_f1(truth: Ints, sign: int) -> Floats:
    """F1 of every value [K] if all texts are said to have the sign."""
    return np.asarray(sign_f1(np.full(truth.shape, sign), truth, np.ones((1, len(truth))), sign)[0])


def _expected_f1(n: Ints, n_sign: Ints, shares: Floats) -> Floats:
    """Expected F1 of random draws of every value [K]; 0 where there are no texts of the sign."""
    found = np.zeros(len(n))
    for k in np.flatnonzero(n_sign):
        drawn = np.arange(n[k] + 1)
        chances = stats.binom.pmf(drawn, n[k], shares[k])
        found[k] = 2 * n_sign[k] / n[k] * (chances * drawn / (n_sign[k] + drawn)).sum()
    return found


def _learnt(truth: Ints, shares: Floats) -> Ints:
    """Set to unknown what training says nothing of."""
    return np.where(np.isnan(shares).any(axis=1), UNKNOWN, truth)
