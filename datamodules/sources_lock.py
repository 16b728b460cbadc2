"""Which revision was fetched, with which content? What `sources.lock` in a data root holds."""

import re
from dataclasses import asdict, dataclass
from pathlib import Path

from datamodules.errors import InputError
from datamodules.files import read_json, write_json

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
        return {name: _locked_source(entry) for name, entry in content.items()}
    except (TypeError, ValueError, KeyError, AttributeError) as error:
        raise InputError(f"{path}, which holds something else", "what imprint data fetch writes", FIX) from error


def write_lock(root: Path, name: str, entry: LockedSource) -> None:
    """Put the entry of one data set into the lock of a data root; others stay, also those written meanwhile."""
    locked = read_lock(root) | {name: entry}
    content = {}
    for key, value in sorted(locked.items()):
        files = {path: asdict(file) for path, file in sorted(value.files.items())}
        content[key] = {"repository": value.repository, "revision": value.revision, "files": files}
    write_json(root / LOCK_NAME, content)


def _locked_source(entry: dict[str, object]) -> LockedSource:
    repository, revision, files = entry["repository"], entry["revision"], entry["files"]
    if not (isinstance(repository, str) and isinstance(revision, str) and isinstance(files, dict)):
        raise TypeError("repository, revision, files")
    return LockedSource(repository, revision, {path: _locked_file(file) for path, file in files.items()})


def _locked_file(entry: dict[str, object]) -> LockedFile:
    upstream, sha256, size = entry["upstream"], entry["sha256"], entry["size"]
    if not (isinstance(upstream, str) and isinstance(sha256, str) and isinstance(size, int)):
        raise TypeError("upstream, sha256, size")
    if not re.fullmatch(r"[0-9a-f]{64}", sha256):
        raise ValueError("sha256")
    return LockedFile(upstream, sha256, size)
