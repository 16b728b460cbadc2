"""Is the chance threshold the score at the optimum of each loss where p = 1/L?"""

import math

import numpy as np
import pytest
import torch
from scipy.special import expit, logit

from datamodules.taxonomy import load_taxonomy
from datamodules.views import ViewRequest
from models.calibration import fit_calibration
from models.chance import chance_thresholds
from models.classifier import ValueClassifier
from models.encoder import load_pretrained
from models.losses import LossSettings, compute_loss

N_LABELS = 4
CASES = [
    ("bce", LossSettings()),
    ("wan", LossSettings()),
    ("softmax", LossSettings()),
    ("an-ls", LossSettings()),
    ("an-ls", LossSettings(label_smoothing=0.3)),
    ("asl", LossSettings(unknown_as_negative=True)),
    ("asl", LossSettings(asl_gamma_positive=1.0, asl_gamma_negative=2.0, asl_margin=0.0, unknown_as_negative=True)),
    ("asl", LossSettings(asl_gamma_positive=0.5, asl_gamma_negative=0.5, asl_margin=0.2, unknown_as_negative=True)),
]
WEIGHTS = [2.0, 0.5, 4.0, 1.0]


def written(counts, loss):
    """Single positives in which label k is written down counts[k] times; the others unknown, or known under bce."""
    listed = torch.repeat_interleave(torch.arange(N_LABELS), torch.tensor(counts))
    targets = torch.full((len(listed), N_LABELS), 0 if loss == "bce" else -1)
    targets[torch.arange(len(listed)), listed] = 1
    return targets


def slope(loss, settings, weights, scores, counts):
    """Gradient of the loss by the logits of all labels, for texts that are all alike."""
    with np.errstate(divide="ignore"):
        logits = np.log(scores) if loss == "softmax" else logit(scores)
    leaf = torch.tensor(logits, dtype=torch.float32, requires_grad=True)
    targets = written(counts, loss)
    compute_loss(loss, leaf.expand(len(targets), N_LABELS), targets, torch.tensor(weights), settings).backward()
    assert leaf.grad is not None
    return leaf.grad.numpy()


@pytest.mark.parametrize(("loss", "settings"), CASES)
@pytest.mark.parametrize("weights", [[1.0] * 4, WEIGHTS])
def test_the_loss_is_at_its_optimum_where_p_is_chance(loss, settings, weights):
    thresholds = chance_thresholds(loss, weights, settings)
    assert slope(loss, settings, weights, thresholds, [25] * 4) == pytest.approx([0.0] * 4, abs=1e-6)


@pytest.mark.parametrize(("loss", "settings"), CASES)
def test_the_score_is_drawn_above_it_where_p_is_above_chance(loss, settings):
    thresholds = chance_thresholds(loss, [1.0] * 4, settings)
    drawn = -slope(loss, settings, [1.0] * 4, thresholds, [30, 20, 26, 24])
    assert (np.sign(drawn) == [1, -1, 1, -1]).all()


def test_numbers():
    assert chance_thresholds("bce", [1.0] * 5, LossSettings()) == pytest.approx([0.2] * 5)
    assert chance_thresholds("wan", [1.0, 3.0], LossSettings()) == pytest.approx([0.5, 0.75])
    assert chance_thresholds("softmax", [1.0, 3.0], LossSettings()) == pytest.approx([0.25, 0.75])
    # .1 + .8 * 1/5, .1 + .8 * 4/8
    found = chance_thresholds("an-ls", [1.0, 4.0, 1.0, 1.0, 1.0], LossSettings())
    assert found == pytest.approx([0.26, 0.5, 0.26, 0.26, 0.26])
    plain = LossSettings(asl_gamma_negative=0.0, asl_margin=0.0)
    assert chance_thresholds("asl", [1.0] * 5, plain) == pytest.approx([0.2] * 5)
    # 6 (4 u^3 (-ln(1 - u)) + u^4 / (1 - u)) = 1 / s at s = .511042, u = s - .05
    assert chance_thresholds("asl", [1.0] * 7, LossSettings()) == pytest.approx([0.511042] * 7, abs=1e-6)


@pytest.mark.parametrize("loss", ["bce", "an-ls", "asl"])
def test_one_label_has_no_chance_to_be_above(loss):
    assert math.isnan(chance_thresholds(loss, [1.0], LossSettings())[0])


def test_asl_has_no_such_score_where_weights_send_every_score_to_one():
    settings = LossSettings(unknown_as_negative=True)
    weights = [200.0, 1.0, 1.0, 1.0]
    thresholds = chance_thresholds("asl", weights, settings)
    assert math.isnan(thresholds[0])
    assert all(map(math.isfinite, thresholds[1:]))
    # The last below 1 - 1e-6: float32 has hardly more.
    for score in (0.01, 0.5, 0.9, 0.99, 0.9999, 0.999999):
        assert slope("asl", settings, weights, [score] * 4, [25] * 4)[0] < 0


def test_asl_has_no_such_score_where_the_margin_holds_scores_of_chance():
    settings = LossSettings(asl_gamma_negative=0.0, asl_margin=0.5, unknown_as_negative=True)
    assert np.isnan(chance_thresholds("asl", [1.0] * 4, settings)).all()
    for counts in ([25] * 4, [30, 20, 26, 24], [20, 30, 24, 26]):
        below, above = (slope("asl", settings, [1.0] * 4, [score] * 4, counts)[0] for score in (0.4999, 0.5001))
        assert below < 0 < above


def single_positives(n, n_labels):
    targets = np.full((n, n_labels), -1)
    targets[np.arange(n), np.arange(n) % n_labels] = 1
    return targets


def test_where_there_is_no_such_score_the_thresholds_say_so():
    logits = np.random.default_rng(0).normal(size=(40, 3))
    chance = [math.nan, 0.6, 0.7]
    found = fit_calibration(logits, single_positives(40, 3), ("a", "b", "c"), False, False, chance_thresholds=chance)
    assert not found.calibrated
    assert found.thresholds == (0.5, pytest.approx(0.6), pytest.approx(0.7))
    assert "on when p is above 1/L (no known negatives): b, c" in found.notes
    assert "on from 1/2, which is no score of p = 1/L: the loss has none: a" in found.notes


def test_chance_thresholds_follow_the_temperature():
    """A label without known negatives takes the temperature that the others share, and so does its threshold."""
    rng = np.random.default_rng(1)
    right = rng.normal(size=(400, 3)) * 1.5
    targets = (rng.random(right.shape) < expit(right)).astype(int)
    targets[targets[:, 0] == 0, 0] = -1
    found = fit_calibration(3 * right, targets, ("a", "b", "c"), False, False, chance_thresholds=[0.8, 0.5, 0.5])
    assert found.temperatures[0] > 2
    on = found.decide(found.probabilities(3 * right))[:, 0]
    assert (on == (expit(3 * right[:, 0]) >= 0.8)).all()
    assert not found.calibrated


def test_a_classifier_has_those_of_its_loss_and_weights(tiny_encoder):
    encoder, taxonomy = load_pretrained(str(tiny_encoder)), load_taxonomy("value-imprint")
    weights = [2.0, 1.0, 1.0, 1.0, 1.0, 1.0, 3.0]
    for loss, settings in (("bce", None), ("an-ls", {"label_smoothing": 0.2}), ("asl", {"asl_margin": 0.1})):
        model = ValueClassifier.from_pretrained(
            encoder,
            taxonomy,
            ViewRequest("dialogue", "head", 48),
            loss=loss,
            class_weights=weights,
            loss_settings=settings,
        )
        assert model.chance_thresholds == chance_thresholds(loss, weights, LossSettings(**(settings or {})))
        assert model.hparams["loss_settings"] == settings
