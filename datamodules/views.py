"""Which part of a dialogue is read, and how is it cut to length?"""

from dataclasses import dataclass
from typing import Literal, get_args

from datamodules.errors import InputError

ViewName = Literal["dialogue", "prompt", "response", "exchange"]
Truncation = Literal["head", "tail", "head_tail"]
# Of fewer tokens, most would be special ones.
SHORTEST = 8


@dataclass(frozen=True, slots=True)
class ViewRequest:
    """One way to read dialogues.

    Attributes:
        view: `dialogue` (everything), `prompt`, `response` (last assistant turn) or `exchange` (last human turn and
            last assistant turn; the human turn is cut before the response).
        truncation: What a cut keeps: `head`, `tail` or `head_tail` (first and last half).
        max_length: Tokens, special tokens included.
    """

    view: ViewName
    truncation: Truncation
    max_length: int

    def __post_init__(self) -> None:
        if self.view not in get_args(ViewName):
            raise InputError(f"view {self.view!r}", f"one of {', '.join(get_args(ViewName))}", "the view setting")
        if self.truncation not in get_args(Truncation):
            needed = f"one of {', '.join(get_args(Truncation))}"
            raise InputError(f"truncation {self.truncation!r}", needed, "the truncation setting")
        if self.max_length < SHORTEST:
            raise InputError(f"max_length {self.max_length}", f"at least {SHORTEST} tokens", "the max_length setting")

    @property
    def slug(self) -> str:
        """Name of the view in tables, e.g. `exchange-head-256`."""
        return f"{self.view}-{self.truncation}-{self.max_length}"


def cut_to_length(ids: list[int], boundary: int, room: int, truncation: Truncation) -> list[int]:
    """Cut token ids to `room`, the context before the focus.

    Args:
        ids: Token ids without special tokens; `ids[:boundary]` is the context, the rest the focus.
        boundary: Where the focus starts; 0 when there is no context.
        room: Tokens that fit.
        truncation: What is kept of the focus when it alone does not fit. The context keeps its head, so that the
            role marker and the start of the question stay.

    Returns:
        At most `room` ids; all of them when they fit.
    """
    if len(ids) <= room:
        return ids
    context, focus = ids[:boundary], ids[boundary:]
    if len(focus) <= room:
        return context[: room - len(focus)] + focus
    match truncation:
        case "head":
            return focus[:room]
        case "tail":
            return focus[len(focus) - room :]
        case "head_tail":
            head = (room + 1) // 2
            return focus[:head] + focus[len(focus) - (room - head) :]
