import json

import numpy as np
import pytest

from datamodules.errors import InputError
from models.calibration import fit_calibration
from train.thresholds import find_thresholds, read_thresholds, write_thresholds

LABELS = ("a", "b")


@pytest.fixture
def calibration():
    rng = np.random.default_rng(0)
    logits = rng.normal(size=(200, 2))
    targets = (logits + rng.normal(size=(200, 2)) > 0).astype(np.int64)
    return fit_calibration(logits, targets, LABELS, signed=False, softmax=False)


def test_round_trip(calibration, tmp_path):
    write_thresholds(tmp_path / "t.json", "w" * 64, calibration)
    assert read_thresholds(tmp_path / "t.json", "w" * 64, LABELS) == calibration


def test_an_edited_threshold_is_taken(calibration, tmp_path):
    path = tmp_path / "t.json"
    write_thresholds(path, "w" * 64, calibration)
    content = json.loads(path.read_text())
    content["labels"]["a"]["threshold"] = 0.9
    path.write_text(json.dumps(content))
    assert read_thresholds(path, "w" * 64, LABELS).thresholds[0] == 0.9


@pytest.mark.parametrize(
    ("weights", "labels", "text"),
    [("v" * 64, LABELS, "thresholds of weights wwwwwwww"), ("w" * 64, ("a", "c"), "labels a, b in")],
)
def test_thresholds_of_another_checkpoint_are_told(calibration, tmp_path, weights, labels, text):
    write_thresholds(tmp_path / "t.json", "w" * 64, calibration)
    with pytest.raises(InputError, match=text):
        read_thresholds(tmp_path / "t.json", weights, labels)


@pytest.mark.parametrize("content", ["", "[]", "{}", '{"weights": "w", "labels": 3}'])
def test_a_broken_file_is_told(tmp_path, content):
    (tmp_path / "t.json").write_text(content)
    with pytest.raises(InputError, match="thresholds"):
        read_thresholds(tmp_path / "t.json", "w", LABELS)


def test_absence_names_the_fix(tmp_path):
    with pytest.raises(InputError, match=r"no thresholds of checkpoint wwwwwwww.*fix: --thresholds"):
        find_thresholds(tmp_path / "checkpoints" / "a.ckpt", "w" * 64, LABELS, None)
