from types import SimpleNamespace

import pytest
import pytorch_lightning as pl
import torch
from torch import nn

from models.checkpoint_file import AVERAGING
from train.callbacks.averaged_weights import AveragedWeights, decay_at


class Numbered(pl.LightningModule):
    """One weight, one that is not trained and, as transformers have them, a buffer of position numbers."""

    def __init__(self):
        super().__init__()
        self.frozen = nn.Parameter(torch.tensor([0.1, 1 / 3]), requires_grad=False)
        self.weight = nn.Parameter(torch.zeros(1))
        self.register_buffer("positions", torch.arange(5))


class Training:
    """Calls the callback as Lightning does; a step sets the weight."""

    def __init__(self, decay, checkpoint=None):
        self.model, self.callback, self.trainer = Numbered(), AveragedWeights(decay), SimpleNamespace(global_step=0)
        if checkpoint is not None:
            self.trainer.global_step = checkpoint["global_step"]
            self.model.load_state_dict(checkpoint["state_dict"])
            self.callback.on_load_checkpoint(self.trainer, self.model, checkpoint)
        self.callback.on_train_start(self.trainer, self.model)

    def step(self, *values):
        for value in values:
            self.callback.on_train_batch_start(self.trainer, self.model, None, 0)
            self.model.weight.data.fill_(value)
            self.trainer.global_step += 1
            self.callback.on_train_batch_end(self.trainer, self.model, None, None, 0)
        return self

    def validate(self):
        # As Lightning validates, and reads the weights then.
        with torch.inference_mode():
            self.callback.on_validation_epoch_start(self.trainer, self.model)
        return self.model.weight.item()

    def save(self):
        state = {name: tensor.detach() for name, tensor in self.model.state_dict().items()}
        checkpoint = {"state_dict": state, "global_step": self.trainer.global_step}
        self.callback.on_save_checkpoint(self.trainer, self.model, checkpoint)
        return {
            "state_dict": {name: tensor.clone() for name, tensor in checkpoint["state_dict"].items()},
            "global_step": self.trainer.global_step,
            AVERAGING: checkpoint[AVERAGING] | {"trained": {"weight": checkpoint[AVERAGING]["trained"]["weight"] + 0}},
        }


def test_the_average_by_hand():
    # The first step is taken as it is; then d = 2/11 and 3/12, until the decay of 0.3 is the smaller.
    expected = 1.0
    for value, decay in ((2.0, 2 / 11), (4.0, 3 / 12), (8.0, 0.3), (16.0, 0.3)):
        expected = decay * expected + (1 - decay) * value
    assert Training(0.3).step(1.0, 2.0, 4.0, 8.0, 16.0).validate() == pytest.approx(expected, rel=1e-6)
    assert [decay_at(n, 0.3) for n in (0, 1, 2, 3, 4)] == [0.0, 2 / 11, 0.25, 0.3, 0.3]


def test_a_larger_decay_remembers_longer():
    short, long = (Training(decay).step(*[0.0] * 50, *[1.0] * 5).validate() for decay in (0.5, 0.99))
    assert 0 < long < 0.6 < short < 1


def test_training_goes_on_from_its_own_weights():
    training = Training(0.5).step(1.0, 2.0)
    average = training.validate()
    assert 1 < average < 2
    assert training.validate() == average
    training.callback.on_train_epoch_end(training.trainer, training.model)
    assert training.model.weight.item() == average
    for _ in range(2):
        training.callback.on_train_batch_start(training.trainer, training.model, None, 0)
        assert training.model.weight.item() == 2.0
    assert training.step(3.0).validate() > average


def test_the_end_of_an_epoch_shows_the_average_also_without_a_validation():
    training = Training(0.5).step(1.0, 2.0)
    training.callback.on_train_epoch_end(training.trainer, training.model)
    assert training.model.weight.item() == Training(0.5).step(1.0, 2.0).validate()


def test_only_an_optimiser_step_counts():
    training = Training(0.5).step(1.0, 2.0)
    average = training.validate()
    training.callback.on_train_batch_start(training.trainer, training.model, None, 0)
    training.callback.on_train_batch_end(training.trainer, training.model, None, None, 0)  # of an accumulated batch
    assert training.validate() == average


def test_what_is_not_trained_is_neither_kept_twice_nor_written_to():
    training = Training(0.9)
    untouched = {name: getattr(training.model, name) for name in ("frozen", "positions")}
    before = {name: (tensor.data_ptr(), tensor._version) for name, tensor in untouched.items()}
    training.step(*range(30)).validate()
    assert {name: (tensor.data_ptr(), tensor._version) for name, tensor in untouched.items()} == before
    assert list(training.save()[AVERAGING]["trained"]) == ["weight"]


def test_a_file_holds_the_average_and_what_training_goes_on_from():
    training = Training(0.5).step(1.0, 2.0)
    average = training.validate()
    saved = training.save()
    assert saved["state_dict"]["weight"].item() == average
    assert saved[AVERAGING]["trained"]["weight"].item() == 2.0
    assert (saved[AVERAGING]["n_updates"], saved[AVERAGING]["last_step"]) == (2, 2)
    # Also one that is saved in the middle of an epoch, as on a signal of a cluster.
    middle = Training(0.5).step(1.0, 2.0)
    other = middle.save()
    assert other["state_dict"]["weight"].item() == average
    assert other[AVERAGING] == saved[AVERAGING]
    assert middle.model.weight.item() == 2.0
    resumed = Training(0.5, saved)
    assert resumed.model.weight.item() == average
    assert resumed.step(3.0, 5.0).validate() == training.step(3.0, 5.0).validate()
