"""Do temperatures calibrate, thresholds maximise F1, and single positives stay uncalibrated?"""

import json

import numpy as np
import pytest
from scipy.optimize import minimize
from scipy.special import expit, softmax
from sklearn.metrics import f1_score

from datamodules.errors import InputError
from models.calibration import Calibration, best_threshold, cross_fitted, fit_calibration


def overconfident(rng, n, temperatures, shift=-1.0):
    """Logits that are T times too large, with targets drawn from the right probabilities."""
    right = rng.normal(size=(n, len(temperatures))) * 1.5 + shift
    return right * np.array(temperatures), (rng.random(right.shape) < expit(right)).astype(int)


def fit(logits, targets, *, signed=False, softmax=False, labels=None, **options):
    labels = labels or tuple(f"v{k}" for k in range(np.shape(logits)[1]))
    return fit_calibration(logits, targets, labels, signed, softmax, **options)


def calibration(labels, thresholds, signed=False, **changes):
    fields = {"temperatures": (1.0,) * len(labels), "calibrated": True, "softmax": False}
    return Calibration(labels=tuple(labels), thresholds=tuple(thresholds), signed=signed, **(fields | changes))


def test_temperatures_are_recovered_per_label():
    logits, targets = overconfident(np.random.default_rng(0), 8000, [0.5, 1.0, 3.0])
    assert fit(logits, targets).temperatures == pytest.approx((0.5, 1.0, 3.0), rel=0.1)


def test_temperature_is_the_minimum_of_the_cross_entropy():
    logits, targets = overconfident(np.random.default_rng(1), 500, [2.0])
    z, y = logits[:, 0], targets[:, 0]

    def loss(x):
        return np.mean(np.logaddexp(0, z / np.exp(x[0])) - y * z / np.exp(x[0]))

    reference = np.exp(minimize(loss, [0.0], tol=1e-10).x[0])
    assert fit(logits, targets).temperatures[0] == pytest.approx(reference, rel=1e-3)


def test_rare_labels_share_a_temperature():
    rng = np.random.default_rng(2)
    logits, targets = overconfident(rng, 3000, [2.0, 2.0, 2.0])
    targets[:, 1][np.flatnonzero(targets[:, 1])[10:]] = -1  # ten known positives
    targets[:, 2] = np.where(targets[:, 2] == 1, -1, 0)  # none
    c = fit(logits, targets)
    assert c.temperatures[1] == c.temperatures[2] != c.temperatures[0]
    assert "shared temperature: v1, v2" in c.notes


def test_unknown_entries_do_not_matter():
    rng = np.random.default_rng(3)
    logits, targets = overconfident(rng, 600, [2.0, 1.0])
    targets[::3] = -1
    noisy = logits.copy()
    noisy[::3] = rng.normal(size=noisy[::3].shape) * 50
    assert fit(noisy, targets) == fit(logits, targets)


def test_softmax_head_has_one_temperature():
    rng = np.random.default_rng(4)
    right = rng.normal(size=(6000, 4)) * 2
    drawn = (softmax(right, axis=1).cumsum(axis=1) < rng.random((6000, 1))).sum(axis=1)
    c = fit(right * 2.5, np.where(np.eye(4)[drawn] == 1, 1, -1), softmax=True)
    assert c.temperatures == pytest.approx((2.5,) * 4, rel=0.1)
    assert c.probabilities(right).sum(axis=1) == pytest.approx(1)


def test_single_positives_are_uncalibrated_and_on_above_chance():
    rng = np.random.default_rng(5)
    logits = rng.normal(size=(200, 4))
    targets = np.full((200, 4), -1)
    targets[np.arange(200), rng.integers(0, 4, 200)] = 1
    wan, choice = fit(logits, targets), fit(logits, targets, softmax=True)
    assert not wan.calibrated
    assert not choice.calibrated
    assert (wan.thresholds, wan.temperatures) == ((0.5,) * 4, (1.0,) * 4)
    assert choice.thresholds == (0.25,) * 4
    assert "on when p is above 1/L (no known negatives): v0, v1, v2, v3" in wan.notes
    # WAN's optimum at p = 1/L is s = 1/2, with a positive weight w it is w / (1 + w).
    p, n_labels = 0.25, 4
    assert expit(np.log((n_labels - 1) * p / (1 - p))) == pytest.approx(wan.thresholds[0])
    weighted = fit(logits, targets, chance_thresholds=[0.75, 0.5, 0.5, 0.5])
    assert weighted.thresholds == (0.75, 0.5, 0.5, 0.5)


@pytest.mark.parametrize("n", [0, 3])
def test_nothing_known_fits_nothing(n):
    c = fit(np.zeros((n, 2)), np.full((n, 2), -1))
    assert (c.temperatures, c.thresholds, c.calibrated) == ((1.0, 1.0), (0.5, 0.5), False)


def test_no_positive_anywhere_is_uncalibrated():
    c = fit(np.zeros((10, 2)), np.zeros((10, 2), dtype=int), chance_thresholds=[0.5, 0.7])
    assert (c.calibrated, c.thresholds) == (False, (0.5, 0.7))
    assert c.notes[-1] == "threshold not tuned (no validation text carries any value): v0, v1"


@pytest.mark.parametrize("seed", range(4))
def test_threshold_is_the_best_of_all_cuts(seed):
    rng = np.random.default_rng(seed)
    p = np.round(rng.random(60), 1)  # many ties
    y = (rng.random(60) < p).astype(int)
    threshold = best_threshold(p, y)
    scores = [f1_score(y, p >= t, zero_division=0) for t in np.linspace(0, 1, 201)]
    assert f1_score(y, p >= threshold) == pytest.approx(max(scores))
    assert np.abs(p - threshold).min() > 0.04  # between two scores, not on one


def test_threshold_by_hand():
    p, y = np.array([0.9, 0.8, 0.6, 0.2]), np.array([1, 1, 0, 0])
    assert best_threshold(p, y) == pytest.approx(0.7)
    assert best_threshold(p, np.array([1, 1, -1, 0])) == pytest.approx(0.5)
    assert best_threshold(p, np.array([1, 1, 1, 1])) == pytest.approx(0.1)
    neighbours = np.array([np.nextafter(0.5, 1), 0.5])
    assert best_threshold(neighbours, np.array([1, 0])) == neighbours[0]
    with pytest.raises(ValueError, match="without positives"):
        best_threshold(p, np.array([0, 0, -1, 0]))


def test_labels_with_few_positives_take_the_shared_threshold():
    rng = np.random.default_rng(6)
    logits, targets = overconfident(rng, 400, [1.0, 1.0, 1.0])
    targets[:, 1][np.flatnonzero(targets[:, 1])[4:]] = 0  # four positives
    targets[:, 2] = 0
    c = fit(logits, targets)
    shared = best_threshold(c.probabilities(logits).ravel(), targets.ravel())
    assert c.thresholds[1] == c.thresholds[2] == shared
    assert c.thresholds[0] == best_threshold(c.probabilities(logits)[:, 0], targets[:, 0])
    assert c.calibrated
    assert "shared threshold (fewer than 5 positives): v1" in c.notes
    assert "shared threshold (no validation text carries it): v2" in c.notes


def test_a_label_that_all_texts_carry_is_on_for_all_of_them_and_told():
    logits, targets = overconfident(np.random.default_rng(6), 200, [1.0, 1.0])
    targets[:, 1] = 1
    c = fit(logits, targets)
    assert c.decide(c.probabilities(logits))[:, 1].all()
    assert c.calibrated
    assert "threshold below every score (all validation texts carry it): v1" in c.notes


def test_one_label_without_negatives_marks_the_whole_uncalibrated():
    logits, targets = overconfident(np.random.default_rng(7), 300, [1.0, 1.0])
    targets[:, 1] = np.where(targets[:, 1] == 1, 1, -1)
    c = fit(logits, targets)
    assert not c.calibrated
    assert c.thresholds[1] == 0.5
    assert c.notes[-1].endswith("v1")


def test_decisions_are_at_or_above_the_threshold():
    decided = calibration("ab", (0.5, 0.3)).decide([[0.5, 0.29], [0.49, 0.3]])
    assert decided.dtype == np.bool_
    assert decided.tolist() == [[True, False], [False, True]]


def test_of_a_signed_value_at_most_one_side_is_on_by_margin():
    c = calibration(("x-for", "y-against", "x-against", "y-for"), (0.2, 0.5, 0.6, 0.5), signed=True)
    p = np.array(
        [
            [0.5, 0.0, 0.8, 0.0],  # margins of x .3 and .2: for, though against is more probable
            [0.3, 0.0, 0.8, 0.0],  # .1 and .2: against
            [0.1, 0.7, 0.5, 0.6],  # x none; y .2 against, .1 for
            [0.1, 0.5, 0.5, 0.5],  # y 0 and 0: for
        ]
    )
    expected = [[1, 0, 0, 0], [0, 0, 1, 0], [0, 1, 0, 0], [0, 0, 0, 1]]
    assert c.decide(p).astype(int).tolist() == expected
    assert c.decide(np.stack([p, p], axis=1))[:, 1].astype(int).tolist() == expected  # [n, sides, L]


def test_signed_labels_must_pair():
    with pytest.raises(ValueError, match="pairs"):
        fit(np.zeros((3, 2)), np.zeros((3, 2), dtype=int), signed=True, labels=("x-for", "y-against"))


def test_json_round_trip_and_edit():
    logits, targets = overconfident(np.random.default_rng(8), 300, [1.0, 2.0])
    c = fit(logits, targets, signed=True, labels=("x-for", "x-against"))
    stored = json.loads(json.dumps(c.to_json(), allow_nan=False))
    assert Calibration.from_json(stored) == c
    stored["labels"]["x-for"]["threshold"] = 0.9
    assert Calibration.from_json(stored).thresholds[0] == 0.9


@pytest.mark.parametrize(
    ("damage", "found"),
    [
        (lambda d: d.pop("labels"), "no 'labels'"),
        (lambda d: d.update(labels={}), "with 0 labels"),
        (lambda d: d.update(labels=["x"]), "does not read as thresholds"),
        (lambda d: d["labels"]["a"].pop("temperature"), "no 'temperature'"),
        (lambda d: d["labels"]["a"].update(temperature=0), "temperature 0 of a in"),
        (lambda d: d["labels"]["a"].update(temperature=float("nan")), "temperature nan of a in"),
        (lambda d: d["labels"]["a"].update(temperature=float("inf")), "temperature inf of a in"),
        (lambda d: d["labels"]["b"].update(temperature="2"), "temperature '2' of b in"),
        (lambda d: d["labels"]["b"].update(temperature=10**400), r"temperature 1000+\.\.\.0+ of b in"),
        (lambda d: d["labels"]["b"].update(threshold=-(10**400)), r"threshold -100+\.\.\.0+ of b in"),
        (lambda d: d["labels"]["a"].update(threshold=float("nan")), "threshold nan of a in"),
        (lambda d: d["labels"]["a"].update(threshold=1.01), r"threshold 1\.01 of a in"),
        (lambda d: d["labels"]["b"].update(threshold=-0.01), r"threshold -0\.01 of b in"),
        (lambda d: d["labels"]["a"].update(threshold="high"), "threshold 'high' of a in"),
        (lambda d: d["labels"]["a"].update(threshold=True), "threshold True of a in"),
        (lambda d: d["labels"]["a"].update(threshold=None), "threshold None of a in"),
        (lambda d: d.update(calibrated="yes"), "'calibrated': 'yes'"),
        (lambda d: d.update(signed=True), r"marked signed \(signed labels must be pairs"),
        (lambda d: (d.update(softmax=True), d["labels"]["a"].update(temperature=2)), "different temperatures in"),
    ],
)
def test_damaged_json_is_told_with_its_source(damage, found):
    stored = calibration("ab", (0.5, 0.5)).to_json()
    damage(stored)
    with pytest.raises(InputError, match=rf"{found}.*--thresholds") as raised:
        Calibration.from_json(stored, "my.json")
    assert "my.json" in raised.value.found
    with pytest.raises(InputError):
        Calibration.from_json([stored])


def test_cross_fitting_never_scores_a_text_with_numbers_tuned_on_its_group():
    rng = np.random.default_rng(9)
    logits, targets = overconfident(rng, 400, [2.0, 1.0])
    groups = np.array([f"g{i // 4}" for i in range(400)])
    probabilities, decisions = cross_fitted(logits, targets, groups, ("a", "b"), False, False)
    for name in ("g0", "g31"):
        inside = groups == name
        other = targets.copy()
        other[inside] = 1 - other[inside]  # its own labels do not touch its own predictions
        p, d = cross_fitted(logits, other, groups, ("a", "b"), False, False)
        np.testing.assert_array_equal(p[inside], probabilities[inside])
        np.testing.assert_array_equal(d[inside], decisions[inside])
        assert not np.array_equal(p, probabilities)


def test_cross_fitting_does_not_depend_on_row_order_and_halves_are_balanced():
    rng = np.random.default_rng(10)
    logits, targets = overconfident(rng, 300, [2.0])
    groups, shuffle = rng.integers(0, 40, 300), rng.permutation(300)
    p, d = cross_fitted(logits, targets, groups, ("a",), False, False)
    p2, d2 = cross_fitted(logits[shuffle], targets[shuffle], groups[shuffle], ("a",), False, False)
    np.testing.assert_allclose(p2, p[shuffle], rtol=1e-6)
    np.testing.assert_array_equal(d2, d[shuffle])
    temperature = np.round(logits[:, 0] / np.log(p[:, 0] / (1 - p[:, 0])), 6)
    _, sizes = np.unique(temperature, return_counts=True)
    assert len(sizes) == 2
    assert abs(sizes[0] - sizes[1]) <= 10


def test_cross_fitting_one_group_stays_uncalibrated():
    logits, targets = overconfident(np.random.default_rng(11), 100, [3.0])
    p, d = cross_fitted(logits, targets, np.zeros(100), ("a",), False, False)
    np.testing.assert_allclose(p, expit(logits))
    np.testing.assert_array_equal(d, p >= 0.5)


def test_tuning_where_one_scores_flatters():
    """On pure noise a tuned threshold beats its cross-fitted twin: the reason for cross-fitting."""
    gaps = []
    for seed in range(20):
        rng = np.random.default_rng(seed)
        logits, targets = rng.normal(size=(80, 5)), (rng.random((80, 5)) < 0.15).astype(int)
        labels = tuple("abcde")
        c = fit_calibration(logits, targets, labels, False, False)
        tuned = c.decide(c.probabilities(logits))
        crossed = cross_fitted(logits, targets, np.arange(80), labels, False, False)[1]
        gaps.append(
            f1_score(targets, tuned, average="macro") - f1_score(targets, crossed, average="macro", zero_division=0)
        )
    assert np.mean(gaps) > 0.02


def test_nan_logits_are_refused():
    with pytest.raises(ValueError, match="NaN"):
        fit(np.array([[np.nan, 0.0]]), np.array([[1, 0]]))


def test_a_temperature_at_the_end_of_its_range_is_noted():
    rng = np.random.default_rng(0)
    targets = np.tile([[1], [0]], (100, 1))
    logits = 50 * rng.normal(size=(200, 1))  # loud and unrelated: only an endless temperature would help
    assert any(
        note.startswith("temperature at the end")
        for note in fit_calibration(logits, targets, ["a"], False, False).notes
    )
    quiet = rng.normal(size=(200, 1)) + targets
    assert not any(
        note.startswith("temperature") for note in fit_calibration(quiet, targets, ["a"], False, False).notes
    )
