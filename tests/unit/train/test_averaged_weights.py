import pytest
import pytorch_lightning as pl
import torch
from torch import nn
from torch.optim.swa_utils import AveragedModel

from train.callbacks.averaged_weights import AveragedWeights, moving_average


class Numbered(nn.Module):
    """One weight and, as transformers have them, a buffer of position numbers."""

    def __init__(self):
        super().__init__()
        self.weight = nn.Parameter(torch.zeros(1))
        self.frozen = nn.Parameter(torch.tensor([0.1, 1 / 3]), requires_grad=False)
        self.register_buffer("positions", torch.arange(5))


def averaged_over(values, decay):
    model = Numbered()
    average = AveragedModel(model, use_buffers=False, multi_avg_fn=moving_average(decay))
    for value in values:
        model.weight.data.fill_(value)
        average.update_parameters(model)
    return average.module


def test_the_average_by_hand():
    # The first step is taken as it is; then d = 2/11 and 3/12, until the decay of 0.3 is the smaller.
    expected = 1.0
    for value, decay in ((2.0, 2 / 11), (4.0, 3 / 12), (8.0, 0.3), (16.0, 0.3)):
        expected = decay * expected + (1 - decay) * value
    assert averaged_over([1.0, 2.0, 4.0, 8.0, 16.0], 0.3).weight.item() == pytest.approx(expected, rel=1e-6)


def test_a_larger_decay_remembers_longer():
    values = [0.0] * 50 + [1.0] * 5
    short, long = (averaged_over(values, decay).weight.item() for decay in (0.5, 0.99))
    assert 0 < long < 0.6 < short < 1


def test_what_does_not_move_stays_exactly_as_it_is():
    average = averaged_over(range(300), 0.99)
    assert average.frozen.tolist() == Numbered().frozen.tolist()
    assert average.positions.tolist() == [0, 1, 2, 3, 4]


def test_lightnings_own_callback_would_round_positions():
    """Why buffers are left out; when this fails, Lightning has changed."""
    from pytorch_lightning.callbacks import EMAWeightAveraging

    model, callback = Numbered(), EMAWeightAveraging(decay=0.9)
    average = AveragedModel(model, use_buffers=callback._use_buffers, **callback._kwargs)
    for _ in range(3):
        average.update_parameters(model)
    assert average.module.positions.tolist() != [0, 1, 2, 3, 4]
    assert not AveragedWeights(0.9, torch.device("cpu"))._use_buffers


def test_the_average_lies_where_it_is_told():
    """Not where the model is at `setup`, which is before Lightning moves it to where it trains."""
    model, callback = pl.LightningModule(), AveragedWeights(0.9, torch.device("meta"))
    model.weight = nn.Parameter(torch.zeros(1))
    callback.setup(None, model, "fit")
    assert callback._average_model.module.weight.device.type == "meta"
    assert model.weight.device.type == "cpu"
