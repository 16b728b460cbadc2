"""How does each published layout spell a comparison of two responses?

A layout is known by the fields of its rows. Each parser turns one row into comparisons, or raises a `RowError` or
`DialogueError` whose `reason` the reader counts.
"""

import math
import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from datamodules.dialogue import Dialogue, DialogueError, Turn, parse_hh, parse_markdown_roles, parse_turns
from datamodules.errors import Rejected
from datamodules.text_length import MAX_CHARACTERS

Row = dict[str, Any]

# The Alpaca template around an instruction; the sentence in front of it varies with whether there is an input.
_ALPACA = re.compile(
    r"\A(?:Below is an instruction.*?)?### Instruction:(?P<instruction>.*?)"
    r"(?:\n### Input:(?P<input>.*?))?(?:\n### Response:\s*)?\Z",
    re.DOTALL,
)


class RowError(Rejected):
    """A row that states no comparison."""


@dataclass(frozen=True, slots=True)
class Comparison:
    """What one row says: `first` is preferred, unless the two are tied.

    `suffix` tells comparisons of one row apart and is empty where a row holds one.
    """

    first: Dialogue
    second: Dialogue
    is_tie: bool
    suffix: str = ""


@dataclass(frozen=True, slots=True)
class Layout:
    """The fields that a layout needs, and the parser of its rows; the parser's flag asks for all ordered pairs."""

    needed: tuple[str, ...]
    parse: Callable[[Row, bool], list[Comparison]]


def exchange(prompt: str, response: str) -> Dialogue:
    """Return the dialogue of one question and one answer, white space around both dropped."""
    return Dialogue((Turn("human", prompt.strip()), Turn("assistant", response.strip())))


def string_of(value: Any) -> str:
    """Return a cell's text.

    Raises:
        RowError: `not-a-string` (None and NaN too), `above-a-million-characters`, or `not-unicode` for lone surrogates,
            which no UTF-8 file can hold.
    """
    if not isinstance(value, str):
        raise RowError("not-a-string")
    if len(value) > MAX_CHARACTERS:
        raise RowError("above-a-million-characters")
    try:
        value.encode("utf-8")
    except UnicodeEncodeError as error:
        raise RowError("not-unicode") from error
    return value


def score_of(value: Any) -> float:
    """Return a cell's score.

    Raises:
        RowError: `score-not-a-number` (None, NaN, infinities, whole numbers beyond 1e308, booleans and texts).
    """
    is_number = isinstance(value, int | float) and not isinstance(value, bool)
    try:
        score = float(value) if is_number else math.nan
    except OverflowError:
        score = math.inf
    if not math.isfinite(score):
        raise RowError("score-not-a-number")
    return score


def strip_alpaca_template(text: str) -> str:
    r"""Return instruction + "\n\n" + input from a prompt in the Alpaca template; other texts come back as they are."""
    match = _ALPACA.match(text)
    return _with_input(match["instruction"], match["input"] or "") if match else text


def _with_input(instruction: str, more: str) -> str:
    return "\n\n".join(part for part in (instruction.strip(), more.strip()) if part)


def _ordered(dialogues: tuple[Dialogue, Dialogue], scores: tuple[float, float]) -> Comparison:
    """Put the higher score first; equal scores are a tie, in the order of the file."""
    first, second = dialogues if scores[0] >= scores[1] else dialogues[::-1]
    return Comparison(first, second, is_tie=scores[0] == scores[1])


def _two(value: Any, reason: str) -> tuple[Any, Any]:
    if not isinstance(value, list) or len(value) != 2:
        raise RowError(reason)
    return value[0], value[1]


def _tie_of(row: Row) -> bool:
    tie = row.get("tie")
    if tie is not None and not isinstance(tie, bool):
        raise RowError("tie-not-a-boolean")
    return bool(tie)


def _dialogues(row: Row, _all_pairs: bool) -> list[Comparison]:
    chosen, rejected = (parse_hh(string_of(row[side])) for side in ("chosen", "rejected"))
    return [Comparison(chosen, rejected, _tie_of(row))]


def _answer_to(prompt: str, response: str) -> Dialogue:
    """Join a prompt and a response; a prompt that starts with a role marker is a dialogue so far, not one turn."""
    try:
        turns = parse_turns(prompt)
    except DialogueError:
        return exchange(prompt, response)
    if response.lstrip().startswith(prompt.strip()):
        return parse_hh(response)
    if turns[-1] == Turn("assistant", ""):
        turns = turns[:-1]
    return Dialogue((*turns, Turn("assistant", response.strip())))


def _prompted(row: Row, _all_pairs: bool) -> list[Comparison]:
    prompt, chosen, rejected = (string_of(row[field]) for field in ("prompt", "chosen", "rejected"))
    return [Comparison(_answer_to(prompt, chosen), _answer_to(prompt, rejected), _tie_of(row))]


def _webgpt(row: Row, _all_pairs: bool) -> list[Comparison]:
    question = row["question"]
    prompt = string_of(question.get("full_text") if isinstance(question, dict) else question)
    scores = score_of(row["score_0"]), score_of(row["score_1"])
    answers = string_of(row["answer_0"]), string_of(row["answer_1"])
    return [_ordered((exchange(prompt, answers[0]), exchange(prompt, answers[1])), scores)]


def _scored_texts(row: Row, _all_pairs: bool) -> list[Comparison]:
    texts, scores = _two(row["text"], "not-two-answers"), _two(row["score"], "not-two-scores")
    dialogues = parse_markdown_roles(string_of(texts[0])), parse_markdown_roles(string_of(texts[1]))
    return [_ordered(dialogues, (score_of(scores[0]), score_of(scores[1])))]


def _scored_responses(row: Row, all_pairs: bool) -> list[Comparison]:
    """Pair best with worst (the earlier where scores are equal), or every response with every lower one."""
    answers = row["responses_and_scores"]
    if not isinstance(answers, list) or not all(isinstance(answer, dict) for answer in answers):
        raise RowError("not-a-list-of-answers")
    if len(answers) < 2:
        raise RowError("fewer-than-two-answers")
    prompt = strip_alpaca_template(string_of(row["user_input"]))
    dialogues = [exchange(prompt, string_of(answer.get("response"))) for answer in answers]
    scores = [score_of(answer.get("score")) for answer in answers]
    best, worst = scores.index(max(scores)), scores.index(min(scores))
    if best == worst:
        return [Comparison(dialogues[0], dialogues[1], is_tie=True)]
    if not all_pairs:
        return [Comparison(dialogues[best], dialogues[worst], is_tie=False)]
    return [
        Comparison(dialogues[high], dialogues[low], is_tie=False, suffix=f"-{high}-{low}")
        for high in range(len(scores))
        for low in range(len(scores))
        if scores[high] > scores[low]
    ]


def _better_worse(row: Row, _all_pairs: bool) -> list[Comparison]:
    more = row.get("input")
    prompt = _with_input(string_of(row["instruction"]), "" if more is None else string_of(more))
    better, worse = _two(row["output"], "not-two-answers")
    return [Comparison(exchange(prompt, string_of(better)), exchange(prompt, string_of(worse)), is_tie=False)]


DIALOGUES = Layout(("chosen", "rejected"), _dialogues)
PROMPTED = Layout(("prompt", "chosen", "rejected"), _prompted)
WEBGPT = Layout(("question", "answer_0", "answer_1", "score_0", "score_1"), _webgpt)
SCORED_TEXTS = Layout(("text", "score"), _scored_texts)
GPT4_LLM = Layout(("user_input", "responses_and_scores"), _scored_responses)
BETTER_WORSE = Layout(("instruction", "output"), _better_worse)
