"""How is a response worded differently without a model, and with the same meaning?

Named operations change the surface of an English text. Which are tried, and in which direction, is drawn by a sha256 of
(seed, key, operation): the same call gives the same text on every machine, and since the draw does not look at the
text, the effect of an operation on a reward is that of a randomised treatment.

Nothing is changed inside code (fences, backticks, indented or code-like lines), URLs, mail addresses, links, anything
with a digit, quoted text (its marks may change) and role markers; see `text_spans`. Where quotation marks do not pair
up, the paragraphs in doubt are left alone.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from datamodules.draw import Draw
from datamodules.errors import InputError
from datamodules.perturb_surface import casing, dashes, final_stop, politeness, quotes, spaces
from datamodules.perturb_words import contractions, spelling, synonyms
from datamodules.text_spans import put_back, split_kept

# In this order, since one may make a place for the next. A text comes with its kept parts taken out.
OPERATIONS: dict[str, Callable[[str, Draw], str]] = {
    "contractions": contractions,
    "spelling": spelling,
    "synonyms": synonyms,
    "dashes": dashes,
    "casing": casing,
    "politeness": politeness,
    "final-stop": final_stop,
    "spaces": spaces,
    "quotes": quotes,
}


@dataclass(frozen=True, slots=True)
class Perturbed:
    """A perturbed text.

    Attributes:
        text: The text.
        operations: The operations that changed it, in order; none where it is identical to the original.
    """

    text: str
    operations: tuple[str, ...]

    @property
    def is_identical(self) -> bool:
        """Whether nothing was changed."""
        return not self.operations


def perturb(
    text: str, key: str, seed: int = 0, operations: Sequence[str] = tuple(OPERATIONS), probability: float = 0.5
) -> Perturbed:
    """Reword one response: a pure function of its arguments.

    Args:
        text: A response, without role marker.
        key: What the response is, such as a pair and side; other keys draw otherwise.
        seed: Seed of all draws.
        operations: Names of `OPERATIONS` to draw from; they are applied in the order of `OPERATIONS`.
        probability: Chance that an operation is tried; each is drawn by itself.

    Raises:
        InputError: An unknown operation, none at all, or a probability that is none.
    """
    _check(operations, probability)
    marked, parts = split_kept(text)
    changed_by = []
    for name in OPERATIONS:
        draw = Draw(seed, key, name)
        if name not in operations or draw.fraction("tried") >= probability:
            continue
        changed = OPERATIONS[name](marked, draw)
        if changed != marked:
            marked = changed
            changed_by.append(name)
    result = put_back(marked, parts)
    # Two operations may undo each other.
    return Perturbed(result, tuple(changed_by) if result != text else ())


def _check(operations: Sequence[str], probability: float) -> None:
    unknown = [name for name in operations if name not in OPERATIONS]
    if unknown or not operations:
        found = f"perturbation {', '.join(unknown)}" if unknown else "no perturbation"
        raise InputError(found, f"one or more of {', '.join(OPERATIONS)}", "the operations setting")
    if not 0 < probability <= 1:
        raise InputError(f"probability {probability}", "a number above 0, at most 1", "the probability setting")
