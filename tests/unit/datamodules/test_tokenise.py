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


CLS, SEP, A = 101, 102, 1037
LETTERS = "a b c d e f g h i j k l m n o p q r s t"


@pytest.fixture(scope="module")
def windowed(minilm):
    return minilm.tokeniser(window=8)


def letters(first, last):
    """Ids of some letters: those of MiniLM's stand behind one another."""
    return [A + i for i in range(first, last)]


@pytest.mark.parametrize(
    ("n", "max_length", "truncation", "expected", "is_cut"),
    [
        # All in one window, as without windows.
        (6, 24, "head", [CLS, *letters(0, 6), SEP], False),
        # One more begins a window of its own.
        (7, 24, "head", [CLS, *letters(0, 6), SEP, CLS, *letters(6, 7), SEP], False),
        (12, 24, "head", [CLS, *letters(0, 6), SEP, CLS, *letters(6, 12), SEP], False),
        # What is more than all windows together hold is cut, before windows are made.
        (14, 16, "head", [CLS, *letters(0, 6), SEP, CLS, *letters(6, 12), SEP], True),
        (14, 16, "tail", [CLS, *letters(2, 8), SEP, CLS, *letters(8, 14), SEP], True),
        (14, 16, "head_tail", [CLS, *letters(0, 6), SEP, CLS, *letters(8, 14), SEP], True),
        # The last window may be a short one, but it is none without a token of the text.
        (14, 19, "head", [CLS, *letters(0, 6), SEP, CLS, *letters(6, 12), SEP, CLS, *letters(12, 13), SEP], True),
        (14, 18, "head", [CLS, *letters(0, 6), SEP, CLS, *letters(6, 12), SEP], True),
    ],
)
def test_a_long_text_is_laid_out_in_windows(windowed, n, max_length, truncation, expected, is_cut):
    result = windowed.encode([("", LETTERS[: 2 * n - 1])], max_length, truncation)
    assert result.ids == [expected]
    assert result.truncated.tolist() == [is_cut]


def test_the_context_is_cut_before_windows_are_made(windowed):
    (ids,) = windowed.encode([("a b c d e f ", "g h i j k l m n")], 16).ids
    assert ids == [CLS, *letters(0, 4), *letters(6, 8), SEP, CLS, *letters(8, 14), SEP]


def test_a_window_that_holds_a_text_changes_no_token(minilm, tokeniser):
    texts = [("", LETTERS[: 2 * n - 1]) for n in range(1, 21)]
    windowed = minilm.tokeniser(window=22)
    assert windowed.encode(texts, 64).ids == tokeniser.encode(texts, 64).ids
    assert windowed.encode(texts, 12).ids == tokeniser.encode(texts, 12).ids


def test_windows_reach_beyond_what_the_encoder_reads_at_once(minilm):
    windowed = minilm.tokeniser(window=512)
    (ids,) = windowed.encode([("", "a " * 3000)], 1200).ids
    assert len(ids) == 1200
    assert [i for i, token in enumerate(ids) if token == CLS] == [0, 512, 1024]


def test_another_window_is_another_digest(minilm, tokeniser):
    digests = {minilm.tokeniser(window=window).digest for window in (None, 8, 16)}
    assert len(digests) == 3
    assert tokeniser.digest in digests


@pytest.mark.parametrize("window", [-1, 0, 7, 513])
def test_a_window_that_the_encoder_cannot_read_is_an_input_error(minilm, window):
    with pytest.raises(InputError, match=f"windows of {window} tokens, but the encoder reads 512"):
        minilm.tokeniser(window)


def test_it_is_rebuilt_from_its_json(tokeniser, minilm):
    from datamodules.tokenise import Tokeniser

    again = Tokeniser(tokeniser.json, tokeniser.pad_id, tokeniser.max_positions)
    assert again.digest == tokeniser.digest
    assert again.encode([("", "hello there")], 16).ids == tokeniser.encode([("", "hello there")], 16).ids
