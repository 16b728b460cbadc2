"""Responses that stop in mid-sentence are found, and those that end otherwise are not."""

# ruff: noqa: RUF001 - typographic characters are what is tested
import pytest

from datamodules.response_ending import seems_cut_off

CUT = [
    "First melt the butter. Then you slowly stir in the flour until it",
    "Sure, I can help with that. You should start with the",
    "The bridge was built in 1932, and",
    "There are several reasons: cost, time,",
    "Here is the list:",
    "It is a small town (",
    "He told me “",
    "We could leave early –",
    "Yes. You’re right that we’re",
    "one thing and then the",
    "Put the jam on top. You can",
    "It is warm here. I don’t",
    "Ask your sister first. She'll",
    "You need salt, butter and/",
    "They sold the mill (in 1932",
    "We sang “Greensleeves and two other songs",
]
WHOLE = [
    "",
    "   ",
    "Yes",
    "Paris",
    "forty two",
    "It is done.",
    "Is it?",
    "He said: “Stop!”",
    "See the second note (below).",
    "Great! 😀",
    "Buy these:\n- eggs\n- a bag of flour and some good salted butter",
    "Three steps follow. Here they are.\n1. Wash it\n2. Dry it with a clean soft towel for a while",
    "It was published in 1987",
    "Done. Hope that helps",
    "I had a great day out there. Hope that helps you out",
    "hey there how are you doing today my friend",
    "See the source [1]",
    "I wonder what it is",
    "Read more at https://example.org/page/",
    "You can find it here. The page with all the pictures is www.example.org/old-mill",
    "Write to us. The right address for such a letter is clerk@example.org",
    "Glad to help! Have a good time on the lake with them :)",
    "You’re welcome!\n----",
    "It closes at noon. \n\n----------",
    "The answer is in the note (see below).",
    "what is it for",
    "Do this:\n- look what it is for\n- ask whom it is for",
    "Run it. Then look at the result of `make the thing now please`",
]


@pytest.mark.parametrize("text", CUT)
def test_cut(text):
    assert seems_cut_off(text)
    assert seems_cut_off(text + " \n")


@pytest.mark.parametrize("text", WHOLE)
def test_whole(text):
    assert not seems_cut_off(text)


def test_every_cut_inside_a_long_sentence_is_found():
    text = "We met at noon. After lunch my brother carried seven heavy boxes of old school books up four flights"
    words = text.split()
    shown = [n for n in range(9, len(words) + 1) if not seems_cut_off(" ".join(words[:n]))]
    assert shown == [9]  # five words of a sentence may be a casual ending
