r"""Who said what in a dialogue, and what is its canonical text, seen whole or in part?

A dialogue is a sequence of turns that ends with an assistant turn and has a human turn before that one. Every source is
rendered one way: ``Human: ..`` and ``Assistant: ..`` paragraphs joined by blank lines.

The parsing rule, decided on hh-rlhf and WebGPT as published:

* A role marker counts only where a paragraph starts: at the start of the text or right after a blank line. "Assistant:"
  inside a sentence or after a single line break, "Humans:", and a second marker behind the first ("Assistant: Human:")
  are text. Nothing depends on where the last "Assistant:" happens to stand.
* Consecutive turns of one role stay separate turns. Models do write "\n\nAssistant:" inside an answer; the response is
  then the last such turn, and the prompts of the pair may differ. Readers count both.
* Empty turns are turns, the last one included; readers count empty responses.
* White space around a turn is dropped, white space inside it is kept.
* Everything else is a `DialogueError`, whose `reason` readers count: `empty-text`, `no-role-marker`,
  `text-before-first-role`, `ends-with-human`, `no-human-turn` (none before the final assistant turn), `not-canonical`.
"""

import re
import unicodedata
from dataclasses import dataclass
from typing import Literal, assert_never

from datamodules.errors import Rejected
from datamodules.views import ViewName

Role = Literal["human", "assistant"]

_PLAIN_MARKER = re.compile(r"(?:\A\s*|\n\n)(Human|Assistant):")
_MARKDOWN_MARKER = re.compile(r"(?:\A\s*|\n\n)## (Human|Assistant):[ \t]*(?=\n|\Z)")


class DialogueError(Rejected):
    """A text that is no dialogue."""


@dataclass(frozen=True, slots=True)
class Turn:
    """One thing said by one role."""

    role: Role
    text: str

    def render(self) -> str:
        """Return the canonical text of the turn, ``Human: ..`` or ``Assistant: ..``."""
        return f"{self.role.capitalize()}: {self.text}"


@dataclass(frozen=True, slots=True)
class Dialogue:
    """Turns that end with an assistant turn and have a human turn before it.

    Raises:
        DialogueError: `ends-with-human` or `no-human-turn`.
    """

    turns: tuple[Turn, ...]

    def __post_init__(self) -> None:
        if all(turn.role != "human" for turn in self.turns):
            raise DialogueError("no-human-turn")
        if self.turns[-1].role == "human":
            raise DialogueError("ends-with-human")

    @property
    def response(self) -> str:
        """Text of the last assistant turn, without a role marker."""
        return self.turns[-1].text

    def render(self) -> str:
        """Return the canonical text of the whole dialogue."""
        return render_turns(self.turns)


def render_turns(turns: tuple[Turn, ...]) -> str:
    """Return the canonical text of some turns: one paragraph a turn."""
    return "\n\n".join(turn.render() for turn in turns)


def said_before(dialogue: Dialogue) -> str:
    """Return what both speakers said before the last turn, as it is read: without role markers."""
    return "\n\n".join(turn.text for turn in dialogue.turns[:-1])


def view_parts(dialogue: Dialogue, view: ViewName) -> tuple[str, str]:
    """Return (context, focus) of a view; the two strings joined are its canonical text.

    A cut to a token budget takes from the context before it takes from the focus.

    * `dialogue`: no context, everything.
    * `prompt`: no context, everything before the last assistant turn, without a trailing "Assistant:".
    * `response`: no context, the text of the last assistant turn alone, without a role marker.
    * `exchange`: the last human turn as context, the last assistant turn as focus, both with role markers.
    """
    match view:
        case "dialogue":
            return "", dialogue.render()
        case "prompt":
            return "", render_turns(dialogue.turns[:-1])
        case "response":
            return "", dialogue.response
        case "exchange":
            question = next(turn for turn in reversed(dialogue.turns) if turn.role == "human")
            return f"{question.render()}\n\n", dialogue.turns[-1].render()
        case _:
            assert_never(view)


def parse_turns(text: str) -> tuple[Turn, ...]:
    """Split a text in the hh-rlhf layout into turns; it may end with a human turn, as a bare prompt does.

    Raises:
        DialogueError: `empty-text`, `no-role-marker` or `text-before-first-role`.
    """
    return _split(text, _PLAIN_MARKER)


def parse_hh(text: str) -> Dialogue:
    r"""Parse the hh-rlhf layout, "\n\nHuman: ..\n\nAssistant: ..", with or without the leading blank line.

    Raises:
        DialogueError: The text breaks the parsing rule of this module.
    """
    return Dialogue(parse_turns(text))


def parse_markdown_roles(text: str) -> Dialogue:
    r"""Parse the layout "## Human:\n..\n\n## Assistant:\n..", which copies of WebGPT comparisons use.

    Raises:
        DialogueError: The text breaks the parsing rule of this module.
    """
    return Dialogue(_split(text, _MARKDOWN_MARKER))


def parse_canonical(text: str) -> Dialogue:
    """Parse a canonical rendering: the inverse of `Dialogue.render`.

    Raises:
        DialogueError: The text breaks the parsing rule of this module, or (`not-canonical`) is a dialogue that would be
            rendered otherwise.
    """
    dialogue = parse_hh(text)
    if dialogue.render() != text:
        raise DialogueError("not-canonical")
    return dialogue


def normalise(text: str) -> str:
    """Fold what does not tell two prompts apart: compatibility forms (NFKC), case and white space."""
    return " ".join(unicodedata.normalize("NFKC", text).casefold().split())


def _split(text: str, marker: re.Pattern[str]) -> tuple[Turn, ...]:
    if not text.strip():
        raise DialogueError("empty-text")
    matches = list(marker.finditer(text))
    if not matches:
        raise DialogueError("no-role-marker")
    if matches[0].start() > 0:
        raise DialogueError("text-before-first-role")
    ends = [match.start() for match in matches[1:]] + [len(text)]
    return tuple(
        Turn("human" if match[1] == "Human" else "assistant", text[match.end() : end].strip())
        for match, end in zip(matches, ends, strict=True)
    )
