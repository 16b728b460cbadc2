import numpy as np
import pytest
from transformers import AutoTokenizer

from datamodules.errors import InputError
from models.encoder import load_pretrained


@pytest.fixture(scope="module")
def minilm():
    return load_pretrained("minilm")


@pytest.fixture(scope="module")
def tokeniser(minilm):
    return minilm.tokeniser()


def test_the_published_cut_at_128_tokens_is_gone(tokeniser):
    assert len(tokeniser.encode([("", "word " * 300)], 400).ids[0]) == 302


def test_ids_equal_those_of_transformers(tokeniser):
    from models.encoder import encoder_path

    reference = AutoTokenizer.from_pretrained(encoder_path("minilm"))
    texts = ["Human: Why?\n\nAssistant: Because of rain.", "a", "Ünïcödé — ok"]
    ours = tokeniser.encode([("", text) for text in texts], 64).ids
    assert ours == reference(texts, truncation=True, max_length=64)["input_ids"]
    long = "word " * 300
    assert tokeniser.encode([("", long)], 64).ids[0] == reference(long, truncation=True, max_length=64)["input_ids"]


def test_a_cut_keeps_the_response_and_the_start_of_the_question(tokeniser):
    context, focus = "Human: " + "why " * 50 + "\n\n", "Assistant: because rain falls"
    result = tokeniser.encode([(context, focus)], 20)
    alone = tokeniser.encode([("", focus)], 20).ids[0][1:-1]
    ids = result.ids[0]
    assert len(ids) == 20
    assert result.truncated.tolist() == [True]
    assert ids[-1 - len(alone) : -1] == alone
    assert ids[1:3] == tokeniser.encode([("", "Human:")], 20).ids[0][1:3]


def test_cutting_is_told_per_text(tokeniser):
    assert tokeniser.encode([("", "short"), ("", "long " * 99)], 16).truncated.tolist() == [False, True]


def test_lengths_count_special_tokens(tokeniser):
    np.testing.assert_array_equal(tokeniser.lengths(["a b c", "a"]), [5, 3])


def test_longer_than_the_encoder_reads_is_an_input_error(tokeniser):
    with pytest.raises(InputError, match="max_length 513, but the encoder reads 512"):
        tokeniser.encode([("", "a")], 513)


def test_it_is_rebuilt_from_its_json(tokeniser, minilm):
    from datamodules.tokenise import Tokeniser

    again = Tokeniser(tokeniser.json, tokeniser.pad_id, tokeniser.max_positions)
    assert again.digest == tokeniser.digest
    assert again.encode([("", "hello there")], 16).ids == tokeniser.encode([("", "hello there")], 16).ids
