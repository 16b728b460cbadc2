"""Which revision was fetched, with which content? What `sources.lock` in a data root holds."""

import re
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass
from pathlib import Path

from datamodules.download import lock_in_place
from datamodules.errors import InputError
from datamodules.files import is_unicode, read_json, write_json

LOCK_NAME = "sources.lock"
FIX = f"mend or delete {LOCK_NAME}; fetch writes it anew"


@dataclass(frozen=True, slots=True)
class LockedFile:
    """A fetched file: its path upstream, the sha256 of its bytes as hex, and their number."""

    upstream: str
    sha256: str
    size: int


@dataclass(frozen=True, slots=True)
class LockedSource:
    """What was fetched of a data set: repository, commit or record, and files by path under the data root."""

    repository: str
    revision: str
    files: dict[str, LockedFile]


def read_lock(root: Path) -> dict[str, LockedSource]:
    """Return what was fetched into a data root, by data set; nothing where there is no lock.

    Raises:
        InputError: A lock that cannot be read.
    """
    path = root / LOCK_NAME
    if not path.is_file():
        return {}
    content = read_json(path, FIX)
    try:
        return {_text(name): _locked_source(entry) for name, entry in content.items()}
    except (TypeError, ValueError, KeyError, AttributeError) as error:
        raise InputError(f"{path}, which holds something else", "what imprint data fetch writes", FIX) from error


def change_lock(root: Path, name: str, change: Callable[[LockedSource | None], LockedSource]) -> None:
    """Change the entry of one data set in the lock of a data root; what other processes write there stays.

    Args:
        root: The data root; where the change is none, nothing in it is written to.
        name: The data set.
        change: Returns the new entry, given the one that is there, which is None where there is none. May be called
            twice, and may raise: then nothing is changed.

    Raises:
        InputError: A lock that cannot be read.
    """
    before = read_lock(root).get(name)
    # Nothing new leaves a data root as it is, which may be one that others own.
    if change(before) == before:
        return
    with _held(root):
        locked = read_lock(root)
        _write(root, locked | {name: change(locked.get(name))})


@contextmanager
def _held(root: Path) -> Iterator[None]:
    """Wait until no other process changes the lock, and keep others from it, where the system can."""
    path = root / f"{LOCK_NAME}.held"
    while True:
        with path.open("ab") as file:
            if not lock_in_place(file, path, is_waiting=True):
                continue
            try:
                yield
            finally:
                # Where the system has no locks, another process may have it open or have removed it.
                with suppress(OSError):
                    path.unlink()
            return


def _write(root: Path, locked: dict[str, LockedSource]) -> None:
    content = {}
    for key, value in sorted(locked.items()):
        files = {path: asdict(file) for path, file in sorted(value.files.items())}
        content[key] = {"repository": value.repository, "revision": value.revision, "files": files}
    write_json(root / LOCK_NAME, content)


def _locked_source(entry: dict[str, object]) -> LockedSource:
    files = entry["files"]
    if not isinstance(files, dict):
        raise TypeError("files")
    locked = {_text(path): _locked_file(file) for path, file in files.items()}
    return LockedSource(_text(entry["repository"]), _text(entry["revision"]), locked)


def _locked_file(entry: dict[str, object]) -> LockedFile:
    sha256, size = _text(entry["sha256"]), entry["size"]
    if not isinstance(size, int):
        raise TypeError("size")
    if not re.fullmatch(r"[0-9a-f]{64}", sha256):
        raise ValueError("sha256")
    return LockedFile(_text(entry["upstream"]), sha256, size)


def _text(value: object) -> str:
    if not isinstance(value, str) or not is_unicode(value):
        raise TypeError("text")
    return value
