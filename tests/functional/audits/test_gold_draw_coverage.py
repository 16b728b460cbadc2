"""Does a share corrected with gold labels hold what it promises, when `imprint gold draw` drew the sample?"""

import numpy as np
import pytest
from scipy import stats

from audits.stats.ppi import ppi_mean
from datamodules.gold_draw import draw_units, rarest_label

REPETITIONS, N_PAIRS = 120, 3000
TPR, FPR = 0.6, 0.01


def drawn_sample(rng, share, n_drawn, repetition, blank=0.0):
    """Labels, calibrated probabilities and weights of the chosen side of pairs drawn by the rarest value predicted."""
    y = rng.random((N_PAIRS, 2, len(share))) < share
    on = np.where(y, rng.random(y.shape) < TPR, rng.random(y.shape) < FPR)
    by_decision = [share * rate / (share * rate + (1 - share) * other) for rate, other in ((TPR, FPR), (0.4, 0.99))]
    _, strata = np.unique(rarest_label(on), return_inverse=True)
    draw = draw_units([f"{repetition}-{k}" for k in range(N_PAIRS)], strata, n_drawn, seed=repetition)
    labelled = np.zeros(N_PAIRS, dtype=bool)
    labelled[draw.units] = True
    # Somebody stops before the end; one pair of every stratum is labelled all the same.
    first = draw.units[np.unique(strata[draw.units], return_index=True)[1]]
    labelled &= (rng.random(N_PAIRS) >= blank) | np.isin(np.arange(N_PAIRS), first)
    n_labelled = np.bincount(strata[labelled], minlength=len(draw.sizes))
    weight = np.where(labelled, (draw.sizes / n_labelled)[strata], 0.0)
    return y.astype(float), np.where(on, *by_decision), weight


def coverage(share, n_drawn, blank=0.0):
    """How often intervals hold the truth, and how often t alone would: of shares, and of chosen minus rejected."""
    rng, share = np.random.default_rng(50), np.array(share)
    everyone, clusters = np.ones(N_PAIRS), np.arange(N_PAIRS)
    held: dict[str, list[np.ndarray]] = {"share": [], "by t alone": [], "difference": []}
    for k in range(REPETITIONS):
        y, f, weight = drawn_sample(rng, share, n_drawn, k, blank)
        found = ppi_mean(y[:, 0], f[:, 0], weight, everyone, clusters)
        known = np.isfinite(found.std_error)
        held["share"].append(((found.ci_low <= share) & (share <= found.ci_high))[known])
        half = stats.t.ppf(0.975, found.n_clusters - 1) * found.std_error
        held["by t alone"].append((np.abs(found.estimate - share) <= half)[known])
        paired = ppi_mean(y[:, 0] - y[:, 1], f[:, 0] - f[:, 1], weight, everyone, clusters, low=-1.0)
        known = np.isfinite(paired.std_error)
        held["difference"].append(((paired.ci_low <= 0) & (paired.ci_high >= 0))[known])
        # Interval and p-value tell the same.
        outside = (paired.ci_low > 0) | (paired.ci_high < 0)
        np.testing.assert_array_equal(outside[known], paired.p_value[known] < 0.05)
    return {name: np.concatenate(each).mean() for name, each in held.items()}


@pytest.mark.parametrize("blank", [0.0, 0.3])
def test_rare_values_are_covered_where_t_intervals_miss_what_the_classifier_misses(blank):
    """Of a value that 3% carry, most texts that the classifier misses lie among a few labels of large weight."""
    held = coverage([0.03] * 5, 200, blank)
    # Three standard errors of a simulated .95, values of one draw taken for one, are .06.
    assert held["share"] > 0.92, held
    assert held["difference"] > 0.92, held
    assert held["by t alone"] < 0.9, held


def test_frequent_values_are_covered_as_promised_and_no_more():
    held = coverage([0.4, 0.3, 0.2], 200)
    assert 0.92 < held["share"] < 0.98, held
    assert held["share"] - held["by t alone"] < 0.02, held
    assert 0.92 < held["difference"] < 0.985, held
