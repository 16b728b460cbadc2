import json
from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest

from datamodules.errors import InputError
from datamodules.files import digest_of
from models.calibration import Calibration, fit_calibration
from train.thresholds import EDITED, find_thresholds, read_thresholds, write_thresholds

LABELS = ("a", "b")


def head(labels=LABELS, signed=False, softmax=False):
    """What a classifier says about its outputs."""
    return SimpleNamespace(further=(), labels=labels, taxonomy=SimpleNamespace(signed=signed), softmax=softmax)


@pytest.fixture
def calibration():
    rng = np.random.default_rng(0)
    logits = rng.normal(size=(200, 2))
    targets = (logits + rng.normal(size=(200, 2)) > 0).astype(np.int64)
    return fit_calibration(logits, targets, LABELS, signed=False, softmax=False)


def test_round_trip(calibration, tmp_path):
    write_thresholds(tmp_path / "t.json", "w" * 64, calibration)
    assert read_thresholds(tmp_path / "t.json", "w" * 64, head()) == calibration


def test_an_edited_threshold_is_taken(calibration, tmp_path):
    path = tmp_path / "t.json"
    write_thresholds(path, "w" * 64, calibration)
    content = json.loads(path.read_text())
    content["labels"]["a"]["threshold"] = 0.9
    path.write_text(json.dumps(content))
    edited = read_thresholds(path, "w" * 64, head())
    assert edited.thresholds[0] == 0.9
    assert edited.notes[-1] == EDITED  # and so in the audit's meta data


def test_only_changed_numbers_count_as_an_edit(calibration, tmp_path):
    path = tmp_path / "t.json"
    write_thresholds(path, "w" * 64, calibration)
    content = json.loads(path.read_text())
    content["notes"] = [*content["notes"], "looked at on Monday"]
    content["labels"] = dict(reversed(content["labels"].items()))
    path.write_text(json.dumps(content, indent=8))
    assert read_thresholds(path, "w" * 64, head()).notes[-1] == "looked at on Monday"
    content.pop("digest")  # a file of an earlier version
    path.write_text(json.dumps(content))
    assert EDITED not in read_thresholds(path, "w" * 64, head()).notes


def test_the_rule_is_kept_and_files_of_before_there_were_rules_are_not_taken_for_edited(calibration, tmp_path):
    path = tmp_path / "t.json"
    content = calibration.to_json()
    assert content.pop("decision") == "f1"
    numbers = {name: part for name, part in content.items() if name != "notes"}
    path.write_text(json.dumps({"weights": "w" * 64, **content, "digest": digest_of(numbers)}))  # as it was then
    assert read_thresholds(path, "w" * 64, head()) == calibration
    bounded = replace(calibration, max_false_negative_rate=0.1)
    write_thresholds(path, "w" * 64, bounded)
    assert read_thresholds(path, "w" * 64, head()) == bounded
    path.write_text(path.read_text().replace('"max_false_negative_rate": 0.1', '"max_false_negative_rate": 0.2'))
    assert read_thresholds(path, "w" * 64, head()).notes[-1] == EDITED


@pytest.mark.parametrize(
    ("weights", "labels", "text"),
    [
        ("v" * 64, LABELS, "thresholds of weights wwwwwwww"),
        ("w" * 64, ("a", "c"), "labels a, b in .*needed labels a, c"),
        ("v" * 64, tuple("cdefghi"), "labels a, b in .*needed labels c, d, e, f, g and 2 more"),
    ],
)
def test_thresholds_of_another_checkpoint_are_told(calibration, tmp_path, weights, labels, text):
    write_thresholds(tmp_path / "t.json", "w" * 64, calibration)
    with pytest.raises(InputError, match=text):
        read_thresholds(tmp_path / "t.json", weights, head(labels))


@pytest.mark.parametrize("content", ["", "[]", "{}", '{"weights": "w", "labels": 3}'])
def test_a_broken_file_is_told(tmp_path, content):
    (tmp_path / "t.json").write_text(content)
    with pytest.raises(InputError, match="thresholds"):
        read_thresholds(tmp_path / "t.json", "w", head())


def test_absence_names_the_fix(tmp_path):
    with pytest.raises(InputError, match=r"no thresholds of checkpoint wwwwwwww.*fix: --thresholds"):
        find_thresholds(tmp_path / "checkpoints" / "a.ckpt", "w" * 64, head(), None)


@pytest.mark.parametrize("flag", ["signed", "softmax"])
@pytest.mark.parametrize("is_set", [True, False])
def test_the_kind_of_head_belongs_to_the_model(tmp_path, flag, is_set):
    labels, kind = ("a-for", "a-against"), {"signed": False, "softmax": False, flag: is_set}
    calibration = Calibration(labels, (1.0, 1.0), (0.5, 0.5), True, notes=(), **kind)
    write_thresholds(tmp_path / "t.json", "w" * 64, calibration)
    assert read_thresholds(tmp_path / "t.json", "w" * 64, head(labels, **kind)) == calibration
    said, true = str(is_set).lower(), str(not is_set).lower()
    text = rf"found {flag} {said} in .*t\.json; needed {flag} {true}, as the model was trained; fix: set it back"
    with pytest.raises(InputError, match=text):
        read_thresholds(tmp_path / "t.json", "w" * 64, head(labels, **(kind | {flag: not is_set})))


def test_a_label_that_occurs_twice_is_told(calibration, tmp_path):
    path = tmp_path / "t.json"
    write_thresholds(path, "w" * 64, calibration)
    path.write_text(path.read_text().replace('"b": {', '"a": {'))
    with pytest.raises(InputError, match=r"not JSON .key 'a' occurs twice"):
        read_thresholds(path, "w" * 64, head())
