import numpy as np
import pytest
import torch

from datamodules.errors import InputError
from models.class_weights import class_weights
from train.check_config import check_config
from train.config import Config, ModelConfig
from train.loss_arguments import loss_arguments

KNOWN = np.array([[1, 0, 0], [1, 0, 1], [1, 1, 0], [0, 0, 0]])
SINGLE = np.array([[1, -1, -1], [-1, 1, -1], [1, -1, -1]])
ASL = {"asl_gamma_positive": 0.0, "asl_gamma_negative": 4.0, "asl_margin": 0.05, "unknown_as_negative": False}


@pytest.mark.parametrize("loss", ["bce", "wan", "softmax"])
def test_losses_without_settings_have_none(loss):
    # As in checkpoints of before there were any, which can be resumed so.
    assert loss_arguments(ModelConfig(loss=loss), KNOWN) == {
        "loss": loss,
        "class_weights": [1.0, 1.0, 1.0],
        "loss_settings": None,
    }


def test_settings_go_to_their_loss_with_the_defaults_filled_in():
    assert loss_arguments(ModelConfig(loss="an-ls"), KNOWN)["loss_settings"] == {"label_smoothing": 0.1}
    smoothed = ModelConfig(loss="an-ls", label_smoothing=0.0)
    assert loss_arguments(smoothed, KNOWN)["loss_settings"] == {"label_smoothing": 0.0}
    assert loss_arguments(ModelConfig(loss="asl"), KNOWN)["loss_settings"] == ASL
    chosen = {"asl_gamma_positive": 1.0, "asl_gamma_negative": 2.0, "asl_margin": 0.0}
    assert loss_arguments(ModelConfig(loss="asl", **chosen), KNOWN)["loss_settings"] == ASL | chosen


def test_asl_takes_unknown_for_negative_where_no_negative_is_known():
    def unknown_as_negative(targets):
        return loss_arguments(ModelConfig(loss="asl"), targets)["loss_settings"]["unknown_as_negative"]

    assert unknown_as_negative(SINGLE)
    assert not unknown_as_negative(np.concatenate([SINGLE, KNOWN]))


def test_the_beta_of_effective_weights_arrives():
    targets = torch.from_numpy(KNOWN)
    for beta, given in ((None, 0.999), (0.5, 0.5)):
        config = ModelConfig(class_weights="effective", effective_beta=beta)
        expected = class_weights("effective", targets, "bce", given).tolist()
        assert loss_arguments(config, KNOWN)["class_weights"] == expected
    assert expected != class_weights("effective", targets, "bce").tolist()


@pytest.mark.parametrize(
    ("settings", "text"),
    [
        ({"loss": "an-ls", "label_smoothing": 0.5}, r"model\.label_smoothing 0\.5; needed a target in \[0, 0\.5\)"),
        ({"loss": "an-ls", "label_smoothing": -0.1}, r"fix: --model\.label_smoothing"),
        ({"loss": "asl", "asl_gamma_positive": -1.0}, r"fix: --model\.asl_gamma_positive"),
        ({"loss": "asl", "asl_gamma_negative": float("nan")}, r"fix: --model\.asl_gamma_negative"),
        ({"loss": "asl", "asl_margin": 1.0}, r"model\.asl_margin 1\.0; needed a score in \[0, 1\)"),
        ({"class_weights": "effective", "effective_beta": 1.0}, r"fix: --model\.effective_beta"),
        ({"class_weights": "effective", "effective_beta": 0.0}, r"above 0 and below 1"),
        (
            {"label_smoothing": 0.1},
            r"model\.label_smoothing 0\.1 with loss bce, where it does nothing; needed loss an-ls; "
            r"fix: --model\.loss an-ls, or leave out --model\.label_smoothing",
        ),
        ({"loss": "an-ls", "asl_gamma_positive": 0.0}, r"asl_gamma_positive 0\.0 with loss an-ls"),
        ({"loss": "wan", "asl_gamma_negative": 4.0}, r"fix: --model\.loss asl"),
        ({"loss": "softmax", "asl_margin": 0.05}, r"asl_margin 0\.05 with loss softmax"),
        ({"class_weights": "sqrt", "effective_beta": 0.9}, r"effective_beta 0\.9 with class_weights sqrt"),
    ],
)
def test_settings_out_of_range_or_without_effect_are_told(settings, text):
    with pytest.raises(InputError, match=text):
        check_config(Config(model=ModelConfig(**settings)))


def test_settings_that_act_pass():
    check_config(Config(model=ModelConfig(loss="an-ls", label_smoothing=0.0)))
    asl = ModelConfig(loss="asl", asl_gamma_positive=0.0, asl_gamma_negative=0.5, asl_margin=0.0)
    check_config(Config(model=asl))
    check_config(Config(model=ModelConfig(class_weights="effective", effective_beta=0.9999)))
