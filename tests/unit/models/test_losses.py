import math
from dataclasses import replace

import pytest
import torch

from datamodules.errors import InputError
from models.class_weights import class_weights
from models.losses import (
    LOSSES,
    LossSettings,
    assume_negative_smoothed,
    asymmetric,
    compute_loss,
    masked_bce,
    softmax_cross_entropy,
    weak_assume_negative,
)

ONES = torch.ones(3)


def log_sigmoid(x):
    return -math.log1p(math.exp(-x))


def test_bce_by_hand_leaves_unknown_out():
    logits = torch.tensor([[1.0, -2.0, 0.5], [0.0, 3.0, -1.0]])
    targets = torch.tensor([[1, 0, -1], [-1, 1, 0]])
    expected = -(log_sigmoid(1) + log_sigmoid(2) + log_sigmoid(3) + log_sigmoid(1)) / 4
    assert masked_bce(logits, targets, ONES).item() == pytest.approx(expected, abs=1e-6)


def test_bce_with_all_known_is_torch_bce():
    logits, targets = torch.randn(5, 3), torch.randint(0, 2, (5, 3))
    weights = torch.tensor([1.0, 4.0, 0.5])
    reference = torch.nn.functional.binary_cross_entropy_with_logits(logits, targets.float(), pos_weight=weights)
    torch.testing.assert_close(masked_bce(logits, targets, weights), reference)


def test_bce_without_any_known_label_is_zero_with_zero_gradient():
    logits = torch.randn(2, 3, requires_grad=True)
    masked_bce(logits, torch.full((2, 3), -1), ONES).backward()
    assert logits.grad is not None
    assert not logits.grad.any()


def test_wan_by_hand():
    logits = torch.tensor([[1.0, -2.0, 0.5], [0.0, 3.0, -1.0]])
    targets = torch.tensor([[1, -1, -1], [-1, 1, 0]])
    first = -(log_sigmoid(1) + (log_sigmoid(2) + log_sigmoid(-0.5)) / 2)
    second = -(log_sigmoid(3) + log_sigmoid(0) / 2 + log_sigmoid(1))
    assert weak_assume_negative(logits, targets, ONES).item() == pytest.approx((first + second) / 2, abs=1e-6)


def test_the_optimum_of_wan_is_at_the_odds_times_labels_less_one():
    # One item type whose written label is label 0 with chance .4, label 1 with .35, label 2 with .25.
    shares = torch.tensor([0.4, 0.35, 0.25], dtype=torch.float64)
    n = 400
    targets = torch.full((n, 3), -1)
    written = torch.repeat_interleave(torch.arange(3), (shares * n).long())
    targets[torch.arange(n), written] = 1
    logits = torch.zeros(3, requires_grad=True)
    optimizer = torch.optim.LBFGS([logits], max_iter=100, line_search_fn="strong_wolfe")

    def step():
        optimizer.zero_grad()
        loss = weak_assume_negative(logits.expand(n, 3), targets, ONES)
        loss.backward()
        return loss

    optimizer.step(step)
    expected = torch.log(2 * shares / (1 - shares)).float()
    torch.testing.assert_close(logits.detach(), expected, atol=1e-4, rtol=0)


def test_softmax_is_torch_cross_entropy_on_single_positives():
    logits = torch.randn(6, 3)
    classes = torch.tensor([0, 1, 2, 1, 1, 0])
    targets = torch.full((6, 3), -1)
    targets[torch.arange(6), classes] = 1
    weights = torch.tensor([1.0, 0.5, 3.0])
    reference = torch.nn.functional.cross_entropy(logits, classes, weight=weights)
    torch.testing.assert_close(softmax_cross_entropy(logits, targets, weights), reference)


def test_softmax_spreads_over_several_positives_and_leaves_items_without_out():
    logits = torch.tensor([[2.0, 0.0, 1.0], [5.0, 5.0, 5.0]])
    targets = torch.tensor([[1, 1, 0], [0, 0, 0]])
    log_p = torch.log_softmax(logits[0], dim=0)
    assert softmax_cross_entropy(logits, targets, ONES).item() == pytest.approx(-(log_p[0] + log_p[1]).item() / 2)


# Two texts, three labels, all five losses: worked out on paper with ln(1 + e^-x) = .313262, .126928, .048587 at x = 1,
# 2, 3, and .693147 at 0.
LOGITS = torch.tensor([[1.0, -2.0, 0.5], [0.0, 3.0, -1.0]])
PARTLY = torch.tensor([[1, -1, -1], [-1, 1, 0]])
WEIGHTS = torch.tensor([2.0, 0.5, 4.0])
FOCUSED = LossSettings(asl_gamma_positive=1.0, asl_gamma_negative=2.0, asl_margin=0.2)
FOCUSED_ON_ALL = replace(FOCUSED, unknown_as_negative=True)


@pytest.mark.parametrize(
    ("name", "settings", "plain", "weighted"),
    [
        # (.313262 + .048587 + .313262) / 3 known; weights 2 and .5 on the two positives
        ("bce", LossSettings(), 0.225037, 0.321360),
        # ((.313262 + (.126928 + .974077) / 2) + (.048587 + .693147 / 2 + .313262)) / 2
        ("wan", LossSettings(), 0.786093, 0.930577),
        # .413262, .326928, .924077, .693147, .348587, .413262 over 6: every term is .1 of one side, .9 of the other
        ("an-ls", LossSettings(), 0.519877, 0.559705),
        # 1 - s = .268941, .047426 times -log s; the known negative has s - .2 = .068941: .068941^2 * .071433; over 3
        ("asl", FOCUSED, 0.028964, 0.056663),
        # unknown: nothing at s = .119203, .422459^2 * .548976 at .622459, .3^2 * .356675 at .5; over 6
        ("asl", FOCUSED_ON_ALL, 0.036162, 0.050011),
        # log sum exp - 1 = .504597 and log sum exp - 3 = .065884; weighted mean with 2 and .5
        ("softmax", LossSettings(), 0.285240, 0.416854),
    ],
)
def test_two_texts_by_hand(name, settings, plain, weighted):
    assert compute_loss(name, LOGITS, PARTLY, ONES, settings).item() == pytest.approx(plain, abs=1e-6)
    assert compute_loss(name, LOGITS, PARTLY, WEIGHTS, settings).item() == pytest.approx(weighted, abs=1e-6)


def test_without_smoothing_unknown_is_negative():
    logits, targets = torch.randn(7, 3), torch.randint(-1, 2, (7, 3))
    negative = targets.clamp(min=0)
    found = assume_negative_smoothed(logits, targets, WEIGHTS, label_smoothing=0.0)
    torch.testing.assert_close(found, masked_bce(logits, negative, WEIGHTS))


def test_smoothing_on_known_labels_is_torch_bce_with_smoothed_targets():
    logits, targets = torch.randn(7, 3), torch.randint(0, 2, (7, 3))
    smoothed = targets * 0.7 + 0.15
    reference = torch.nn.functional.binary_cross_entropy_with_logits(logits, smoothed)
    torch.testing.assert_close(assume_negative_smoothed(logits, targets, ONES, 0.15), reference)


@pytest.mark.parametrize("size", [1.0, 80.0])
def test_asl_without_focus_and_margin_is_bce(size):
    settings = LossSettings(asl_gamma_positive=0.0, asl_gamma_negative=0.0, asl_margin=0.0)
    targets = torch.randint(-1, 2, (7, 3))
    gradients = []
    for loss in (lambda x: asymmetric(x, targets, WEIGHTS, settings), lambda x: masked_bce(x, targets, WEIGHTS)):
        logits = size * torch.randn(7, 3, generator=torch.Generator().manual_seed(0)).requires_grad_()
        value = loss(logits)
        gradients.append((value, *torch.autograd.grad(value, logits)))
    torch.testing.assert_close(gradients[0], gradients[1])


def test_asl_counts_unknown_as_negative_only_where_it_is_told_to():
    logits, targets = torch.randn(7, 3), torch.randint(-1, 2, (7, 3))
    told = LossSettings(unknown_as_negative=True)
    negative = asymmetric(logits, targets.clamp(min=0), WEIGHTS, LossSettings())
    torch.testing.assert_close(asymmetric(logits, targets, WEIGHTS, told), negative)
    known = torch.where(targets == -1, torch.nan, logits)
    parts = [
        asymmetric(known[i : i + 1, k : k + 1], targets[i : i + 1, k : k + 1], WEIGHTS[k], LossSettings())
        for i in range(7)
        for k in range(3)
        if targets[i, k] != -1
    ]
    torch.testing.assert_close(asymmetric(logits, targets, WEIGHTS, LossSettings()), torch.stack(parts).mean())


def test_asl_gradient_is_that_of_its_formula():
    """Not the one of the released code, which takes the focusing factor for a constant."""
    logits = torch.linspace(-6, 6, 25, dtype=torch.float64)
    settings = LossSettings(asl_gamma_positive=1.5, asl_gamma_negative=3.0, asl_margin=0.1)
    for target in (0, 1):
        leaf = logits.clone().requires_grad_()
        loss = asymmetric(leaf[:, None], torch.full((25, 1), target), torch.ones(1), settings)
        (gradient,) = torch.autograd.grad(25 * loss, leaf)
        s = torch.sigmoid(logits)
        shifted = (s - 0.1).clamp(min=0)
        slope = (
            1.5 * (1 - s) ** 0.5 * s.log() - (1 - s) ** 1.5 / s
            if target
            else -3 * shifted**2 * (1 - shifted).log() + shifted**3 / (1 - shifted)
        )
        torch.testing.assert_close(gradient, slope * s * (1 - s), atol=1e-6, rtol=1e-5)


def test_a_negative_within_the_margin_costs_nothing():
    for gamma in (0.0, 0.5, 4.0):
        settings = LossSettings(asl_gamma_negative=gamma, asl_margin=0.2)
        logits = torch.tensor([[-80.0, -3.0, -1.4]], requires_grad=True)
        loss = asymmetric(logits, torch.zeros(1, 3, dtype=torch.int64), ONES, settings)
        loss.backward()
        assert loss.item() == 0
        assert logits.grad is not None
        assert logits.grad.tolist() == [[0.0, 0.0, 0.0]]


def test_wan_with_all_known_is_weighted_bce():
    logits, targets = torch.randn(5, 3), torch.randint(0, 2, (5, 3))
    torch.testing.assert_close(weak_assume_negative(logits, targets, WEIGHTS), 3 * masked_bce(logits, targets, WEIGHTS))


EVERY = [
    *((name, LossSettings()) for name in LOSSES),
    ("an-ls", LossSettings(label_smoothing=0.0)),
    ("asl", FOCUSED_ON_ALL),
    ("asl", LossSettings(asl_gamma_negative=0.5, asl_margin=0.0, unknown_as_negative=True)),
    ("asl", LossSettings(asl_gamma_positive=0.5, asl_gamma_negative=0.0, unknown_as_negative=True)),
]


@pytest.mark.parametrize(("name", "settings"), EVERY)
@pytest.mark.parametrize("size", [80.0, -80.0, 200.0, -200.0])
def test_gradients_are_finite_at_large_logits(name, settings, size):
    targets = torch.tensor([[1, -1, -1], [-1, 1, -1], [0, -1, 1], [-1, -1, 1]])
    signs = torch.tensor([[1.0, 1, 1], [1, 1, 1], [1, -1, 1], [-1, 1, -1]])
    logits = (size * signs).requires_grad_()
    loss = compute_loss(name, logits, targets, ONES, settings)
    loss.backward()
    assert torch.isfinite(loss)
    assert logits.grad is not None
    assert torch.isfinite(logits.grad).all()


@pytest.mark.parametrize(("name", "settings"), EVERY)
def test_a_wrong_score_is_pulled_back_from_far_away(name, settings):
    # Formulas on clamped probabilities have no gradient there.
    logits = torch.tensor([[-80.0, 0.0, 80.0]], requires_grad=True)
    compute_loss(name, logits, torch.tensor([[1, 0, 0]]), ONES, settings).backward()
    assert logits.grad is not None
    assert logits.grad[0, 0] < 0
    # With a margin the slope of 1 - s_m is all but flat next to s = 1, in the formula too.
    assert logits.grad[0, 2] > 0 or (name == "asl" and settings.asl_margin > 0)


@pytest.mark.parametrize(("name", "settings"), EVERY)
def test_the_grad_mode_stays(name, settings):
    """ASL's released code turns gradients on for good."""
    logits = torch.randn(2, 3, requires_grad=True)
    assert compute_loss(name, logits, PARTLY, ONES, settings).requires_grad
    assert torch.is_grad_enabled()
    with torch.no_grad():
        loss = compute_loss(name, logits, PARTLY, ONES, settings)
        assert not torch.is_grad_enabled()
        assert not loss.requires_grad
    with torch.inference_mode():
        loss = compute_loss(name, logits, PARTLY, ONES, settings)
        assert torch.is_inference_mode_enabled()
        assert not torch.is_grad_enabled()
        assert loss.is_inference()
    assert torch.is_grad_enabled()
    assert not torch.is_inference_mode_enabled()


@pytest.mark.parametrize(("name", "settings"), EVERY)
def test_autocast_does_not_round(name, settings):
    logits = torch.tensor([[1.25, -2.5, 0.5], [0.0, 3.0, -1.0]])
    exact = compute_loss(name, logits, PARTLY, WEIGHTS, settings)
    with torch.autocast("cpu", torch.bfloat16):
        rounded = compute_loss(name, logits.bfloat16(), PARTLY, WEIGHTS, settings)
    assert rounded.dtype == torch.float32
    assert rounded.item() == exact.item()


@pytest.mark.parametrize(
    ("name", "changes"),
    [
        ("an-ls", {"label_smoothing": 0.2}),
        ("asl", {"asl_gamma_positive": 1.0}),
        ("asl", {"asl_gamma_negative": 2.0}),
        ("asl", {"asl_margin": 0.1}),
        ("asl", {"unknown_as_negative": True}),
    ],
)
def test_every_setting_acts_and_on_its_own_loss_only(name, changes):
    for other in LOSSES:
        default = compute_loss(other, LOGITS, PARTLY, ONES)
        changed = compute_loss(other, LOGITS, PARTLY, ONES, replace(LossSettings(), **changes))
        assert (default.item() != changed.item()) == (other == name)


def test_an_unknown_loss_is_told():
    with pytest.raises(
        InputError, match=r"loss 'focal'; needed one of bce, wan, an-ls, asl, softmax; fix: --model\.loss"
    ):
        compute_loss("focal", torch.zeros(1, 3), torch.zeros(1, 3), ONES)


@pytest.mark.parametrize("name", LOSSES)
@pytest.mark.parametrize("mode", ["sqrt", "inverse", "effective"])
def test_class_weights_act_on_the_gradient(name, mode):
    # Asked for and built, but never passed on, as in the released Value Imprint notebooks.
    targets = torch.tensor([[1, 0, 0], [1, 0, 0], [1, 1, 0], [1, -1, 0], [0, 0, 0]])
    gradients = []
    for weights in (ONES, class_weights(mode, targets, name)):
        logits = torch.zeros(5, 3, requires_grad=True)
        compute_loss(name, logits, targets, weights).backward()
        assert logits.grad is not None
        gradients.append(logits.grad)
    assert not torch.allclose(gradients[0], gradients[1])
