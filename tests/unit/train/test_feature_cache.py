import errno
import os

import numpy as np
import pyarrow as pa
import pytest
import torch

import train.feature_cache
from datamodules.annotated_text import AnnotatedText
from datamodules.annotation_datamodule import TokenisedSplits, tokenise_split
from datamodules.corpus import build_corpus
from datamodules.errors import InputError
from datamodules.preferences import read_preferences
from datamodules.taxonomy import load_taxonomy
from datamodules.views import ViewRequest
from models.classifier import ValueClassifier
from models.digest import frozen_digest, weights_digest
from models.encoder import load_pretrained
from models.features import encoder_digest, score_pooled
from models.inference import score_tokens
from train.auditing import score_split
from train.feature_cache import FeatureCache, corpus_features, with_features
from train.frozen import run_digest
from train.progress import Progress

VIEW = ViewRequest("dialogue", "head", 48)
SILENT = Progress("off")


def classifier(tiny_encoder, seed=0, **options):
    torch.manual_seed(seed)
    options = {"loss": "wan", "encoder_training": "frozen", **options}
    return ValueClassifier.from_pretrained(
        load_pretrained(str(tiny_encoder)), load_taxonomy("value-imprint"), VIEW, **options
    ).eval()


@pytest.fixture
def model(tiny_encoder):
    return classifier(tiny_encoder)


@pytest.fixture
def cache(tmp_path):
    return FeatureCache(tmp_path / "cache", "float32", 256)


@pytest.fixture
def splits(model):
    words = [
        "respect",
        "rule",
        "kind",
        "why",
        "rights",
        "health",
        "learn",
        "please",
        "explain",
        "sorry",
        "promise",
        "fair",
    ]

    def split(numbers):
        texts = [f"{words[i % 12]} {words[(i * 5) % 12]} {'you ' * (i % 7)}" for i in numbers]
        own = [AnnotatedText(str(i), t, (1, *(-1,) * 6), str(i), "x") for i, t in zip(numbers, texts, strict=True)]
        return tokenise_split(own, model.tokeniser, VIEW)

    return TokenisedSplits(split(range(20)), split(range(10, 30)), split(range(30, 37)))


@pytest.fixture
def corpus(model, tiny_root, tmp_path):
    data = read_preferences("webgpt", tiny_root)
    return build_corpus(data, [ViewRequest("exchange", "head", 64)], model.tokeniser, tmp_path / "cache")


@pytest.fixture
def computed(monkeypatch):
    """Number of texts that the encoder has read, call by call."""
    real, calls = train.feature_cache.pooled_features, []

    def counted(model, input_ids, *rest):
        calls.append(len(input_ids))
        return real(model, input_ids, *rest)

    monkeypatch.setattr(train.feature_cache, "pooled_features", counted)
    return calls


def only_file(cache):
    (path,) = cache.folder.glob("*.features.npy")
    return path


def test_the_head_says_of_cached_vectors_what_the_model_says_of_tokens(model, splits, corpus, cache):
    assert model.encoder.config.hidden_dropout_prob > 0
    pooled = with_features(model, splits, cache, "x", SILENT)
    for name in ("train", "val", "test"):
        split = getattr(pooled, name)
        vectors = split.features.vectors
        assert isinstance(vectors, np.memmap)
        assert vectors.dtype == np.float32
        expected = score_tokens(model, split.tokens.ids, split.lengths, 0, "float32", 100)
        np.testing.assert_allclose(score_pooled(model, vectors, split.features.rows), expected, atol=1e-6)
    sequences = [*splits.train.tokens.ids, *splits.val.tokens.ids, *splits.test.tokens.ids]
    assert len(vectors) == len({tuple(ids) for ids in sequences}) < len(sequences)
    expected = score_tokens(model, corpus.input_ids, corpus.lengths, 0, "float32", 100)
    np.testing.assert_allclose(score_pooled(model, corpus_features(model, corpus, cache, SILENT)), expected, atol=1e-6)


def test_the_encoder_reads_a_text_once_however_the_texts_are_split(model, splits, cache, computed, capsys):
    first = with_features(model, splits, cache, "x", Progress("auto"))
    assert f"pooled features of x: {computed[0]} texts in" in capsys.readouterr().err
    other = TokenisedSplits(splits.test, splits.train, splits.val)
    again = with_features(model, other, cache, "x", Progress("auto"))
    assert len(computed) == 1
    assert capsys.readouterr().err == ""
    for one, two in ((first.test, again.train), (first.train, again.val)):
        np.testing.assert_array_equal(one.features.vectors[one.features.rows], two.features.vectors[two.features.rows])


def test_corpora_are_pooled_in_blocks(model, corpus, cache, computed, monkeypatch, tmp_path):
    whole = corpus_features(model, corpus, cache, SILENT)
    monkeypatch.setattr(train.feature_cache, "TEXTS_AT_ONCE", 5)
    parts = corpus_features(model, corpus, FeatureCache(tmp_path / "other", "float32", 256), SILENT)
    n = len(corpus.lengths)
    assert computed == [n, *[5] * (n // 5), *([n % 5] if n % 5 else [])]
    np.testing.assert_allclose(parts, whole, atol=1e-6)
    assert isinstance(corpus.input_ids, pa.ChunkedArray)


def test_a_head_does_not_change_the_key_and_all_else_does(model, tiny_encoder, corpus, cache, computed):
    corpus_features(model, corpus, cache, SILENT)
    with torch.no_grad():
        model.head.weight.add_(1)
    for same in (model, classifier(tiny_encoder, seed=1, dropout=0.7, head="mlp", head_width=4)):
        corpus_features(same, corpus, cache, SILENT)
    assert len(computed) == 1
    other = FeatureCache(cache.folder, "bf16", 256)
    corpus_features(model, corpus, other, SILENT)
    corpus_features(classifier(tiny_encoder, pooling="cls"), corpus, cache, SILENT)
    assert len(computed) == 3
    before = encoder_digest(model)
    with torch.no_grad():
        model.encoder.embeddings.word_embeddings.weight[5, 0] += 1e-3
    assert encoder_digest(model) != before
    corpus_features(model, corpus, cache, SILENT)
    model.encoder_config["hidden_act"] = "relu"
    corpus_features(model, corpus, cache, SILENT)
    assert len(computed) == 5


def test_bf16_rounds_in_the_encoder_and_vectors_are_kept_in_float32(model, corpus, cache):
    exact = corpus_features(model, corpus, cache, SILENT)
    rounded = corpus_features(model, corpus, FeatureCache(cache.folder, "bf16", 256), SILENT)
    assert exact.dtype == rounded.dtype == np.float32
    assert 0 < np.abs(exact - rounded).max() < 0.05


def test_other_tokens_are_pooled_anew(model, splits, cache, computed):
    with_features(model, splits, cache, "x", SILENT)
    with_features(model, TokenisedSplits(splits.train, splits.train, splits.test), cache, "x", SILENT)
    assert len(computed) == 2


def test_features_of_another_encoder_are_not_scored(model, tiny_encoder, splits, cache):
    split = with_features(model, splits, cache, "x", SILENT).test
    other = classifier(tiny_encoder)
    np.testing.assert_array_equal(score_split(model, split, "float32", 100), score_split(other, split, "float32", 100))
    with torch.no_grad():
        other.encoder.embeddings.word_embeddings.weight.mul_(2)
    expected = score_tokens(other, split.tokens.ids, split.lengths, 0, "float32", 100)
    np.testing.assert_array_equal(score_split(other, split, "float32", 100), expected)
    assert not np.allclose(score_split(model, split, "float32", 100), expected, atol=1e-3)


def test_two_processes_may_compute_the_same_at_once(model, corpus, cache, monkeypatch):
    real, others = train.feature_cache.pooled_features, []

    def overtaken(*arguments):
        if not others:
            others.append(None)
            others[0] = corpus_features(model, corpus, cache, SILENT)
        return real(*arguments)

    monkeypatch.setattr(train.feature_cache, "pooled_features", overtaken)
    own = corpus_features(model, corpus, cache, SILENT)
    np.testing.assert_array_equal(own, others[0])
    assert [path for path in cache.folder.iterdir() if "features" in path.name] == [only_file(cache)]
    monkeypatch.undo()
    monkeypatch.setattr(train.feature_cache, "pooled_features", None)
    np.testing.assert_array_equal(corpus_features(model, corpus, cache, SILENT), own)


def test_a_file_that_is_gone_is_made_again(model, corpus, cache, computed, capsys):
    own = corpus_features(model, corpus, cache, SILENT)
    only_file(cache).unlink()
    np.testing.assert_array_equal(corpus_features(model, corpus, cache, SILENT), own)
    assert len(computed) == 2
    assert "damaged" not in capsys.readouterr().err


@pytest.mark.parametrize("damage", ["flipped", "cut off", "empty", "too long", "another array"])
def test_a_damaged_file_is_computed_again_and_that_is_said(model, corpus, cache, computed, damage, capsys):
    whole = np.array(corpus_features(model, corpus, cache, SILENT))
    path = only_file(cache)
    content = bytearray(path.read_bytes())
    match damage:
        case "flipped":
            content[len(content) // 2] ^= 1
        case "cut off":
            content = content[:-100]
        case "empty":
            content = bytearray()
        case "too long":
            content += b"x"
        case "another array":
            np.save(path, whole)
            content = bytearray(path.read_bytes())
    # Another file under the name: the old one is still mapped.
    path.unlink()
    path.write_bytes(content)
    np.testing.assert_array_equal(corpus_features(model, corpus, cache, Progress("off")), whole)
    assert len(computed) == 2
    assert f"{path} is damaged: computed again" in capsys.readouterr().err


def test_a_full_disk_is_told_and_leaves_nothing(model, corpus, cache, monkeypatch):
    real = train.feature_cache._Checksummed.write

    def full(self, content):
        if memoryview(content).nbytes > 1000:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        return real(self, content)

    monkeypatch.setattr(train.feature_cache._Checksummed, "write", full)
    with pytest.raises(InputError, match=r"features\.npy, where writing failed \(No space left.*--run\.cache_dir"):
        corpus_features(model, corpus, cache, SILENT)
    assert not list(cache.folder.glob("*features*"))


def test_vectors_that_are_not_finite_are_an_error(model, corpus, cache):
    with torch.no_grad():
        model.encoder.embeddings.word_embeddings.weight.fill_(float("nan"))
    with pytest.raises(InputError, match="pooled features of webgpt that are not finite"):
        corpus_features(model, corpus, cache, SILENT)
    assert not list(cache.folder.glob("*features*"))


def test_a_run_reads_a_frozen_encoder_once_for_its_digests(model, tiny_encoder):
    assert run_digest(model) is frozen_digest(model)
    assert run_digest(classifier(tiny_encoder, encoder_training="full")) is weights_digest


def test_nothing_to_score_is_an_error(model):
    with pytest.raises(ValueError, match="nothing to score"):
        score_pooled(model, np.empty((0, 16), dtype=np.float32))
