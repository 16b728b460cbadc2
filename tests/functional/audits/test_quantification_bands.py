"""What do sensitivity bands promise, and what not?"""

import numpy as np
import pytest
from scipy.special import expit

from audits.stats.emq import emq, training_prior
from audits.stats.prevalence import acc, classify_and_count, known_rates, pacc
from models.calibration import cross_fitted, fit_calibration
from train.held_out import N_PARTS

TRAINING, AUDITED = 0.3, 0.15
COLUMNS = 400
N_KNOWN, N_AUDITED = 500, 1000


def texts(rng, n, share, separation=1.0):
    """Labels and calibrated probabilities [n, COLUMNS] of texts in pairs that share their label."""
    y = np.repeat(rng.random((n // 2, COLUMNS)) < share, 2, axis=0)
    score = rng.normal(size=y.shape) + np.where(y, separation, -1.0)
    return y, expit(2 * score + np.log(TRAINING / (1 - TRAINING)))


def shares(separation):
    """All methods, on audited texts whose positives score `separation` instead of 1."""
    rng = np.random.default_rng(40)
    known, q = texts(rng, N_KNOWN, TRAINING)
    _, audited = texts(rng, N_AUDITED, AUDITED, separation)
    groups, clusters = np.arange(N_KNOWN) // 2, np.arange(N_AUDITED) // 2
    targets = known.astype(int)
    return {
        "cc": classify_and_count(audited >= 0.5, clusters),
        "acc": acc(audited >= 0.5, clusters, known_rates(q >= 0.5, targets, groups)),
        "pacc": pacc(audited, clusters, known_rates(q, targets, groups)),
        "emq": emq(audited, clusters, training_prior(targets, groups)),
    }


def coverage(share):
    return np.mean((share.ci_low <= AUDITED) & (share.ci_high >= AUDITED))


def test_bands_cover_the_share_where_only_the_mixture_has_changed():
    found = shares(separation=1.0)
    # Three standard errors of a simulated .95 are .033; bands are cautious.
    for method in ("acc", "pacc", "emq"):
        assert coverage(found[method]) > 0.95 - 0.033, method
        assert np.abs(found[method].estimate - AUDITED).mean() < 0.025, method
        assert np.isnan(found[method].std_error).all()
    assert coverage(found["cc"]) < 0.8


@pytest.mark.parametrize("method", ["acc", "pacc", "emq"])
def test_bands_promise_nothing_where_the_classifier_reads_other_texts_worse(method):
    assert coverage(shares(separation=-0.3)[method]) < 0.6


def test_a_band_needs_rates_of_thresholds_like_those_that_decide():
    """Thresholds that were fitted on half of the validation texts err otherwise than those that decide in audits."""
    rng = np.random.default_rng(41)
    labels, before, now = ("a", "b", "c"), np.array([0.3, 0.15, 0.07]), np.array([0.15, 0.3, 0.03])

    def logits(y):
        return 1.2 * (rng.normal(size=y.shape) + np.where(y, 0.6, -0.6)) + np.log(before / (1 - before))

    held: dict[int, list[np.ndarray]] = {2: [], N_PARTS: []}
    for _ in range(40):
        known, audited = rng.random((900, 3)) < before, rng.random((3000, 3)) < now
        z, targets, groups = logits(known), known.astype(int), np.arange(900)
        calibration = fit_calibration(z, targets, labels, False, False)
        decisions = calibration.decide(calibration.probabilities(logits(audited)))
        for n_parts, found in held.items():
            by_others = cross_fitted(z, targets, groups, labels, False, False, n_parts=n_parts)[1]
            band = acc(decisions, np.arange(3000), known_rates(by_others, targets, groups))
            found.append(((band.ci_low <= now) & (now <= band.ci_high))[~np.isnan(band.ci_low)])
    share = {n_parts: np.concatenate(found).mean() for n_parts, found in held.items()}
    # Three standard errors of a simulated .95 are .06.
    assert share[N_PARTS] > 0.89, share
    assert share[2] < 0.88, share
