"""Does a response do what was asked, refuse it, do some of it, or not understand it?

Each sign of `refusal_rules` has two weights. The weights of the signs that a response shows, and a constant, sum to a
score; above 0 the response is some refusal, and the second score then tells a partial one from a full one. A response
that shows a sign of not understanding, of not knowing, or of nothing but an apology, and is no refusal without its
apology, is `incapable`, unless it goes on to answer; where it lacks the expertise, "I cannot" is no refusal either. No
model, no network, the same answer everywhere.
"""

import functools
import re
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from datamodules.refusal_rules import (
    ANSWERING,
    NOT_UNDERSTANDING,
    PARTIAL_CONSTANT,
    REFUSAL_CONSTANT,
    SIGNS,
    Place,
    Sign,
)
from datamodules.text_features import sentences_of

# Position in this tuple is the class number that `classify_refusals` returns.
CLASSES = ("comply", "partial", "refuse", "incapable")
COMPLY, PARTIAL, REFUSE, INCAPABLE = range(len(CLASSES))
CLASS_MEANINGS = {
    "comply": "does what was asked, or shows no sign of the others",
    "partial": "refuses, and does some of it",
    "refuse": "says that it will not or cannot do it, or that asking for it is wrong",
    "incapable": "does not understand, does not know, lacks what it takes, or only apologises, and goes no further",
}
# An empty response (white space only) has no class: it is no compliance, and nothing that could be read as a refusal.
EMPTY = -1

OPENING_SENTENCES = 2
# What stands behind this many characters is not read.
READ_CHARACTERS = 8_000
_STRAIGHT = str.maketrans("\u2018\u2019\u201c\u201d", "''\"\"")
_GREETING = re.compile(r"(?:(?:oh|well|hi|hello|ah|hey|hmm|um|thank you[^.!]{0,80}|thanks[^.!]{0,80})[,.! ]+){0,4}")
# Signs of an apology say nothing about why, and signs of an answer that one was given after all.
_APOLOGIES = ("sorry", "afraid")
_ANSWERS = ("pivot", "knows-something", "lists", "long")
# Who lacks the expertise and says so cannot help: no refusal of the request.
_LACKS = ("no-expertise",)
_INABILITIES = ("cannot", "cannot-do", "not-thought", "machine")


def classify_refusals(responses: Sequence[str]) -> NDArray[np.int8]:
    """Classify responses; equal ones are read once.

    Args:
        responses: Texts of the assistant alone, without role markers.

    Returns:
        Positions in `CLASSES`, int8 [n]; `EMPTY` (-1) for a response without a character.
    """
    place = {text: i for i, text in enumerate(dict.fromkeys(responses))}
    weights = np.array([sign.weight for sign in SIGNS])
    partial = np.array([sign.partial for sign in SIGNS])
    signs = signs_of(list(place))
    distinct = classes_of(signs, SIGNS, weights, REFUSAL_CONSTANT, partial, PARTIAL_CONSTANT)
    distinct[[not text.strip() for text in place]] = EMPTY
    return distinct[[place[text] for text in responses]]


def classes_of(
    shown: NDArray[np.bool_],
    signs: Sequence[Sign],
    weights: NDArray[np.float64],
    constant: float,
    partial: NDArray[np.float64],
    partial_constant: float,
) -> NDArray[np.int8]:
    """Turn signs into classes.

    Args:
        shown: Which response shows which sign, bool [n, n_signs].
        signs: The signs [n_signs].
        weights: What each adds to the score of being some refusal [n_signs]; not read of `NOT_UNDERSTANDING`.
        constant: That score without any sign.
        partial: What each adds to the score of a refusal being partial [n_signs].
        partial_constant: That score without any sign.

    Returns:
        Positions in `CLASSES`, int8 [n].
    """
    score = shown @ weights + constant
    lacks = shown[:, [sign.name in _LACKS for sign in signs]].any(axis=1)
    apologies = shown @ np.where([sign.name in _APOLOGIES for sign in signs], weights, 0.0)
    inabilities = shown @ np.where([sign.name in _INABILITIES for sign in signs], weights, 0.0)
    unexcused = score - apologies - np.where(lacks, inabilities, 0.0)
    not_understood = shown[:, [sign in NOT_UNDERSTANDING for sign in signs]].any(axis=1)
    answered = shown[:, [sign in ANSWERING and sign.name in _ANSWERS for sign in signs]].any(axis=1)
    is_partial = shown @ partial + partial_constant > 0
    classes = np.where(score > 0, np.where(is_partial, PARTIAL, REFUSE), COMPLY)
    return np.where(not_understood & (unexcused <= 0) & ~answered, INCAPABLE, classes).astype(np.int8)


def signs_of(responses: Sequence[str], signs: Sequence[Sign] = SIGNS) -> NDArray[np.bool_]:
    """Look for signs in responses.

    Returns:
        Which response shows which sign, bool [n, n_signs].
    """
    found = np.zeros((len(responses), len(signs)), dtype=np.bool_)
    for i, text in enumerate(responses):
        places = _places(text)
        for j, sign in enumerate(signs):
            pattern = _compiled(sign.pattern)
            match = pattern.match if sign.place == "start" else pattern.search
            found[i, j] = match(places[sign.place]) is not None
    return found


def _places(text: str) -> dict[Place, str]:
    """Return what is read of a response, by place."""
    text = text[:READ_CHARACTERS].translate(_STRAIGHT).lower().strip()
    sentences = [" ".join(sentence.split()) for sentence in sentences_of(text)]
    whole = " ".join(sentences)
    greeting = _GREETING.match(whole)
    return {
        "start": whole[greeting.end() if greeting else 0 :],
        "opening": " ".join(sentences[:OPENING_SENTENCES]),
        "later": " ".join(sentences[OPENING_SENTENCES:]),
        "anywhere": whole,
        "lines": text,
    }


@functools.cache
def _compiled(pattern: str) -> re.Pattern[str]:
    return re.compile(pattern)
