import pytest
import torch
from torch import nn

import models.digest
from models.digest import FrozenDigest, weights_digest


@pytest.fixture
def model():
    torch.manual_seed(0)
    return nn.ModuleDict({"encoder": nn.Linear(3, 4), "head": nn.Linear(4, 2)})


@pytest.fixture
def read(monkeypatch):
    """Names of the tensors that were read."""
    real, names = models.digest._update, []

    def counted(digest, state, own):
        names.extend(own)
        real(digest, state, own)

    monkeypatch.setattr(models.digest, "_update", counted)
    return names


def frozen_digest(model):
    return FrozenDigest({f"encoder.{name}": tensor for name, tensor in model["encoder"].state_dict().items()})


def test_frozen_tensors_are_read_once_and_the_digest_is_the_same(model, read):
    digest = frozen_digest(model)
    assert read == ["encoder.bias", "encoder.weight"]
    read.clear()
    first = digest(model.state_dict())
    with torch.no_grad():
        model["head"].weight.add_(1)
    second = digest(model.state_dict())
    assert read == ["head.bias", "head.weight"] * 2
    assert first != second == weights_digest(model.state_dict())


def test_a_state_whose_frozen_tensors_are_others_is_read_whole(model):
    digest = frozen_digest(model)
    first = digest(model.state_dict())
    copied = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    assert digest(copied) == first
    with torch.no_grad():
        model["encoder"].bias[0] += 1
    assert digest(model.state_dict()) == weights_digest(model.state_dict()) != first
    model["encoder"] = nn.Linear(3, 4)
    assert digest(model.state_dict()) == weights_digest(model.state_dict())
    with torch.inference_mode():
        inferred = {name: tensor.clone() for name, tensor in copied.items()}
    assert digest(inferred) == first


def test_names_that_stand_before_the_frozen_ones_count(model):
    digest = frozen_digest(model)
    state = {"a": torch.ones(1), **model.state_dict()}
    assert digest(state) == weights_digest(state) != digest(model.state_dict())
    without = {name: tensor for name, tensor in model.state_dict().items() if name != "encoder.bias"}
    assert digest(without) == weights_digest(without)
