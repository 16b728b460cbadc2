"""Do agreement, regimes, gammas and angles reproduce what SEAL (arXiv 2408.10270) printed?"""

import itertools
import math

import numpy as np
import pytest
from statsmodels.stats.proportion import proportion_confint

from audits.reward_agreement import (
    GAMMAS,
    QUADRANTS,
    REGIMES,
    UNDEFINED,
    agreement,
    cross_counts,
    gammas,
    geometry,
    human_agreement,
    misalignment_effects,
    quadrant_shares,
    rate,
    rates_by,
    shift_regimes,
)
from audits.stats.circular import signed_angle, wrapped
from audits.stats.paired import exact_mcnemar

# Pairs by (harmless, helpful) of chosen | rejected.
CELLS = {
    "11|11": 102151, "11|10": 19071, "10|10": 12093, "10|11": 8917, "00|00": 7131, "10|00": 4860, "11|00": 3628,
    "00|10": 819, "00|11": 725, "11|01": 453, "10|01": 263, "00|01": 193, "01|00": 168, "01|11": 153, "01|01": 142,
    "01|10": 33,
}  # fmt: skip
# Pairs by agreement before, gamma and agreement after (c agrees, r does not; gamma 0 is i).
TRIPLES = {
    "c0c": 58350, "r0c": 29154, "r0r": 22907, "ccc": 16531, "c0r": 11106, "rcc": 9065, "rrc": 3226, "rrr": 3114,
    "crc": 2765, "rcr": 1623, "crr": 1549, "ccr": 1410,
}  # fmt: skip
N_PAIRS = 160_800


def bits(text):
    return [int(bit) for bit in text]


@pytest.fixture(scope="module")
def published():
    """Agreement before and after and gamma of all pairs, from the twelve counts."""
    triples, counts = list(TRIPLES), list(TRIPLES.values())
    before = np.repeat([float(t[0] == "c") for t in triples], counts)
    gamma = np.repeat([{"0": 0, "c": 1, "r": 2}[t[1]] for t in triples], counts)
    after = np.repeat([float(t[2] == "c") for t in triples], counts)
    return before, gamma, after, np.arange(len(before))


def test_gamma_of_the_sixteen_cells():
    cells, counts = [cell.split("|") for cell in CELLS], list(CELLS.values())
    chosen = np.repeat([bits(c) for c, _ in cells], counts, axis=0)
    rejected = np.repeat([bits(r) for _, r in cells], counts, axis=0)
    assert len(chosen) == N_PAIRS
    assert np.bincount(gammas(chosen, rejected)).tolist() == [121_517, 28_443, 10_840]


@pytest.mark.parametrize("m", [1, 2, 3])
def test_gamma_is_the_order_of_the_label_tuples(m):
    every = list(itertools.product((0, 1), repeat=m))
    pairs = list(itertools.product(every, every))
    codes = gammas([c for c, _ in pairs], [r for _, r in pairs])
    assert [GAMMAS[code] for code in codes] == ["i" if c == r else "c" if c > r else "r" for c, r in pairs]


def test_gamma_needs_labels():
    with pytest.raises(ValueError, match="0 and 1"):
        gammas([[0.5, 1.0]], [[1.0, 1.0]])
    with pytest.raises(ValueError, match="both sides"):
        gammas([[1, 1]], [[1], [1]])
    assert gammas([[True, False]], [[False, True]]).tolist() == [1]


def test_the_four_regimes(published):
    before, _, after, _ = published
    counts = np.bincount(shift_regimes(before, after), minlength=4)
    assert dict(zip(REGIMES, counts.tolist(), strict=True)) == {
        "stayed": 77_646, "became": 41_445, "resisted": 27_644, "reversed": 14_065,
    }  # fmt: skip
    np.testing.assert_allclose(
        100 * counts / N_PAIRS,
        [48.28731343283582, 25.774253731343283, 17.191542288557216, 8.746890547263682],
        rtol=1e-15,
    )
    assert before.mean() == pytest.approx(0.570342, abs=5e-7)
    assert after.mean() == pytest.approx(0.740616, abs=5e-7)
    assert 1 - after.mean() == pytest.approx(0.259384, abs=5e-7)


def test_half_and_missing_agreements_have_no_regime():
    assert shift_regimes([0.5, np.nan, 1, 1], [1, 1, 0.5, 0]).tolist() == [UNDEFINED] * 3 + [3]


def test_resistance_by_gamma_has_its_own_denominators(published):
    before, gamma, after, pairs = published
    found = rates_by(1 - after, gamma, GAMMAS, pairs)
    assert [round(found[g].rate, 4) for g in GAMMAS] == [0.2799, 0.1059, 0.4377]
    assert [found[g].n for g in GAMMAS] == [121_517, 28_629, 10_654]
    earlier = rates_by(1 - before, gamma, GAMMAS, pairs)
    assert [round(earlier[g].rate, 4) for g in GAMMAS] == [0.4284, 0.3733, 0.5951]
    # Wilson's interval is that of statsmodels on the pairs of the class.
    low, high = proportion_confint(round(found["r"].rate * 10_654), 10_654, method="wilson")
    assert (found["r"].wilson_low, found["r"].wilson_high) == pytest.approx((low, high), rel=1e-12)


def test_agreement_on_opinionated_pairs(published):
    before, gamma, after, pairs = published
    opinionated = gamma != 0
    assert rate(after, pairs, opinionated).rate == pytest.approx(0.804088282463152, rel=1e-12)
    assert rate(before, pairs, opinionated).rate == pytest.approx(0.5665300511671716, rel=1e-12)
    by_regime = rates_by(human_agreement(gamma), shift_regimes(before, after), REGIMES, pairs)
    assert [round(by_regime[r].rate, 4) for r in ("became", "stayed", "resisted", "reversed")] == [
        0.7375, 0.8567, 0.3426, 0.4765,
    ]  # fmt: skip
    # The published errors took all 41,445 pairs of the regime; the rate is one of 12,291.
    assert by_regime["became"].n == 12_291


def test_human_agreement_of_the_right_gamma():
    gamma = np.repeat([0, 1, 2], [121_517, 28_443, 10_840])
    overall = rate(human_agreement(gamma), np.arange(N_PAIRS))
    assert overall.rate == pytest.approx(0.7240536618893669, rel=1e-12)
    assert overall.n == 39_283


@pytest.mark.parametrize(
    ("b", "c", "p"),
    [
        (2938, 6082, 3.2042752133495114e-245),
        (2938, 4758, 2.1692835037190495e-96),
        (4758, 6082, 4.416077898360805e-37),
    ],
)
def test_published_mcnemar_from_paired_judgements(b, c, p):
    first = np.repeat([1, 0, 1, 0], [b, c, 7, 11])
    second = np.repeat([0, 1, 1, 0], [b, c, 7, 11])
    counts = cross_counts(first, second, 2, 2)
    assert counts.tolist() == [[11, c], [b, 7]]
    assert exact_mcnemar(counts[1, 0], counts[0, 1]) == pytest.approx(p, rel=1e-9)


@pytest.mark.parametrize(
    ("ties", "values", "mean"),
    [
        ("strict", [1, 0, 0, np.nan, np.nan], 1 / 3),
        ("half", [1, 0, 0.5, np.nan, np.nan], 0.5),
        ("drop", [1, 0, np.nan, np.nan, np.nan], 0.5),
    ],
)
def test_tie_policies(ties, values, mean):
    a = agreement([2, 1, 3, np.nan, np.inf], [1, 2, 3, 1, 0], ties)
    np.testing.assert_array_equal(a.values, values)
    assert (a.ties, a.n_ties, a.n_scored, a.n_total) == (ties, 1, 3, 5)
    found = rate(a.values, [0, 1, 2, 3, 4])
    assert found.rate == pytest.approx(mean)
    assert found.n == 2 + (ties != "drop")
    assert math.isnan(found.wilson_low) == (ties == "half")
    assert 0 <= found.ci_low < found.rate < found.ci_high <= 1


def test_unknown_tie_policy():
    with pytest.raises(ValueError, match="strict, half, drop"):
        agreement([1.0], [2.0], "lenient")


def test_a_rate_of_nothing_is_undefined():
    found = rate([np.nan, np.nan], [0, 1])
    assert found.n == found.n_clusters == 0
    assert all(math.isnan(x) for x in (found.rate, found.ci_low, found.wilson_low))


def test_clusters_widen_the_interval():
    values = np.repeat([1.0, 0, 1, 1, 0, 1, 0, 0, 1, 1, 1, 0], 5)
    found = rate(values, np.repeat(np.arange(12), 5))
    assert found.ci_high - found.ci_low > 1.8 * (found.wilson_high - found.wilson_low)
    assert (found.n, found.n_clusters) == (60, 12)


def test_cross_counts_leave_undefined_out():
    assert cross_counts([0, 1, 1, UNDEFINED], [2, 0, 0, 1], 4, 3).tolist() == [[0, 0, 1], [2, 0, 0], [0] * 3, [0] * 3]


@pytest.mark.parametrize(
    ("cos_u", "cos_v", "theta"), [(-0.126172, 0.321776, 26.018791), (-0.013752, -0.044308, -1.751544)]
)
def test_angles_of_the_first_published_rows(cos_u, cos_v, theta):
    """The cosine to (1, -1) / sqrt 2 is the sine of the angle from the reference; vectors of any length."""
    theta_u, theta_v = np.degrees(np.arcsin([cos_u, cos_v]))
    turned = []
    for length, degrees in ((2.5, theta_u), (0.7, theta_v)):
        a = np.radians(225 + degrees)  # the reference points to 225 degrees
        turned.append(length * np.array([[np.cos(a), np.sin(a)]]))
    u, v = turned
    across = np.array([1, -1]) / np.sqrt(2)
    assert (u[0] @ across) / 2.5 == pytest.approx(cos_u, abs=1e-12)
    found = geometry(u, v)
    assert found.theta_u[0] == pytest.approx(theta_u)
    assert found.theta_v[0] == pytest.approx(theta_v)
    assert found.theta[0] == pytest.approx(theta, abs=1e-4)


def test_geometry_identities_and_no_pair_lost():
    rng = np.random.default_rng(0)
    before = rng.normal(size=(5000, 2)) * 3
    after = np.concatenate([2.3 * before[:2500], rng.normal(size=(2500, 2))])  # half exactly parallel
    after[4000:, 1] = after[4000:, 0]  # ties
    found = geometry(before, after)
    for angles in (found.theta_u, found.theta_v, found.theta):
        assert np.isfinite(angles).all()
        assert ((angles > -180) & (angles <= 180)).all()
    np.testing.assert_allclose(found.theta[:2500], 0, atol=1e-10)
    np.testing.assert_allclose(wrapped(found.theta_v - found.theta_u - found.theta), 0, rtol=0, atol=1e-9)
    prefers_chosen = (found.theta_u > 0) & (found.theta_u < 180)
    np.testing.assert_array_equal(prefers_chosen, before[:, 0] > before[:, 1])
    assert set(found.theta_v[4000:]) <= {0.0, 180.0}
    across = before @ np.array([1, -1]) / np.sqrt(2) / np.linalg.norm(before, axis=1)
    np.testing.assert_allclose(np.sin(np.radians(found.theta_u)), across, atol=1e-12)
    assert signed_angle([-1.0, -1.0], [[-3.0, -3.0]]).tolist() == [0.0]


def test_quadrants():
    vectors = [[1, 1], [-1, 2], [-2, 1], [3, -1], [0, 1], [np.nan, 1]]
    assert dict(zip(QUADRANTS, quadrant_shares(vectors), strict=True)) == {"++": 0.25, "-+": 0.5, "+-": 0.25, "--": 0}
    assert np.isnan(quadrant_shares(np.empty((0, 2)))).all()


def test_misalignment_leaves_ties_out_and_names_sides():
    rng = np.random.default_rng(0)
    chosen, rejected = rng.integers(0, 2, (2, 4000, 1)).astype(float)
    agrees = (rng.random(4000) < 0.5 + 0.3 * chosen[:, 0] - 0.3 * rejected[:, 0]).astype(float)
    agrees[:10] = np.nan
    agrees[10:20] = 0.5
    fit = misalignment_effects(agrees, chosen, rejected, ["refusal"], np.arange(4000) // 2)
    assert fit.names == ("refusal-chosen", "refusal-rejected")
    assert (fit.n, fit.n_clusters) == (3980, 1990)
    np.testing.assert_allclose(fit.beta, [-0.3, 0.3], atol=0.06)
