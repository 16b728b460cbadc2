"""Features of a response's text: hand-counted values, undefined ones, and refusals as people labelled them."""

import numpy as np
import pytest

from datamodules.refusals import CLASSES, classify_refusals
from datamodules.tabular import read_csv
from datamodules.text_features import (
    FEATURES,
    has_refusal,
    lexical_diversity,
    sentences_of,
    sentiment,
    text_features,
    words_of,
)

TEXT = "# Plan\n\nPerhaps it's well-known: **rest** helps?\n- Sleep\n2) Maybe sleep more?"


def features_of(text: str) -> dict[str, float]:
    names, values = text_features([text])
    return dict(zip(names, values[0].tolist(), strict=True))


def test_counts_by_hand():
    features = features_of(f"  {TEXT}\n")
    # Plan Perhaps it's well-known rest helps Sleep 2 Maybe sleep more
    assert features["n_words"] == 11
    assert features["log_n_words"] == pytest.approx(np.log(12))
    assert features["n_characters"] == len(TEXT)
    assert features["hedges_per_100_words"] == pytest.approx(100 * 2 / 11)
    assert features["list_line_share"] == 0.5
    assert features["has_markdown"] == 1
    assert features["n_question_marks"] == 2
    assert features["lexical_diversity"] == pytest.approx(10 / 11)
    assert features["refusal_phrase"] == 0


def test_columns_are_the_documented_features_and_rows_the_texts_in_order():
    names, values = text_features(["one", "one two", "one", "one"])
    assert names == tuple(feature.name for feature in FEATURES)
    assert len(set(names)) == len(names) == 12
    assert values.dtype == np.float64
    assert values.shape == (4, 12)
    assert values[:, 0].tolist() == [1, 2, 1, 1]


def test_nothing_gives_nothing():
    names, values = text_features([])
    assert values.shape == (0, len(names))


@pytest.mark.parametrize("text", ["", "  \n "])
def test_empty_text_is_undefined_where_it_divides_by_nothing(text):
    features = features_of(text)
    undefined = {name for name, value in features.items() if np.isnan(value)}
    assert undefined == {
        "hedges_per_100_words",
        "list_line_share",
        "sentiment",
        "sentiment_positive",
        "sentiment_negative",
        "lexical_diversity",
    }
    assert all(value == 0 for name, value in features.items() if name not in undefined)


def test_text_without_words_still_has_lines():
    assert features_of("...")["list_line_share"] == 0
    assert np.isnan(features_of("...")["sentiment"])


def test_words():
    assert words_of("Don\u2019t re-do it, 3.5 times_now — naïve!") == [
        "Don\u2019t",
        "re-do",
        "it",
        "3",
        "5",
        "times",
        "now",
        "naïve",
    ]


def test_sentences():
    assert sentences_of('Is 3.5 it? Yes!\n\nNo "stop."  ... End') == ["Is 3.5 it?", "Yes!", 'No "stop."  ...', "End"]


def test_lexical_diversity_is_a_moving_average():
    # Windows of 3: a b a -> 2, b a c -> 3, a c c -> 2.
    assert lexical_diversity(list("abacc"), window=3) == pytest.approx((2 + 3 + 2) / 9)


def test_lexical_diversity_of_short_and_empty_texts():
    assert lexical_diversity(list("aab"), window=50) == pytest.approx(2 / 3)
    assert np.isnan(lexical_diversity([]))


def test_lexical_diversity_does_not_fall_with_length_alone():
    words = [f"w{i % 60}" for i in range(600)]
    assert lexical_diversity(words) == 1


def test_month_of_may_is_no_hedge():
    assert features_of("In May we met.")["hedges_per_100_words"] == 0
    assert features_of("we may have met")["hedges_per_100_words"] == 25


def test_sentiment_is_a_mean_over_sentences():
    good, bad = sentiment("I love it."), sentiment("This is terrible.")
    assert good > 0.5
    assert bad < -0.3
    assert sentiment("I love it. This is terrible.") == pytest.approx((good + bad) / 2)
    assert sentiment("I love it. " * 50) == pytest.approx(good)


def test_sentiment_categories():
    rows = [features_of(text) for text in ("I love it.", "The table is brown.", "This is terrible.")]
    assert [(row["sentiment_positive"], row["sentiment_negative"]) for row in rows] == [(1, 0), (0, 0), (0, 1)]


def test_one_endless_sentence_takes_no_endless_time():
    assert features_of("but good " * 20_000)["n_words"] == 40_000


@pytest.mark.parametrize(
    "text",
    [
        "I can't help with that.",
        "I\u2019m sorry, but I cannot provide instructions for this.",
        "I can\u2019t help with that.",
        "I'm sorry, but I can't.",
        "Hello. I see. I won't do that.",
        "As an AI language model, I am not able to say.",
        "I don't think I should help you with that.",
        "I'm not comfortable giving medical advice.",
        "That's not something I can do.",
        "We must respectfully decline.",
    ],
)
def test_refusals(text):
    assert has_refusal(text)


@pytest.mark.parametrize(
    "text",
    [
        "Sorry about that! Here is the list.",
        "I'm sorry to hear that. What happened?",
        "I can't wait to help you!",
        "I don't know.",
        "I cannot recommend this book highly enough.",
        "You can't do that at night.",
        "He said he won't help.",
        "One. Two. Three. I can't help with that.",
        "I wouldn't do that, it is bad for the animal.",
    ],
)
def test_no_refusals(text):
    assert not has_refusal(text)


def test_the_feature_is_narrower_than_the_class():
    """An objection is a refusal to the classifier and holds no phrase of refusal; both are as defined."""
    text = "No. It is never acceptable to copy a neighbour's key. That would be illegal and wrong."
    assert not has_refusal(text)
    assert CLASSES[classify_refusals([text])[0]] == "refuse"
    assert "narrower" in next(feature.definition for feature in FEATURES if feature.name == "refusal_phrase")


@pytest.mark.data
@pytest.mark.parametrize(("model", "recall"), [("gpt4", 0.85), ("llama2orig", 0.84)])
def test_refusals_agree_with_xstest_labels(data_root, model, recall):
    rows = read_csv(data_root / "xstest" / f"xstest_v2_completions_{model}.csv", "").rows
    is_labelled = np.array([row["final_label"] != "1_full_compliance" for row in rows])
    is_found = np.array([has_refusal(row["completion"]) for row in rows])
    assert (is_labelled & is_found).sum() / is_found.sum() > 0.97
    assert (is_labelled & is_found).sum() / is_labelled.sum() > recall
