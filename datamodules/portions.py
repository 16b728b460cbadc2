"""How many texts are worked on together? As many as a tokenizer has room for."""

from collections.abc import Callable, Iterable, Iterator
from typing import TypeVar

T = TypeVar("T")

# A tokenizer needs some hundred bytes a character of the texts that it is given together.
CHARACTERS_AT_ONCE = 500_000


def portions(items: Iterable[T], n_characters: Callable[[T], int]) -> Iterator[list[T]]:
    """Yield items in lists of about `CHARACTERS_AT_ONCE` characters, at least one item each.

    Args:
        items: What holds texts.
        n_characters: Characters of one item.
    """
    portion: list[T] = []
    size = 0
    for item in items:
        portion.append(item)
        size += n_characters(item)
        if size >= CHARACTERS_AT_ONCE:
            yield portion
            portion, size = [], 0
    if portion:
        yield portion
