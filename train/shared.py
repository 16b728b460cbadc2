"""What do several runs of one process have in common? It is read and built once for all of them."""

from collections import OrderedDict
from collections.abc import Callable
from dataclasses import asdict, is_dataclass
from typing import Any, TypeVar, cast

from datamodules.files import digest_of
from train.config import plain

T = TypeVar("T")


class Shared:
    """Keeps what was made last, so that runs with the same settings need not make it again.

    For a sweep, whose files stay as they are while it lasts: they are read once. Whatever is kept must not be changed
    by the runs that use it.

    Args:
        size: Most things that are kept of one kind; the one that was longest out of use goes first.
    """

    def __init__(self, size: int = 2) -> None:
        self._size = size
        self._kept: dict[str, OrderedDict[str, Any]] = {}

    def once(self, kind: str, settings: list[Any], make: Callable[[], T]) -> T:
        """Return what was made of equal settings before, or make it.

        Args:
            kind: What it is.
            settings: All that it depends on: plain values, paths and dataclasses of them.
            make: Makes it.
        """
        kept = self._kept.setdefault(kind, OrderedDict())
        key = digest_of([plain(asdict(part)) if is_dataclass(part) else str(part) for part in settings])  # type: ignore[arg-type]
        if key not in kept:
            made = make()
            kept[key] = made
        kept.move_to_end(key)
        while len(kept) > self._size:
            kept.popitem(last=False)
        return cast(T, kept[key])
