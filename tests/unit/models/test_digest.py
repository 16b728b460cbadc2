import hashlib

import pytest
import torch
from torch import nn

import models.digest
from models.digest import FrozenDigest, frozen_digest, weights_digest


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


def test_the_digest_is_over_names_types_shapes_and_bytes_in_name_order():
    state = {"b": torch.tensor([[1, 2]], dtype=torch.int32), "a": torch.tensor(1.0, dtype=torch.bfloat16)}
    expected = b"a torch.bfloat16 ()\n\x80\x3f" + b"b torch.int32 (1, 2)\n\x01\0\0\0\x02\0\0\0"
    assert weights_digest(state) == hashlib.sha256(expected).hexdigest()
    assert weights_digest({"a": state["a"], "b": torch.tensor([[1, 0, 2, 0]], dtype=torch.int32)[:, ::2]}) == (
        weights_digest(state)
    )


def test_a_frozen_encoder_is_read_once_and_the_digest_is_the_same(model, read):
    digest = FrozenDigest()
    first = digest(model.state_dict())
    with torch.no_grad():
        model["head"].weight.add_(1)
    second = digest(model.state_dict())
    assert read == ["encoder.bias", "encoder.weight", "head.bias", "head.weight", "head.bias", "head.weight"]
    assert digest.of_encoder(model.state_dict()) == weights_digest(
        {f"encoder.{name}": tensor for name, tensor in model["encoder"].state_dict().items()}
    )
    assert read.count("encoder.weight") == 2  # the one that is expected
    assert first != second == weights_digest(model.state_dict())


def copied(state):
    return {name: tensor.clone() for name, tensor in state.items()}


def inferred(state):
    with torch.inference_mode():
        return copied(state)


def test_an_encoder_that_is_another_is_read_again(model, read):
    digest = FrozenDigest()
    first = digest(model.state_dict())
    assert digest(copied(model.state_dict())) == first
    for _ in range(2):
        assert digest(inferred(model.state_dict())) == first
    assert read.count("encoder.weight") == 4
    with torch.no_grad():
        model["encoder"].bias[0] += 1
    assert digest(model.state_dict()) == weights_digest(model.state_dict()) != first
    model.load_state_dict(copied(model.state_dict()))
    read.clear()
    assert digest(model.state_dict()) == digest(model.state_dict())
    # Known again after it was written to, as by a resumed run.
    assert read.count("encoder.weight") == 1
    model["encoder"] = nn.Linear(3, 4)
    assert digest(model.state_dict()) == weights_digest(model.state_dict())
    model["encoder"].weight = nn.Parameter(model["encoder"].weight.detach().t().reshape(4, 3))
    assert digest(model.state_dict()) == weights_digest(model.state_dict())


def test_another_name_or_form_is_another_encoder():
    digest = FrozenDigest()
    matrix = torch.arange(4.0).reshape(2, 2)
    for state in (
        {"encoder.a": matrix},
        {"encoder.b": matrix},
        {"encoder.b": matrix.t()},
        {"encoder.b": matrix.view(4)},
    ):
        assert digest(state) == weights_digest(state)


def test_writes_to_inference_tensors_are_seen():
    digest = FrozenDigest()
    with torch.inference_mode():
        state = {"encoder.a": torch.zeros(3)}
        for _ in range(3):
            state["encoder.a"].add_(1)
            assert digest(state) == weights_digest(state)


def test_no_other_tensor_can_come_to_lie_where_a_known_one_lay():
    digest, places = FrozenDigest(), []
    for value in range(20):
        state = {"encoder.weight": torch.full((1000,), float(value))}
        places.append(state["encoder.weight"].data_ptr())
        assert digest(state) == weights_digest(state)
        del state
    assert len(set(places)) > 1


def test_names_around_the_encoder_count(model):
    digest = FrozenDigest()
    for state in (
        {"a": torch.ones(1), **model.state_dict()},
        {"encoder": torch.ones(1), "encoders.x": torch.ones(2), **model.state_dict()},
        {name: tensor for name, tensor in model.state_dict().items() if name != "encoder.bias"},
        {"head.bias": torch.ones(2)},
        model.state_dict(),
    ):
        assert digest(state) == weights_digest(state)


def test_a_model_keeps_its_own(model):
    assert frozen_digest(model) is frozen_digest(model)
    assert frozen_digest(model) is not frozen_digest(nn.ModuleDict(model))
