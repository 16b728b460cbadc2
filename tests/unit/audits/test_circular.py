"""Do angles turn the right way, and do their summaries respect the circle?"""

import math

import numpy as np
import pytest
from scipy import stats

from audits.stats.circular import circular_median, circular_summary, rayleigh_p, signed_angle, wrapped


@pytest.mark.parametrize(
    ("a", "b", "degrees"),
    [
        ([1, 0], [0, 1], 90),
        ([0, 1], [1, 0], -90),
        ([1, 0], [-1, 0], 180),
        ([-1, 0], [1, 0], 180),
        ([1, 0], [-1, -0.0], 180),  # never -180
        ([2, 2], [3, 3], 0),
        ([1, 0], [-1, -1], -135),
        ([1, 0], [np.cos(np.radians(350)), np.sin(np.radians(350))], -10),
    ],
)
def test_signed_angles(a, b, degrees):
    assert signed_angle(a, b) == pytest.approx(degrees, abs=1e-12)


def test_parallel_vectors_have_an_angle():
    vectors = np.random.default_rng(0).normal(size=(20_000, 2))
    scale = np.random.default_rng(1).lognormal(size=(20_000, 1))
    # The published arccos of an unclipped cosine is NaN for many of them.
    assert np.abs(signed_angle(vectors, scale * vectors)).max() < 1e-10
    assert np.abs(signed_angle(vectors, -scale * vectors)).min() > 180 - 1e-10
    tied = np.repeat(vectors[:, :1], 2, axis=1)
    assert set(signed_angle([-1.0, -1.0], tied)) == {0.0, 180.0}


def test_a_vector_without_direction_has_no_angle():
    angles = signed_angle([[1, 0], [0, 0], [1, np.nan], [1, 1]], [[0, 0], [1, 0], [1, 0], [np.inf, 1]])
    assert np.isnan(angles).all()


def test_angles_add_up_to_the_turn():
    rng = np.random.default_rng(2)
    e, u, v = rng.normal(size=(3, 500, 2))
    np.testing.assert_allclose(wrapped(signed_angle(e, v) - signed_angle(e, u)), signed_angle(u, v), rtol=0, atol=1e-10)


def test_wrapped():
    assert wrapped([0, 180, -180, 181, 540, -190, 720.5]).tolist() == [0, 180, 180, -179, 180, 170, 0.5]


def test_mean_across_the_seam_and_resultant():
    summary = circular_summary([170, -170, np.nan])
    assert summary.n == 2
    assert summary.mean == pytest.approx(180)
    assert summary.median == pytest.approx(180)
    assert summary.resultant == pytest.approx(math.cos(math.radians(10)))
    angles = np.random.default_rng(0).vonmises(1, 2, 300)
    ours = circular_summary(np.degrees(angles))
    assert ours.mean == pytest.approx(np.degrees(stats.circmean(angles, low=-np.pi, high=np.pi)))
    assert ours.resultant == pytest.approx(1 - stats.circvar(angles))


def test_directions_that_cancel_have_no_mean():
    summary = circular_summary([0, 90, 180, -90])
    assert math.isnan(summary.mean)
    assert math.isnan(summary.median)
    assert summary.resultant == pytest.approx(0, abs=1e-12)
    assert summary.rayleigh_p == 1
    empty = circular_summary([np.nan])
    assert empty.n == 0
    assert all(math.isnan(x) for x in (empty.mean, empty.median, empty.resultant, empty.rayleigh_p))
    one = circular_summary([40.0])
    assert (one.mean, one.median, one.resultant) == (pytest.approx(40), 40, pytest.approx(1))


def test_rayleigh_of_a_textbook_example():
    # Zar, Biostatistical Analysis: eight trees; R = 6.6015, z = 5.448, .001 < p < .002
    summary = circular_summary([45, 55, 81, 96, 110, 117, 132, 154])
    assert summary.mean == pytest.approx(99, abs=0.6)
    assert summary.resultant == pytest.approx(0.82522, abs=2e-5)
    assert 0.001 < summary.rayleigh_p < 0.002


def test_rayleigh_keeps_its_level():
    rng = np.random.default_rng(4)
    centres = np.abs(np.exp(1j * rng.uniform(0, 2 * np.pi, (4000, 25))).mean(axis=1))
    p = np.array([rayleigh_p(r, 25) for r in centres])
    # Three standard errors of .05 over 4,000 samples are .010.
    assert 0.04 < np.mean(p < 0.05) < 0.06
    assert 0.27 < np.mean(p < 0.30) < 0.33


def brute_median(angles):
    """Search the circle in steps of a hundredth of a degree."""
    grid = np.arange(-18_000, 18_000) / 100
    costs = np.abs(wrapped(angles[None, :] - grid[:, None])).sum(axis=1)
    return grid[np.isclose(costs, costs.min(), rtol=0, atol=1e-6)]


@pytest.mark.parametrize("seed", range(6))
def test_median_minimises_the_arcs(seed):
    rng = np.random.default_rng(seed)
    angles = np.round(np.degrees(rng.vonmises(rng.uniform(-3, 3), 0.7, 30 + seed)), 1)
    best = brute_median(angles)
    gap = np.ptp(best) if np.ptp(best) < 180 else 0
    assert np.abs(wrapped(best - circular_median(angles))).min() <= gap / 2 + 0.011
    # Turning all angles turns the median.
    turned = circular_median(wrapped(angles + 123.4))
    assert wrapped(turned - circular_median(angles)) == pytest.approx(123.4)


def test_median_of_an_even_number_is_the_middle_and_repeats_weigh():
    assert circular_median([10, 20, 40, 300]) == pytest.approx(15)
    assert circular_median([-175, 175]) == pytest.approx(180)
    assert circular_median([0, 0, 0, 90]) == 0
    assert math.isnan(circular_median([0, 180]))
    assert math.isnan(circular_median([]))
