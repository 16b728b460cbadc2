import math

import pytest
import torch

from datamodules.errors import InputError
from models.class_weights import class_weights
from models.losses import LOSSES

ONES = torch.ones(3)
# 4, 1 and no positives in 5 texts
TARGETS = torch.tensor([[1, 0, 0], [1, 0, 0], [1, 1, 0], [1, -1, 0], [0, 0, 0]])


def test_class_weights_by_hand():
    torch.testing.assert_close(class_weights("inverse", TARGETS, "bce"), torch.tensor([1 / 4, 4.0, 1.0]))
    torch.testing.assert_close(class_weights("sqrt", TARGETS, "bce"), torch.tensor([0.5, 2.0, 1.0]))
    torch.testing.assert_close(class_weights("inverse", TARGETS, "softmax"), torch.tensor([2.5 / 4, 2.5, 1.0]))
    for loss in LOSSES:
        torch.testing.assert_close(class_weights("none", TARGETS, loss), ONES)
    with pytest.raises(InputError, match="class_weights 'balanced'; needed one of none, sqrt, inverse, effective"):
        class_weights("balanced", TARGETS, "bce")


@pytest.mark.parametrize("loss", LOSSES)
def test_effective_numbers_by_hand(loss):
    # beta = .5: effective numbers 1.875 and 1, so 1/E = .533333 and 1, with mean .766667
    found = class_weights("effective", TARGETS, loss, effective_beta=0.5)
    torch.testing.assert_close(found, torch.tensor([0.695652, 1.304348, 1.0]))


def test_effective_weights_have_mean_one_over_labels_with_positives():
    targets = (
        torch.rand(400, 6, generator=torch.Generator().manual_seed(0)) < torch.tensor([0.5, 0.2, 0.05, 0.01, 0.9, 0.0])
    ).long()
    weights = class_weights("effective", targets, "wan")
    assert weights.dtype == torch.float32
    assert weights[:5].mean().item() == pytest.approx(1)
    assert weights[5] == 1
    positives = targets.sum(dim=0)[:5]
    assert weights[:5].argsort().tolist() == positives.argsort(descending=True).tolist()


def test_effective_weights_go_from_equal_to_inverse_with_beta():
    torch.testing.assert_close(class_weights("effective", TARGETS, "bce", 1e-9), ONES, atol=1e-6, rtol=0)
    # 1/4 and 1, scaled to mean 1; so close to 1 that 1 - beta^n has no digits left where it is subtracted.
    nearly = class_weights("effective", TARGETS, "bce", math.nextafter(1, 0))
    torch.testing.assert_close(nearly, torch.tensor([0.4, 1.6, 1.0]))


@pytest.mark.parametrize("mode", ["sqrt", "inverse", "effective"])
def test_without_positives_nothing_is_weighted(mode):
    torch.testing.assert_close(class_weights(mode, torch.full((4, 3), -1), "softmax"), ONES)
