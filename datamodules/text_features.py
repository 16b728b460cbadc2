"""What does a response look like, whatever it says? Features that a reward may follow without any value behind them.

They are computed from the text of a response alone: no model, no prompt, no network. `FEATURES` states name, unit and
definition of each; a definition never changes under its name, since tables of different dates are compared.
"""

import functools
import re
import warnings
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from vaderSentiment.vaderSentiment import SentimentIntensityAnalyzer  # type: ignore[import-untyped]

MATTR_WINDOW = 50
LONGEST_SENTENCE = 100
REFUSAL_SENTENCES = 3
# Hutto and Gilbert (2014) call a text neutral where its compound score lies between these.
NEUTRAL_BELOW = 0.05


@dataclass(frozen=True, slots=True)
class TextFeature:
    """Name, unit and definition of one feature."""

    name: str
    unit: str
    definition: str


FEATURES = (
    TextFeature("n_words", "words", "runs of letters and digits, joined by inner apostrophes and hyphens"),
    TextFeature("log_n_words", "log words", "log(1 + n_words); an alternative to n_words, not beside it"),
    TextFeature("n_characters", "characters", "Unicode code points, without white space at both ends"),
    TextFeature(
        "refusal_phrase",
        "0 or 1",
        f"the first {REFUSAL_SENTENCES} sentences say that the writer will not, cannot or may not do it; narrower than "
        "the classes of datamodules/refusals.py, which also weigh objections to the request",
    ),
    TextFeature("hedges_per_100_words", "per 100 words", "hedging words and phrases; NaN without words"),
    TextFeature("list_line_share", "share", "lines that start with a bullet or a number, of lines not blank"),
    TextFeature("has_markdown", "0 or 1", "a header line, bold text or a code fence occurs"),
    TextFeature("n_question_marks", "question marks", "of Latin and full width"),
    TextFeature(
        "sentiment",
        "-1 to 1",
        "mean compound score of VADER 3.3 over sentences, which are cut after 100 words; NaN without",
    ),
    TextFeature("sentiment_positive", "0 or 1", "sentiment >= 0.05; with the next one in place of sentiment"),
    TextFeature("sentiment_negative", "0 or 1", "sentiment <= -0.05; what is neither is neutral"),
    TextFeature(
        "lexical_diversity",
        "share",
        f"distinct words, case folded, of {MATTR_WINDOW} in a row, mean over all such windows (MATTR); of all words "
        "where there are fewer; NaN without words",
    ),
)

_WORD = re.compile(r"[^\W_]+(?:['\u2019\u2011-][^\W_]+)*")
_SENTENCE_END = re.compile(r"(?<=[.!?])\s+|\n+")
_LIST_LINE = re.compile(r"\s*(?:[-*+•‣\u2013]|\(?\d{1,3}[.)]|\(?[A-Za-z][.)])\s+\S")
_MARKDOWN = re.compile(r"^ {0,3}#{1,6} +\S|\*\*[^\s*](?:[^*\n]*[^\s*])?\*\*|^ {0,3}(?:```|~~~)", re.MULTILINE)

# "May" is a month and "Might" a noun where they are capitalised; the other words are matched in any case.
_HEDGE = re.compile(
    r"\b(?:may|might"
    r"|(?i:maybe|perhaps|possibly|probably|presumably|supposedly|apparently|seemingly|arguably|likely|unlikely"
    r"|could|seems?|seemed|appears?|appeared|suggests?|tends? to|somewhat|roughly|approximately|generally|usually"
    r"|typically|often|sometimes|potentially|conceivably|in general|in some cases|to some extent|more or less"
    r"|kind of|sort of|i think|i believe|i guess|i suppose|i suspect|i assume|i imagine|i feel like|in my opinion"
    r"|in my view|as far as i know|it depends|depending on|not sure|not certain|i don't know|i do not know))\b"
)

_ADVERBS = r"(?:\s+(?:really|actually|just|also|ever|personally|honestly|simply|possibly|therefore|in good conscience))"
_DO_IT = (
    r"(?:help|assist|aid|support|provide|give|offer|answer|respond|reply|comply|fulfil+|do (?:that|this|so|it)|share"
    r"|tell you|teach|show you|explain how|create|write|generate|produce|make (?:that|this|a|an|up)|discuss|talk about"
    r"|engage|participate|take part|be (?:a )?part|encourage|condone|endorse|promote|advise|recommend any"
    r"|suggest (?:any|ways|or)|advocate|facilitate|contribute|continue|go along|repeat|say (?:that|such|anything)|fake"
    r"|pretend|joke|be involved|allow|disclose|reveal|speculate|complete|process|perform|carry out|instruct)"
)
_UNWILLING = (
    r"(?:can't|can not|cannot|won't|will not|could(?:n't| not)|shan't"
    r"|(?:am|'m|are|'re) (?:sorry,? but )?(?:not able|unable|not going|not willing|unwilling|not allowed|not permitted"
    r"|not programmed|not designed|not supposed|not here) to|(?:do not|don't) (?:want|wish|intend|plan) to"
    r"|would rather not|'d rather not|would prefer not to|'d prefer not to"
    r"|(?:do not|don't) think (?:that )?(?:i|we) (?:can|should|could|would))"
)
_MUST = r"(?: must| have to| will|'ll| am going to|'m going to| respectfully| politely){0,3}"
_AN_AI = r"as an ai(?: language model| assistant| model)?,? (?:i|my)\b[^.!?]{0,30}?"
_REFUSAL = re.compile(
    r"\b(?:"
    rf"(?:i|we) ?{_UNWILLING}{_ADVERBS}*\s+{_DO_IT}\b"
    r"|(?:sorry|afraid|apologi[sz]e),? (?:but |that )?i (?:can't|cannot|can not|won't|will not)(?: sorry)?[.!]"
    rf"|(?:i|we){_MUST} (?:refuse|decline) to\b"
    r"|(?:i|we)(?: must| have to| will|'ll| am going to|'m going to) (?:respectfully |politely )?(?:refuse|decline)\b"
    r"|(?:i am|i'm|i do not feel|i don't feel|i would not feel|i wouldn't feel|not) (?:really |very |at all )?"
    r"(?:un|not )?comfortable (?:with (?:that|this|the|your|helping|providing|giving)|helping|providing|giving|doing"
    r"|answering|sharing|talking|discussing|making|saying|writing|telling|continuing)"
    r"|(?:against|violates?|contrary to) my (?:programming|guidelines|principles|policy|policies|values|ethics|purpose)"
    r"|not (?:something|anything|a topic|a thing|information) (?:that )?(?:i|we)"
    r"(?: can| will| would| want| should| could|'m| am|'ll|'d)\b"
    r"|(?:inappropriate|unethical|not appropriate|not ethical|wrong|irresponsible) for me to"
    rf"|{_AN_AI}(?:can't|cannot|unable|not able|not allowed"
    r"|(?:do not|don't) (?:support|condone|promote|endorse|engage))"
    r"|my (?:programming|guidelines|principles|ethics|policies)"
    r" (?:do not|don't|does not|doesn't|prevents?|prohibits?|forbids?) "
    r")",
    re.IGNORECASE,
)


def text_features(texts: Sequence[str]) -> tuple[tuple[str, ...], np.ndarray]:
    """Compute the features of `FEATURES` for many texts; equal texts are computed once.

    Args:
        texts: Responses, without role markers.

    Returns:
        The names of the columns, and float64 [n_texts, n_features] with NaN where a feature is undefined.
    """
    place = {text: i for i, text in enumerate(dict.fromkeys(texts))}
    distinct = np.array([_features(text) for text in place], dtype=np.float64).reshape(-1, len(FEATURES))
    rows = np.array([place[text] for text in texts], dtype=np.int64)
    return tuple(feature.name for feature in FEATURES), distinct[rows]


def words_of(text: str) -> list[str]:
    """Return the words of a text: runs of letters and digits, joined by inner apostrophes and hyphens."""
    return _WORD.findall(text)


def sentences_of(text: str) -> list[str]:
    """Cut a text behind `.`, `!` or `?` before white space, and at line ends; pieces without a word are left out."""
    return [piece for piece in _SENTENCE_END.split(text) if _WORD.search(piece)]


def has_refusal(text: str) -> bool:
    """Tell whether the first sentences of a response hold a phrase of refusal.

    "Sorry" alone is none, nor is not knowing; unwillingness or inability to do what was asked is.

    This is the published definition of the feature `refusal_phrase`, which regressions rest on, and not the classifier
    of `datamodules/refusals.py`: that weighs some forty signs, takes six times as long (as long as all features
    together), and also calls a refusal what only objects to the request. Of XSTest's responses that people call some
    refusal this finds .89 (GPT-4) and .87 (Llama 2), and 1.00 and .98 of what it finds are; the classifier's agreement
    is in `experiments/benchmarks/refusals.py`.
    """
    opening = " ".join(" ".join(sentences_of(text)[:REFUSAL_SENTENCES]).replace("\u2019", "'").split())
    return _REFUSAL.search(opening) is not None


def sentiment(text: str) -> float:
    """Return the mean compound score of VADER over the sentences of a text, in [-1, 1]; NaN without sentences.

    The score of a whole text is no use: it nears -1 or 1 with length alone. For that reason, and because VADER takes
    quadratic time, a sentence that runs on is cut after every 100 words.
    """
    analyser = _analyser()
    pieces = [piece for sentence in sentences_of(text) for piece in _short_pieces(sentence)]
    scores = [float(analyser.polarity_scores(piece)["compound"]) for piece in pieces]
    return float(np.mean(scores)) if scores else np.nan


def lexical_diversity(words: Sequence[str], window: int = MATTR_WINDOW) -> float:
    """Return the moving-average type-token ratio (Covington and McFall 2010).

    Args:
        words: Words in order; case counts.
        window: Words a window; where there are fewer words, they are the one window.

    Returns:
        The mean share of distinct words, in (0, 1]; NaN without words.
    """
    if not words:
        return np.nan
    size = min(window, len(words))
    counts = Counter(words[:size])
    n_distinct = len(counts)
    for leaving, entering in zip(words, words[size:], strict=False):
        counts[entering] += 1
        counts[leaving] -= 1
        if not counts[leaving]:
            del counts[leaving]
        n_distinct += len(counts)
    return n_distinct / (size * (len(words) - size + 1))


def _features(text: str) -> tuple[float, ...]:
    text = text.strip()
    words = words_of(text)
    lines = [line for line in text.splitlines() if line.strip()]
    n_hedges = len(_HEDGE.findall(text.replace("\u2019", "'")))
    score = sentiment(text)
    is_known = not np.isnan(score)
    return (
        len(words),
        np.log1p(len(words)),
        len(text),
        has_refusal(text),
        100 * n_hedges / len(words) if words else np.nan,
        sum(_LIST_LINE.match(line) is not None for line in lines) / len(lines) if lines else np.nan,
        _MARKDOWN.search(text) is not None,
        text.count("?") + text.count("\uff1f"),
        score,
        score >= NEUTRAL_BELOW if is_known else np.nan,
        score <= -NEUTRAL_BELOW if is_known else np.nan,
        lexical_diversity([word.casefold() for word in words]),
    )


def _short_pieces(sentence: str) -> list[str]:
    tokens = sentence.split()
    starts = range(0, len(tokens), LONGEST_SENTENCE)
    return [" ".join(tokens[start : start + LONGEST_SENTENCE]) for start in starts]


@functools.cache
def _analyser() -> SentimentIntensityAnalyzer:
    with warnings.catch_warnings():
        # It opens its lexicon with codecs.open, which Python 3.14 deprecates.
        warnings.simplefilter("ignore", DeprecationWarning)
        return SentimentIntensityAnalyzer()
