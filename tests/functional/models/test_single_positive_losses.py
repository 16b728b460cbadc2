"""Which losses recover planted multi-label truth from one positive a text, and what in it?

Each text holds several labels, of which one is observed, drawn evenly; the others are unknown. Let p be the chance that
a label is the one observed, q the chance that it holds, L the number of labels. Theory:

* Ranking. Where a model can represent it, the optimum of each loss is a rising function of p alone: s = p (assuming
  negative, softmax), eps + (1 - 2 eps) p (an-ls), odds (L-1) p/(1-p) (wan). So all rank alike, none better than
  assuming negative, and a decision "p above 1/L" is the same whichever loss it is made with.
* Level. Assuming negative gives s = p, L scores that sum to 1 however many labels hold. an-ls lifts them by eps, which
  is nearer to q where unlisted labels hold more often than that. wan puts 1/2 at p = 1/L: it is q itself where every
  label holds with chance 1/2, near it where about half of them hold, and too high where one label is all there is.
* A linear model cannot represent log p/(1-p). What it gains or loses in ranking is not derived, but measured below.
"""

import math
from dataclasses import dataclass

import numpy as np
import pytest
import torch
from scipy.special import expit, logit, softmax
from sklearn.metrics import average_precision_score

from models.chance import chance_thresholds
from models.losses import LossSettings, compute_loss

N_LABELS = 6
EPS = 0.1
LOSSES = {
    "assume-negative": ("an-ls", LossSettings(label_smoothing=0.0)),
    "an-ls": ("an-ls", LossSettings(label_smoothing=EPS)),
    "wan": ("wan", LossSettings()),
    "asl": ("asl", LossSettings(unknown_as_negative=True)),
    "softmax": ("softmax", LossSettings()),
}


@dataclass(frozen=True)
class Planted:
    """Texts of all seeds: features [seeds, n, d], chances q and labels [seeds, n, L]."""

    features: np.ndarray
    chances: np.ndarray
    labels: np.ndarray


def plant(rng, weights, bias, n):
    """Labels that hold independently, with chances whose logits are linear in the features; at least one each."""
    features = rng.normal(size=(len(weights), n, weights.shape[1]))
    chances = expit(np.einsum("snd,sdk->snk", features, weights) + bias)
    labels = rng.random(chances.shape) < chances
    while not (full := labels.any(axis=2)).all():
        labels[~full] = rng.random((int((~full).sum()), N_LABELS)) < chances[~full]
    # Given that one holds at least.
    chances = chances / (1 - np.prod(1 - chances, axis=2, keepdims=True))
    return Planted(features, chances, labels.astype(int))


def plant_single(rng, weights, n):
    """Texts that hold one label, with chances that are a softmax of a linear function."""
    features = rng.normal(size=(len(weights), n, weights.shape[1]))
    chances = softmax(np.einsum("snd,sdk->snk", features, weights), axis=2)
    drawn = (chances.cumsum(axis=2) > rng.random((*chances.shape[:2], 1))).argmax(axis=2)
    return Planted(features, chances, np.eye(N_LABELS, dtype=int)[drawn])


def observe(rng, labels):
    """Keep one positive of each text, drawn evenly, and leave everything else unknown."""
    kept = (rng.random(labels.shape) * labels).argmax(axis=-1)
    return np.where(np.eye(N_LABELS, dtype=bool)[kept], 1, -1)


def minimise(name, score, parameters, targets):
    """Minimise a loss of `score()` [.., L] by all parameters; seeds have parameters of their own."""
    loss_name, settings = LOSSES[name]
    optimizer = torch.optim.LBFGS(parameters, max_iter=150, history_size=20, line_search_fn="strong_wolfe")
    flat = torch.from_numpy(targets.reshape(-1, N_LABELS))

    def step():
        optimizer.zero_grad()
        # Times the number of texts: LBFGS stops at a gradient that is small as it stands.
        loss = len(flat) * compute_loss(loss_name, score().reshape(-1, N_LABELS), flat, torch.ones(N_LABELS), settings)
        loss.backward()
        return loss

    optimizer.step(step)


def trained_linear(name, train, targets, test):
    """Scores [seeds, n, L] that a linear model of each seed, trained on observed positives, gives to other texts."""
    x = torch.from_numpy(train.features).float()
    weights = torch.zeros(x.shape[0], x.shape[2], N_LABELS, requires_grad=True)
    bias = torch.zeros(x.shape[0], 1, N_LABELS, requires_grad=True)
    minimise(name, lambda: x @ weights + bias, [weights, bias], targets)
    logits = (torch.from_numpy(test.features).float() @ weights + bias).detach().double().numpy()
    return softmax(logits, axis=2) if name == "softmax" else expit(logits)


def trained_table(name, cells, targets, n_cells):
    """Scores [cells, L] of a model that has a logit for every cell and label."""
    table = torch.zeros(n_cells, N_LABELS, requires_grad=True)
    minimise(name, lambda: table[cells], [table], targets)
    logits = table.detach().double().numpy()
    return softmax(logits, axis=1) if name == "softmax" else expit(logits)


def mean_ap(labels, scores):
    """Mean AP over labels, by seed [seeds]."""
    return np.array(
        [
            np.mean([average_precision_score(labels[s, :, k], scores[s, :, k]) for k in range(N_LABELS)])
            for s in range(len(labels))
        ]
    )


def f1_at_half(labels, scores):
    """Macro F1 of the decision s > 1/2, by seed [seeds]."""
    on = scores > 0.5
    return (2 * (on & (labels == 1)).sum(axis=1) / (on.sum(axis=1) + labels.sum(axis=1))).mean(axis=1)


def brier(chances, scores):
    """Mean squared distance from the planted chances, by seed [seeds]."""
    return ((scores - chances) ** 2).mean(axis=(1, 2))


def mean_and_error(differences):
    """Mean of paired differences [seeds] and its Monte Carlo error."""
    return differences.mean(), differences.std(ddof=1) / math.sqrt(len(differences))


def clearly_above(first, second):
    """Whether the first is above the second by more than 4 Monte Carlo errors."""
    mean, error = mean_and_error(first - second)
    return mean > 4 * error


@pytest.fixture(scope="module")
def cells():
    """12 kinds of text with chances of their own, 240 texts each: which is which, and what is observed of each."""
    rng = np.random.default_rng(0)
    chances = np.repeat(rng.uniform(0.2, 0.9, size=(12, N_LABELS)), 240, axis=0)
    labels = rng.random(chances.shape) < chances
    labels[~labels.any(axis=1), 0] = True
    return np.repeat(np.arange(12), 240), observe(rng, labels), labels.astype(int)


@pytest.fixture(scope="module")
def tables(cells):
    return {name: trained_table(name, *cells[:2], 12) for name in LOSSES}


def counts_of(cells):
    which, targets, _ = cells
    return np.stack([(targets[which == cell] == 1).sum(axis=0) for cell in range(12)])


def test_a_model_that_can_tell_texts_apart_reaches_the_optimum_of_each_loss(cells, tables):
    p = counts_of(cells) / 240
    assert tables["assume-negative"] == pytest.approx(p, abs=2e-3)
    assert tables["softmax"] == pytest.approx(p, abs=2e-3)
    assert tables["an-ls"] == pytest.approx(EPS + (1 - 2 * EPS) * p, abs=2e-3)
    assert tables["wan"] == pytest.approx(expit(logit(p) + math.log(N_LABELS - 1)), abs=2e-3)


def test_no_loss_ranks_better_where_the_model_can_represent_all(cells, tables):
    """In theory and here: mean AP on full labels is the same number for all losses, softmax and WAN among them."""
    counts, (which, _, labels) = counts_of(cells), cells
    values = np.unique(counts)
    found = {}
    for name, table in tables.items():
        # Scores of equal counts are equal up to the end of the fit; steps between counts are far larger.
        level = np.array([table[counts == value].mean() for value in values])
        assert (np.diff(level) > 2e-4).all(), name
        nearest = np.abs(table[:, :, None] - level).argmin(axis=2)
        assert (values[nearest] == counts).all(), name
        found[name] = float(mean_ap(labels[None], nearest[which][None])[0])
    assert set(found.values()) == {found["assume-negative"]}
    assert found["wan"] > labels.mean() + 0.1


def test_decisions_above_chance_are_those_on_p_whatever_the_loss(cells, tables):
    counts = counts_of(cells)
    clear = counts != 240 / N_LABELS
    for name, (loss, settings) in LOSSES.items():
        on = tables[name] > chance_thresholds(loss, [1.0] * N_LABELS, settings)
        assert (on == (counts > 240 / N_LABELS))[clear].all(), name


@pytest.fixture(scope="module")
def linear():
    """16 seeds, 500 texts to train, 600 to test, 8 features; 2.7 of 6 labels hold in the mean."""
    rng = np.random.default_rng(1)
    weights = rng.normal(size=(16, 8, N_LABELS)) * 0.85
    train, test = plant(rng, weights, -0.4, 500), plant(rng, weights, -0.4, 600)
    targets = observe(rng, train.labels)
    return test, {name: trained_linear(name, train, targets, test) for name in LOSSES}


def test_where_several_labels_hold_single_positive_losses_come_nearer_to_how_likely_each_is(linear):
    """Theory says so of the level: L scores that sum to 1 are too low, and a decision at 1/2 finds next to nothing."""
    test, scores = linear
    assert test.labels.sum(axis=2).mean() == pytest.approx(2.7, abs=0.2)
    distance = {name: brier(test.chances, s) for name, s in scores.items()}
    for name in ("an-ls", "wan", "asl"):
        assert clearly_above(distance["assume-negative"], distance[name]), name
    assert clearly_above(distance["an-ls"], distance["wan"])
    sums = {name: s.sum(axis=2).mean() for name, s in scores.items()}
    assert sums["assume-negative"] == pytest.approx(1, abs=0.03)
    assert sums["an-ls"] == pytest.approx(N_LABELS * EPS + 1 - 2 * EPS, abs=0.03)
    assert sums["wan"] == pytest.approx(2.7, abs=0.4)
    f1 = {name: f1_at_half(test.labels, s) for name, s in scores.items()}
    assert f1["wan"].mean() > f1["assume-negative"].mean() + 0.3
    # Smoothing keeps 1/2 where it is: no more is found.
    assert not clearly_above(f1["an-ls"], f1["assume-negative"])


def test_mean_ap_of_a_linear_model_on_full_labels(linear):
    """Measured, not derived. WAN gains .01 over assuming negative; smoothing nothing; softmax is behind."""
    test, scores = linear
    ap = {name: mean_ap(test.labels, s) for name, s in scores.items()}
    assert clearly_above(ap["wan"], ap["assume-negative"])
    assert clearly_above(ap["wan"], ap["softmax"])
    mean, error = mean_and_error(ap["an-ls"] - ap["assume-negative"])
    assert abs(mean) + 4 * error < 0.005


def test_where_one_label_is_all_there_is_assuming_negative_is_right():
    """And what lifts the level does harm. A softmax is the likelihood then, and beats all others in ranking too."""
    rng = np.random.default_rng(2)
    weights = rng.normal(size=(16, 8, N_LABELS)) * 0.85
    train, test = plant_single(rng, weights, 500), plant_single(rng, weights, 600)
    targets = observe(rng, train.labels)
    scores = {name: trained_linear(name, train, targets, test) for name in LOSSES}
    distance = {name: brier(test.chances, s) for name, s in scores.items()}
    for name in ("an-ls", "wan", "asl"):
        assert clearly_above(distance[name], distance["assume-negative"]), name
    assert clearly_above(distance["assume-negative"], distance["softmax"])
    ap = {name: mean_ap(test.labels, s) for name, s in scores.items()}
    for name in ("assume-negative", "an-ls", "wan", "asl"):
        assert clearly_above(ap["softmax"], ap[name]), name
