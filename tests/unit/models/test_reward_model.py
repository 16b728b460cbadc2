import json
import math
from dataclasses import asdict

import numpy as np
import pytest
import torch
from torch.nn import functional

from datamodules.errors import InputError
from datamodules.pair_datamodule import PairBatch
from datamodules.taxonomy import load_taxonomy
from datamodules.views import ViewRequest
from models.checkpoint_model import read_resumable
from models.classifier import ValueClassifier, load_classifier
from models.digest import weights_digest
from models.encoder import load_pretrained
from models.optimisation import Optimisation
from models.reward_model import RewardModel, bradley_terry_loss, load_reward_model, pair_metrics

VIEW = ViewRequest("exchange", "head", 48)
TRAINED_ON = [{"dataset": "x", "files": {"x.jsonl": "ab"}, "part": "train"}]


@pytest.fixture
def model(tiny_encoder):
    torch.manual_seed(0)
    return RewardModel.from_pretrained(load_pretrained(str(tiny_encoder)), VIEW, TRAINED_ON)


def save(model, path):
    torch.save({"state_dict": model.state_dict(), "hyper_parameters": dict(model.hparams)}, path)


def test_the_loss_is_that_of_bradley_and_terry():
    rewards = torch.tensor([[1.0, 0.0, -2.0], [0.0, 0.0, 1.0]])
    expected = -np.mean([math.log(1 / (1 + math.exp(-margin))) for margin in (1.0, 0.0, -3.0)])
    assert float(bradley_terry_loss(rewards)) == pytest.approx(expected, rel=1e-6)
    # Large margins: log(sigmoid) would be -inf.
    assert float(bradley_terry_loss(torch.tensor([[-200.0], [0.0]]))) == pytest.approx(200.0)


def test_the_loss_is_computed_in_float32():
    rewards = torch.tensor([[100.25], [100.0]], dtype=torch.float32)
    assert bradley_terry_loss(rewards.bfloat16()).dtype == torch.float32


def test_metrics_of_pairs():
    metrics = pair_metrics(torch.tensor([[1.0, 0.0, 2.0, 5.0], [0.0, 0.0, 3.0, 1.0]]))
    assert metrics["accuracy"] == 0.5  # equal rewards are wrong
    assert metrics["margin"] == 1.0
    assert metrics["reward_mean"] == 1.5
    assert metrics["reward_std"] == pytest.approx(np.std([1, 0, 2, 5, 0, 0, 3, 1], ddof=1))
    assert all(math.isnan(value) for value in pair_metrics(torch.empty(2, 0)).values())


def test_the_first_half_of_a_batch_is_preferred(model):
    model.eval()
    ids = torch.tensor([[2, 7, 8, 3], [2, 9, 3, 0], [2, 10, 3, 0], [2, 11, 12, 3]])
    rewards = model(ids, (ids != 0).long())[:, 0]
    paired = model._rewards(PairBatch(ids, (ids != 0).long()))
    torch.testing.assert_close(paired, torch.stack([rewards[:2], rewards[2:]]))
    margins = rewards[:2] - rewards[2:]
    torch.testing.assert_close(bradley_terry_loss(paired), -functional.logsigmoid(margins).mean())


def test_the_head_stays_float32_under_autocast(model):
    ids = torch.tensor([[2, 7, 8, 3]])
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert model(ids, torch.ones_like(ids)).dtype == torch.float32


def test_a_step_moves_every_parameter(model):
    before = {name: tensor.clone() for name, tensor in model.named_parameters()}
    model.optimisation = Optimisation(1e-3, 1e-2, 0.0, 0.0, "constant", 1, 0)
    optimizer = model.configure_optimizers()["optimizer"]
    ids = torch.tensor([[2, *range(7, 40), 3], [2, *range(12, 45), 3]])
    bradley_terry_loss(model._rewards(PairBatch(ids, torch.ones_like(ids)))).backward()
    optimizer.step()
    still = [name for name, tensor in model.named_parameters() if torch.equal(before[name], tensor)]
    # The bias of the keys cancels in the softmax.
    assert [name for name in still if not name.endswith("key.bias")] == []


def test_a_checkpoint_rebuilds_everything_without_the_encoder_folder(model, tmp_path):
    save(model, tmp_path / "a.ckpt")
    again = load_reward_model(tmp_path / "a.ckpt")
    assert weights_digest(again.state_dict()) == weights_digest(model.state_dict())
    assert again.view == VIEW
    assert again.trained_on == TRAINED_ON
    assert again.tokeniser.digest == model.tokeniser.digest
    assert not again.training


def test_hyper_parameters_are_plain(model):
    assert json.loads(json.dumps(dict(model.hparams))) == dict(model.hparams)
    assert model.hparams["view"] == asdict(VIEW)


def test_a_classifier_is_no_reward_model_and_the_reverse(model, tiny_encoder, tmp_path):
    encoder = load_pretrained(str(tiny_encoder))
    save(ValueClassifier.from_pretrained(encoder, load_taxonomy("schwartz"), VIEW), tmp_path / "c.ckpt")
    save(model, tmp_path / "r.ckpt")
    with pytest.raises(InputError, match=r"c\.ckpt, a checkpoint of a value classifier; .*`imprint reward fit`"):
        load_reward_model(tmp_path / "c.ckpt")
    with pytest.raises(InputError, match=r"r\.ckpt, a checkpoint of a reward model; .*`imprint fit`"):
        load_classifier(tmp_path / "r.ckpt")


@pytest.mark.parametrize(
    ("damage", "text"),
    [
        (lambda c: c["state_dict"].pop("head.weight"), r"not those of its own architecture \(no head\.weight\)"),
        (lambda c: c["state_dict"].update({"head.bias": torch.ones(1)}), r"\(head\.bias too many\)"),
        (lambda c: c["state_dict"]["head.weight"][:1].fill_(float("nan")), r"not finite \(head\.weight\)"),
        (lambda c: c["hyper_parameters"].update(new=1), "another version or an edited one .*'new'"),
        (lambda c: c.update(hyper_parameters={}), "something else .*no trained_on and no encoder_config"),
        (lambda c: c.pop("state_dict"), "something else .*no `state_dict`"),
    ],
)
def test_weights_and_arguments_are_checked(model, tmp_path, damage, text):
    path = tmp_path / "bad.ckpt"
    save(model, path)
    content = torch.load(path, weights_only=True)
    damage(content)
    torch.save(content, path)
    for read in (load_reward_model, lambda path, fix: read_resumable(RewardModel, path, fix)):
        with pytest.raises(InputError, match=text) as raised:
            read(path, "--this-one")
        assert raised.value.needed != "a checkpoint written by `imprint fit`"
        assert "--this-one" in raised.value.fix
