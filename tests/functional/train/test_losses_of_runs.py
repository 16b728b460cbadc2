"""Does a run train with the loss that was asked for, and decide by what its scores mean?"""

import json

import pytest
import torch

from models.chance import chance_thresholds
from models.classifier import load_classifier
from models.losses import LossSettings, compute_loss

FLAGS = ("--trainer.batch_size=16", "--trainer.max_epochs=1", "--track.wandb=disabled", "--audit.enabled=false")
SINGLE = ("--data.name=value-imprint", *FLAGS)
WEIGHTED = "--model.class_weights=inverse"


@pytest.mark.parametrize(
    ("flags", "settings"),
    [
        (("--model.loss=an-ls", "--model.label_smoothing=0.2"), {"label_smoothing": 0.2}),
        (
            ("--model.loss=asl", "--model.asl_margin=0.1"),
            {"asl_gamma_positive": 0.0, "asl_gamma_negative": 4.0, "asl_margin": 0.1, "unknown_as_negative": True},
        ),
    ],
    ids=["an-ls", "asl"],
)
def test_single_positives(tiny_run, only_run, capsys, flags, settings):
    assert tiny_run(*SINGLE, *flags, WEIGHTED) == 0
    model = load_classifier(only_run() / "checkpoints" / "last.ckpt")
    assert model.hparams["loss_settings"] == settings
    weights = model.class_weights.tolist()
    assert weights == pytest.approx([6.0] * 7)
    # A checkpoint alone rebuilds the loss.
    logits = torch.linspace(-2, 2, 2 * len(weights)).reshape(2, -1)
    targets = torch.full(logits.shape, -1)
    targets[0, 0] = targets[1, 1] = 1
    expected_loss = compute_loss(model.loss_name, logits, targets, model.class_weights, LossSettings(**settings))
    assert model._loss(logits, targets) == expected_loss
    assert expected_loss != compute_loss(model.loss_name, logits, targets, model.class_weights)
    (file,) = (only_run() / "thresholds").glob("*.json")
    calibration = json.loads(file.read_text())
    assert not calibration["calibrated"]
    found = {name: numbers["threshold"] for name, numbers in calibration["labels"].items()}
    expected = chance_thresholds(model.loss_name, weights, LossSettings(**settings))
    assert found == pytest.approx(dict(zip(model.labels, expected, strict=True)))
    capsys.readouterr()
    other = {"an-ls": "--model.label_smoothing=0.3", "asl": "--model.asl_margin=0.2"}[model.loss_name]
    assert tiny_run(*SINGLE, flags[0], other, WEIGHTED, "--trainer.max_epochs=2", f"--resume={only_run()}") == 2
    assert "a changed loss_settings" in capsys.readouterr().err


def test_asl_masks_unknown_where_negatives_are_known(tiny_run, only_run):
    assert tiny_run("--data.name=valueeval", *FLAGS, "--model.loss=asl") == 0
    model = load_classifier(only_run() / "checkpoints" / "last.ckpt")
    assert model.loss_settings == LossSettings()


def test_a_setting_of_another_loss_is_told_before_anything_is_written(tiny_run, tmp_path, capsys):
    assert tiny_run(*SINGLE, "--model.loss=wan", "--model.label_smoothing=0.1") == 2
    message = capsys.readouterr().err
    assert "model.label_smoothing 0.1 with loss wan, where it does nothing; needed loss an-ls" in message
    assert not (tmp_path / "runs").exists()
