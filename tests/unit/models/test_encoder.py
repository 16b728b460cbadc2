import pytest
import torch
from torch import nn

from datamodules.errors import InputError
from models.encoder import Pooling, build_encoder, load_pretrained


@pytest.fixture(scope="module")
def tiny(tiny_encoder):
    return load_pretrained(str(tiny_encoder))


def test_a_rebuilt_encoder_takes_the_pretrained_weights(tiny):
    encoder = build_encoder(tiny.config)
    encoder.load_state_dict(tiny.weights)
    assert not any("pooler" in name for name in tiny.weights)
    assert next(encoder.parameters()).dtype == torch.float32


def test_minilm_is_bundled():
    minilm = load_pretrained("minilm")
    n = sum(weight.numel() for weight in minilm.weights.values())
    # 22,713,216 parameters with the pooler (384 x 384 + 384) that is dropped.
    assert n == 22_713_216 - 384 * 384 - 384
    assert minilm.max_positions == 512


def test_an_encoder_dropout_changes_every_layer(tiny):
    encoder = build_encoder(tiny.config, dropout=0.37)
    rates = {module.p for module in encoder.modules() if isinstance(module, nn.Dropout)}
    assert rates == {0.37}


def test_a_dropout_that_would_act_nowhere_is_told(monkeypatch, tiny):
    class Bare(nn.Module):
        pass

    monkeypatch.setattr("models.encoder.AutoModel.from_config", lambda *_, **__: Bare())
    with pytest.raises(InputError, match="no dropout layer"):
        build_encoder(tiny.config, dropout=0.2)


@pytest.mark.parametrize("name", ["no/such-model-here", "/no/such/folder"])
def test_an_encoder_that_does_not_load_is_told(name, monkeypatch):
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    with pytest.raises(InputError, match=r"encoder '.*no/such.*fix: --model\.encoder"):
        load_pretrained(name)


def test_a_folder_without_a_model_is_told(tmp_path):
    (tmp_path / "config.json").write_text("{}")
    with pytest.raises(InputError, match="does not load as a folder"):
        load_pretrained(str(tmp_path))


STATES = torch.tensor([[[1.0, 2.0], [3.0, 4.0], [99.0, 99.0]]])
MASK = torch.tensor([[1, 1, 0]])


def test_mean_pooling_leaves_padding_out():
    torch.testing.assert_close(Pooling("mean", 2)(STATES, MASK), torch.tensor([[2.0, 3.0]]))


def test_cls_pooling_takes_the_first_token():
    torch.testing.assert_close(Pooling("cls", 2)(STATES, MASK), torch.tensor([[1.0, 2.0]]))


def test_attention_pooling_is_a_weighted_mean_of_real_tokens():
    pooling = Pooling("attention", 2)
    assert pooling.query is not None
    pooling.query.weight.data = torch.tensor([[1.0, 0.0]])
    weights = torch.softmax(torch.tensor([1.0, 3.0]), dim=0)
    expected = weights[0] * STATES[0, 0] + weights[1] * STATES[0, 1]
    torch.testing.assert_close(pooling(STATES, MASK)[0], expected)


def test_unknown_pooling_is_told():
    with pytest.raises(InputError, match="pooling 'max'"):
        Pooling("max", 2)
