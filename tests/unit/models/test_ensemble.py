"""Is an ensemble the mean of its members' probabilities, whatever their order and however sure they are?"""

import numpy as np
import pytest
import torch

from datamodules.errors import InputError
from datamodules.taxonomy import load_taxonomy
from datamodules.views import ViewRequest
from models.classifier import ValueClassifier, load_classifier
from models.digest import weights_digest
from models.encoder import load_pretrained
from models.ensemble import ValueEnsemble, load_scorer, mean_logits

VIEW = ViewRequest("dialogue", "head", 32)
IDS = torch.tensor([[2, 9, 14, 30, 3], [2, 20, 3, 0, 0]])
MASK = (IDS != 0).long()


@pytest.fixture(scope="module")
def encoder(tiny_encoder):
    return load_pretrained(str(tiny_encoder))


@pytest.fixture
def member(encoder):
    """Make a classifier with weights of a seed."""

    def make(seed, view=VIEW, taxonomy="value-imprint", loss="bce", **options):
        torch.manual_seed(seed)
        model = ValueClassifier.from_pretrained(encoder, load_taxonomy(taxonomy), view, loss=loss, **options)
        with torch.no_grad():
            model.head.weight.mul_(20)
        return model.eval()

    return make


def scores(model):
    with torch.no_grad():
        return model(IDS, MASK)


@pytest.mark.parametrize("loss", ["bce", "softmax"])
def test_it_is_the_mean_of_probabilities(member, loss):
    members = [member(seed, loss=loss) for seed in range(3)]
    own = scores(ValueEnsemble.of(members))
    turned = (lambda logits: logits.double().softmax(1)) if loss == "softmax" else (lambda x: x.double().sigmoid())
    expected = torch.stack([turned(scores(model)) for model in members]).mean(0)
    torch.testing.assert_close(turned(own), expected, atol=1e-6, rtol=0)
    # And not the mean of logits.
    assert (turned(torch.stack([scores(model) for model in members]).mean(0)) - expected).abs().max() > 0.01
    assert own.dtype == torch.float32


@pytest.mark.parametrize("loss", ["bce", "softmax"])
def test_the_same_checkpoint_twice_is_that_checkpoint(member, loss):
    model = member(0, loss=loss)
    own = scores(ValueEnsemble([model, model]))
    alone = scores(model)
    torch.testing.assert_close(own, alone.log_softmax(1) if loss == "softmax" else alone, atol=1e-5, rtol=1e-5)


def test_by_hand_and_far_from_one_half():
    # Means of .9 and .5 are .7, of 1 - e^-80 and e^-80 a half; no logit is infinite where all members are that sure.
    logits = torch.tensor([[[np.log(9.0), 80.0, 80.0]], [[0.0, -80.0, 200.0]]], dtype=torch.float32)
    found = mean_logits(logits, softmax=False)
    np.testing.assert_allclose(found.numpy(), [[np.log(7 / 3), 0.0, 80.0 + np.log(2)]], rtol=1e-6, atol=1e-6)
    distributions = torch.tensor([[[0.7, 0.2, 0.1]], [[0.1, 0.2, 0.7]]]).log() + 3
    np.testing.assert_allclose(mean_logits(distributions, softmax=True).exp().numpy(), [[0.4, 0.2, 0.4]], rtol=1e-6)


def test_order_leaves_function_and_digest_alone(member):
    members = [member(seed) for seed in range(3)]
    one, other = ValueEnsemble.of(members), ValueEnsemble.of(members[::-1])
    assert weights_digest(one.state_dict()) == weights_digest(other.state_dict())
    assert torch.equal(scores(one), scores(other))
    less = ValueEnsemble.of(members[:2])
    assert weights_digest(less.state_dict()) != weights_digest(one.state_dict())
    assert one.parameter_counts()["total"] == 3 * members[0].parameter_counts()["total"]


def test_a_file_gives_the_same_ensemble_back(member, tmp_path):
    members = [member(0), member(1, pooling="cls")]
    own = ValueEnsemble.of(members)
    torch.save(own.checkpoint(), tmp_path / "e.ckpt")
    again = load_scorer(tmp_path / "e.ckpt")
    assert isinstance(again, ValueEnsemble)
    assert not again.training
    assert weights_digest(again.state_dict()) == weights_digest(own.state_dict())
    assert torch.equal(scores(again), scores(own))
    assert again.labels == own.labels
    with pytest.raises(InputError, match="a checkpoint of an ensemble of value classifiers; needed a checkpoint"):
        load_classifier(tmp_path / "e.ckpt")


def test_a_classifier_is_loaded_as_one(member, tmp_path):
    model = member(0)
    torch.save({"state_dict": model.state_dict(), "hyper_parameters": dict(model.hparams)}, tmp_path / "c.ckpt")
    again = load_scorer(tmp_path / "c.ckpt")
    assert isinstance(again, ValueClassifier)
    assert torch.equal(scores(again), scores(model))


def edited(content, change):
    parameters = content["hyper_parameters"]
    match change:
        case "one member less":
            parameters["members"].pop()
        case "no member":
            parameters["members"] = []
        case "no list":
            parameters["members"] = 3
        case "another loss":
            parameters["members"][0]["loss"] = "asl"
        case "an unknown argument":
            parameters["members"][0]["colour"] = "red"
        case "not finite":
            content["state_dict"]["members.1.head.bias"][0] = float("nan")
    return content


@pytest.mark.parametrize(
    ("change", "text"),
    [
        ("one member less", r"not those of its own architecture \(members\.1\..* too many"),
        ("no member", "an edited checkpoint .an ensemble without members"),
        ("no list", "an edited checkpoint .an ensemble without members"),
        ("another loss", "an edited checkpoint .members with another loss"),
        ("an unknown argument", "colour"),
        ("not finite", r"weights that are not finite \(members\.1\.head\.bias\)"),
    ],
)
def test_an_edited_file_is_told(member, tmp_path, change, text):
    content = ValueEnsemble.of([member(0), member(1)]).checkpoint()
    content["hyper_parameters"]["members"] = [dict(each) for each in content["hyper_parameters"]["members"]]
    torch.save(edited(content, change), tmp_path / "e.ckpt")
    with pytest.raises(InputError, match=text):
        load_scorer(tmp_path / "e.ckpt")


def test_members_that_cannot_be_averaged_are_told(member):
    first = member(0)
    for other, text in (
        (member(1, taxonomy="schwartz"), "other values"),
        (member(1, view=ViewRequest("dialogue", "head", 33)), "another view"),
        (member(1, loss="softmax"), "another loss"),
        (member(1, class_weights=[2.0] * 7), "another loss"),
        (member(1, max_false_negative_rate=0.2), "another loss or rule for thresholds"),
        (member(1, window=16), "another tokenizer or window"),
    ):
        with pytest.raises(InputError, match=text):
            ValueEnsemble([first, other])
    with pytest.raises(InputError, match="an ensemble without members"):
        ValueEnsemble([])
