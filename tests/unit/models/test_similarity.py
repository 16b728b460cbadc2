"""Similarity of originals and rewrites: against sentence-transformers, in windows by hand, undefined for blanks."""

import numpy as np
import pytest
import torch

from datamodules.errors import InputError
from models.encoder import encoder_path, load_pretrained
from models.similarity import embeddings, gate, similarities


@pytest.fixture(scope="module")
def tiny(tiny_encoder):
    return load_pretrained(str(tiny_encoder))


def test_same_text_is_one_and_other_text_less(tiny):
    values = similarities(["law is fair", "law is fair"], ["law is fair", "please sleep"], tiny)
    assert values.dtype == np.float64
    assert values[0] == pytest.approx(1, abs=1e-6)
    assert values[1] < 0.999


def test_embeddings_have_length_one_and_keep_their_order(tiny):
    texts = ["law", "law is fair and we know it", "sleep well please"]
    together = embeddings(texts, tiny)
    assert np.linalg.norm(together, axis=1) == pytest.approx(1)
    for text, vector in zip(texts, together, strict=True):
        assert embeddings([text], tiny)[0] == pytest.approx(vector, abs=1e-5)


def test_an_embedding_is_the_mean_over_tokens_of_all_windows(tiny):
    """Windows of 5 hold 3 words; the second here holds one."""
    words = ["law", "rule", "sleep", "peace"]
    halves = [embeddings_raw(" ".join(part), tiny) for part in (words[:3], words[3:])]
    expected = halves[0] * 5 + halves[1] * 3
    expected /= np.linalg.norm(expected)
    assert embeddings([" ".join(words)], tiny, window=5)[0] == pytest.approx(expected, abs=1e-5)


def embeddings_raw(text, encoder):
    """Mean token state of a text that fits, by transformers alone."""
    from tokenizers import Tokenizer

    from models.encoder import build_encoder

    model = build_encoder(encoder.config)
    model.load_state_dict(encoder.weights)
    model.eval()
    ids = torch.tensor([Tokenizer.from_str(encoder.tokenizer_json).encode(text).ids])
    with torch.no_grad():
        return model(input_ids=ids).last_hidden_state[0].mean(dim=0).double().numpy()


def test_a_change_behind_the_first_window_counts(tiny):
    long = " ".join(["law"] * 300)
    assert similarities([long], [long.replace("law", "sleep").replace("sleep", "law", 200)], tiny, window=64)[0] < 0.999


def test_blank_is_undefined(tiny):
    values = similarities(["law", "", "law", " "], ["law", "law", "\n", ""], tiny)
    assert np.isnan(values).tolist() == [False, True, True, True]


@pytest.mark.parametrize("texts", [[], [""]])
def test_nothing_to_read(tiny, texts):
    values = similarities(texts, texts, tiny)
    assert values.shape == (len(texts),)
    assert np.isnan(values).all()


def test_equal_texts_are_read_once(tiny):
    seen = []
    similarities(["law", "law", "rule"], ["rule", "law", "law"], tiny, on_batch=seen.append)
    assert sum(seen) == 2


def test_unequal_numbers(tiny):
    with pytest.raises(ValueError, match="2 originals and 1 rewrites"):
        similarities(["a", "b"], ["a"], tiny)


@pytest.mark.parametrize("window", [2, 129])
def test_wrong_window(tiny, window):
    with pytest.raises(InputError, match=f"window of {window} tokens; needed 3 to 128"):
        similarities(["law"], ["rule"], tiny, window=window)


def test_gate_by_hand():
    result = gate(np.array([0.9, 0.8, 0.79, np.nan]), 0.8, "--x")
    assert result.is_kept.tolist() == [True, True, False, False]
    assert (result.threshold, result.n_below, result.n_undefined) == (0.8, 1, 1)


@pytest.mark.parametrize("threshold", [1.1, -2.0, float("nan")])
def test_wrong_threshold(threshold):
    with pytest.raises(InputError, match="--x"):
        gate(np.array([0.9]), threshold, "--x")


@pytest.mark.slow
def test_bundled_encoder_agrees_with_sentence_transformers():
    from sentence_transformers import SentenceTransformer

    texts = ["It is not so.", "It isn't so.", "The cat sat on the mat, and nobody minded.", "Völlig anders"]
    reference = SentenceTransformer(encoder_path("minilm"), device="cpu").encode(texts, normalize_embeddings=True)
    encoder = load_pretrained("minilm")
    assert embeddings(texts, encoder) == pytest.approx(reference.astype(np.float64), abs=1e-5)
    assert similarities(texts[:1], texts[1:2], encoder)[0] == pytest.approx(
        float(reference[0] @ reference[1]), abs=1e-5
    )
