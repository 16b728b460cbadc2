"""Probabilities of a fixed classifier as features: what is refused, what is cached, what is left out."""

import io
import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from rich.console import Console

import train.feature_classifiers as module
from audits.base import TextFeatures
from datamodules.annotation_datamodule import text_parts
from datamodules.errors import InputError
from datamodules.overlap import text_digests
from datamodules.preferences import read_preferences
from datamodules.taxonomy import load_taxonomy
from datamodules.views import ViewRequest
from models.calibration import Calibration
from models.classifier import ValueClassifier
from models.digest import weights_digest
from models.encoder import load_pretrained
from train.audit_config import AuditConfig, FeatureClassifier
from train.feature_classifiers import (
    FeatureModel,
    classifier_scores,
    require_feature_classifiers,
    require_other_classifiers,
    with_classifiers,
)
from train.progress import Progress


@pytest.fixture
def data():
    return read_preferences("sample-webgpt", None)


@pytest.fixture
def said():
    return io.StringIO()


@pytest.fixture
def progress(said):
    return Progress("off", Console(file=said, width=200))


@pytest.fixture(scope="module")
def quality(tiny_encoder):
    """A softmax classifier of quality with random weights, sharp enough that texts differ."""
    torch.manual_seed(3)
    taxonomy, view = load_taxonomy("hh-quality"), ViewRequest("exchange", "head", 64)
    encoder = load_pretrained(str(tiny_encoder))
    model = ValueClassifier.from_pretrained(encoder, taxonomy, view, loss="softmax").eval()
    torch.nn.init.normal_(model.head.weight, std=2.0)
    calibration = Calibration(taxonomy.labels, (0.5,) * 3, (0.3,) * 3, calibrated=True, signed=False, softmax=True)
    weights = weights_digest(model.state_dict())
    return FeatureModel("hh", Path("none.ckpt"), model, weights, calibration, view, "acceptable", None)


def with_trained(model, texts):
    return replace(model, training_texts=text_digests(texts))


@pytest.fixture
def features(data):
    values = np.arange(4.0 * len(data.index)).reshape(-1, 2, 2)
    return TextFeatures(("log_n_words", "sentiment"), values, "log_n_words")


def direct(model, data):
    """Probabilities of both sides of every pair, one text at a time and without any of the code under test."""
    rows = []
    for pair in data.read():
        for side in (pair.first, pair.second):
            tokens = model.model.tokeniser.encode([text_parts(side.render(), model.view)], 64, "head").ids[0]
            with torch.no_grad():
                logits = model.model(torch.tensor([list(tokens)]), torch.ones(1, len(tokens), dtype=torch.int64))
            rows.append(torch.softmax(logits[0].double() / 0.5, dim=0).numpy())
    return np.array(rows).reshape(len(data.index), 2, 3)


def test_probabilities_lie_at_their_pair_and_side(quality, data, tmp_path, progress):
    found, truncated = classifier_scores(quality, data, tmp_path, progress)
    np.testing.assert_allclose(found, direct(quality, data), atol=1e-5)
    np.testing.assert_allclose(found.sum(axis=2), 1)
    assert truncated.shape == (len(data.index), 2)
    assert found.std(axis=(0, 1)).min() > 1e-4


def test_nothing_is_scored_twice(quality, data, tmp_path, progress, monkeypatch):
    first, _ = classifier_scores(quality, data, tmp_path, progress)
    with monkeypatch.context() as patch:
        patch.setattr(module, "score_tokens", None)
        again, _ = classifier_scores(replace(quality, name="other"), data, tmp_path, progress)
    np.testing.assert_array_equal(first, again)
    # Other weights, temperatures or views are other numbers.
    colder = replace(quality.calibration, temperatures=(0.25,) * 3)
    for change in ({"weights": "f" * 64}, {"calibration": colder}, {"view": ViewRequest("response", "head", 64)}):
        n_before = len(list(tmp_path.glob("*.classifier.parquet")))
        classifier_scores(replace(quality, **change), data, tmp_path, progress)
        assert len(list(tmp_path.glob("*.classifier.parquet"))) == n_before + 1


@pytest.mark.parametrize("damage", [lambda whole: b"", lambda whole: whole[:-40], lambda whole: b"x" * len(whole)])
def test_a_damaged_cache_is_scored_again(quality, data, tmp_path, progress, damage, said):
    first, _ = classifier_scores(quality, data, tmp_path, progress)
    (path,) = tmp_path.glob("*.classifier.parquet")
    path.write_bytes(damage(path.read_bytes()))
    again, _ = classifier_scores(quality, data, tmp_path, progress)
    np.testing.assert_array_equal(first, again)
    assert "is damaged: scored again" in said.getvalue()


def test_features_stand_beside_the_others_without_the_reference(quality, data, features, tmp_path, progress):
    found, (record,) = with_classifiers(features, [quality], data, AuditConfig(), tmp_path, progress)
    assert found.names == ("log_n_words", "sentiment", "hh.unhelpful", "hh.harmful")
    assert found.length_name == "log_n_words"
    np.testing.assert_array_equal(found.values[:, :, :2], features.values)
    np.testing.assert_allclose(found.values[:, :, 2:], direct(quality, data)[:, :, 1:], atol=1e-5)
    assert (record["reference"], record["n_pairs_trained_on"], record["n_pairs_left_out"]) == ("acceptable", None, 0)
    json.dumps(record)


def test_pairs_that_it_was_trained_on_have_none_of_its_features(quality, data, features, tmp_path, progress, said):
    seen = [pair.second.render() for i, pair in enumerate(data.read()) if i in (2, 5)]
    model = with_trained(quality, [*seen, "Human: Something else?\n\nAssistant: Yes."])
    config = AuditConfig()
    found, (record,) = with_classifiers(features, [model], data, config, tmp_path, progress)
    missing = np.isnan(found.values)
    assert np.flatnonzero(missing.any(axis=(1, 2))).tolist() == [2, 5]
    assert missing[[2, 5]][:, :, 2:].all()
    assert not missing[:, :, :2].any()
    assert (record["n_pairs_trained_on"], record["n_pairs_left_out"]) == (2, 2)
    assert "hold a text that hh was trained on; they are left out of the regressions" in said.getvalue()
    config.trained_on = "keep"
    found, (record,) = with_classifiers(features, [model], data, config, tmp_path, progress)
    assert not np.isnan(found.values).any()
    assert (record["n_pairs_trained_on"], record["n_pairs_left_out"]) == (2, 0)


def test_two_features_of_one_name_are_refused(quality, data, features, tmp_path, progress, monkeypatch):
    monkeypatch.setattr(module, "score_tokens", None)
    taken = TextFeatures(("log_n_words", "hh.harmful"), features.values, "log_n_words")
    with pytest.raises(InputError, match=r"two features named hh\.harmful"):
        with_classifiers(taken, [quality], data, AuditConfig(), tmp_path, progress)


@pytest.mark.parametrize(
    ("sources", "text"),
    [
        ([("a", "x"), ("a", "y")], "two feature classifiers named a"),
        ([(" ", "x")], "a feature classifier named ' '"),
        ([("(a", "x")], "named '\\(a'"),
        ([("a", "")], "feature classifier a without a path"),
    ],
)
def test_settings_that_cannot_be_meant(sources, text):
    with pytest.raises(InputError, match=text):
        require_feature_classifiers([FeatureClassifier(name, path) for name, path in sources])


def test_only_the_audited_weights_are_refused():
    require_other_classifiers("abd", [{"name": "hh", "weights": "abc"}])
    with pytest.raises(InputError, match="the feature classifier hh, the very checkpoint that is audited"):
        require_other_classifiers("abc", [{"name": "hh", "weights": "abc"}])
