"""How does one file arrive whole and verified, or not at all?

The bytes go into `NAME.part` beside the target, which is kept when a download breaks off, also from one process to the
next, and is continued where the server confirms that it still has the same file. Only a complete and verified file gets
its name.
"""

import errno
import hashlib
import json
import os
import re
import shutil
import sys
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import BinaryIO

import requests

from datamodules.errors import InputError
from datamodules.web import Address, TryAgain, Web, WebError, body, opened, persistently

OpenBar = Callable[[str, int, str], AbstractContextManager[Callable[[int], None]]]
LFS_POINTER = "a git-LFS pointer"
WEB_PAGE = "a web page (HTML)"
ROOT_FIX = "name another data root with --root"


@dataclass(frozen=True, slots=True)
class Expected:
    """What is known of a file before it arrives.

    Attributes:
        size: Bytes, where known.
        digest: `sha256:<hex>`, `md5:<hex>` or `git-sha1:<hex>` (of a git blob); empty where unknown.
        stated_by: Who says so.
        remedy: What helps where a file differs, beside fetching again; empty where nothing does.
    """

    size: int | None = None
    digest: str = ""
    stated_by: str = ""
    remedy: str = ""


@dataclass(frozen=True, slots=True)
class Arrived:
    """A verified file: its sha256 as hex and its size in bytes."""

    sha256: str
    size: int


def file_digests(path: Path, *kinds: str) -> dict[str, str]:
    """Return digests of a file's bytes as `<kind>:<hex>`, by kind: sha256, md5, git-sha1 (as git names a blob)."""
    hashes = {kind: hashlib.new(kind.removeprefix("git-"), usedforsecurity=False) for kind in kinds}
    if "git-sha1" in hashes:
        hashes["git-sha1"].update(b"blob %d\0" % path.stat().st_size)
    with path.open("rb") as file:
        while piece := file.read(1 << 20):
            for state in hashes.values():
                state.update(piece)
    return {kind: f"{kind}:{state.hexdigest()}" for kind, state in hashes.items()}


def check_file(path: Path, expected: Expected) -> Arrived | str:
    """Return a file's sha256 and size, or how it differs from what is expected, in words."""
    size = path.stat().st_size
    if expected.size is not None and size != expected.size:
        return f"{size:,} bytes where {expected.stated_by} states {expected.size:,}"
    kind = expected.digest.partition(":")[0] or "sha256"
    digests = file_digests(path, *dict.fromkeys(("sha256", kind)))
    if expected.digest and digests[kind] != expected.digest:
        return f"{digests[kind]} where {expected.stated_by} states {expected.digest}"
    return Arrived(digests["sha256"].removeprefix("sha256:"), size)


def content_instead(path: Path) -> str:
    """Return what a file holds in place of data, in words; empty where nothing speaks against it."""
    with path.open("rb") as file:
        head = file.read(1024)
    if not head:
        return "an empty file"
    if head.startswith(b"version https://git-lfs.github.com/spec/"):
        return LFS_POINTER
    return WEB_PAGE if head.lstrip().lower().startswith((b"<!doctype html", b"<html")) else ""


def lock_in_place(file: BinaryIO, path: Path, *, is_waiting: bool = False) -> bool:
    """Lock an open file for this process, where the system can; it goes with the file's closing.

    Args:
        file: What was opened at `path`.
        path: Its place.
        is_waiting: Wait for another process that has it.

    Returns:
        Whether the file still is the one at `path`: who had it before may have renamed or removed it.

    Raises:
        BlockingIOError: Another process has it, and nobody waits.
    """
    if sys.platform == "win32":
        return True
    import fcntl

    try:
        fcntl.flock(file, fcntl.LOCK_EX if is_waiting else fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        raise
    except OSError:
        return True  # a file system without locks
    try:
        return os.path.samestat(os.fstat(file.fileno()), path.stat())
    except FileNotFoundError:
        return False


def download(address: Address, target: Path, expected: Expected, web: Web, open_bar: OpenBar) -> Arrived:
    """Download one file, continuing what an earlier attempt left; `target` is replaced once all is verified.

    Args:
        address: Where it lies.
        target: Where it goes; folders are made.
        expected: What it must be.
        web: Session and patience.
        open_bar: Opens a progress bar, given a label, the bytes to come and their unit.

    Raises:
        WebError: The server cannot be reached or refuses, or sends something else.
        InputError: The disk is full or cannot be written, or another process downloads the same file.
    """
    part = _Part(target)
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        with part.held() as file:
            try:
                arrived = _complete(address, part, file, expected, web, open_bar)
            except WebError:
                part.drop_if_empty(file)
                raise
            part.finish(file)
    except OSError as error:
        raise _disk_error(error, target, part.path) from error
    return arrived


@dataclass(frozen=True, slots=True)
class _State:
    """What a `.part` file is the beginning of: `etag` as the server gave it, `total` bytes where it said how many."""

    url: str
    etag: str
    total: int | None


@dataclass(frozen=True, slots=True)
class _Part:
    """The unfinished file beside a target, and a small file beside that which says what it is the beginning of."""

    target: Path

    @property
    def path(self) -> Path:
        return self.target.with_name(f"{self.target.name}.part")

    @property
    def _state_path(self) -> Path:
        return self.target.with_name(f"{self.target.name}.part.state")

    @contextmanager
    def held(self) -> Iterator[BinaryIO]:
        """Open the part for this process alone, where the system can: two would spoil each other's bytes.

        Raises:
            InputError: Another process has it.
        """
        while True:
            with self.path.open("ab") as file:
                try:
                    is_in_place = lock_in_place(file, self.path)
                except BlockingIOError as error:
                    found = f"another process that downloads {self.target}"
                    raise InputError(found, "one at a time", "wait until it is done, then fetch again") from error
                # What another process gave its name meanwhile is no part any more, and must not be written to.
                if is_in_place:
                    yield file
                    return

    def state(self, address: Address) -> _State | None:
        """Return what is there, where it is the beginning of the same address and the server can confirm that."""
        try:
            state = _State(**json.loads(self._state_path.read_text(encoding="utf-8")))
            is_usable = state.url == address.url and state.etag[:1] == '"' and self.path.stat().st_size > 0
        except (OSError, ValueError, TypeError):
            return None
        return state if is_usable else None

    def begin(self, file: BinaryIO, state: _State) -> None:
        self.empty(file)
        self._state_path.write_text(json.dumps(asdict(state)), encoding="utf-8")

    def empty(self, file: BinaryIO) -> None:
        file.truncate(0)
        self._state_path.unlink(missing_ok=True)

    def finish(self, file: BinaryIO) -> None:
        os.fsync(file.fileno())
        _close_on_windows(file)
        os.replace(self.path, self.target)
        self._state_path.unlink(missing_ok=True)

    def drop_if_empty(self, file: BinaryIO) -> None:
        if self.path.is_file() and not self.path.stat().st_size:
            _close_on_windows(file)
            self.path.unlink()
            self._state_path.unlink(missing_ok=True)


def _close_on_windows(file: BinaryIO) -> None:
    # There, what is open can be neither renamed nor removed; elsewhere the lock is kept until that is done.
    if sys.platform == "win32":
        file.close()


def _complete(
    address: Address, part: _Part, file: BinaryIO, expected: Expected, web: Web, open_bar: OpenBar
) -> Arrived:
    """Bring the part to its full length and verify it, if need be once more from the start."""
    while True:
        was_continued = persistently(lambda: _receive(address, part, file, web, open_bar), address, web)
        try:
            return _verified(part, expected, address)
        except WebError:
            part.empty(file)
            if not was_continued:
                raise
        web.say(f"  {part.target.name}: what an earlier attempt left does not fit; starting over")


def _receive(address: Address, part: _Part, file: BinaryIO, web: Web, open_bar: OpenBar) -> bool:
    """Bring the part to its full length; tell whether it goes on where an earlier attempt stopped."""
    state = part.state(address)
    offset = part.path.stat().st_size if state is not None else 0
    if state is not None and offset == state.total:
        return True
    headers = {"Range": f"bytes={offset}-", "If-Range": state.etag} if state is not None else {}
    try:
        with opened(address, web, headers) as response:
            is_rest = response.status_code == 206
            if is_rest and (state is None or not _continues(response, state, offset)):
                part.empty(file)
                raise TryAgain("another part of the file than was asked for", after=0.0)
            if not is_rest:
                offset, state = 0, _state_of(response, address)
                part.begin(file, state)
            assert state is not None
            _append(response, part, file, state, web, open_bar)
    except TryAgain as failure:
        if failure.status == 416:
            part.empty(file)
        raise
    if state.total is not None and part.path.stat().st_size != state.total:
        raise TryAgain("the connection broke off")
    return is_rest


def _append(
    response: requests.Response, part: _Part, file: BinaryIO, state: _State, web: Web, open_bar: OpenBar
) -> None:
    here = part.path.stat().st_size
    to_come = max(state.total - here, 0) if state.total is not None else 0
    free = shutil.disk_usage(part.path.parent).free
    if to_come > free:
        raise OSError(errno.ENOSPC, f"{to_come:,} bytes are to come and {free:,} are free")
    with open_bar(part.target.name, to_come, "bytes") as advance:
        for piece in body(response, web):
            file.write(piece)
            file.flush()
            advance(len(piece))


def _continues(response: requests.Response, state: _State, offset: int) -> bool:
    """Tell whether a 206 answer is the rest of the same file."""
    given = re.fullmatch(r"bytes (\d+)-(\d+)/(\d+|\*)", response.headers.get("Content-Range", "").strip())
    if given is None or response.headers.get("ETag", state.etag) != state.etag:
        return False
    first, last, total = int(given[1]), int(given[2]), given[3]
    is_same_length = total == "*" or state.total is None or int(total) == state.total
    return first == offset and is_same_length and (state.total is None or last + 1 == state.total)


def _state_of(response: requests.Response, address: Address) -> _State:
    """Read what an answer says of the whole file.

    Raises:
        WebError: It is a web page, or packed on the way.
    """
    if "html" in response.headers.get("Content-Type", ""):
        raise _no_data(WEB_PAGE, address)
    if response.headers.get("Content-Encoding", "identity") not in ("identity", ""):
        raise _no_data(f"a body packed as {response.headers['Content-Encoding']}, which nobody asked for,", address)
    length = response.headers.get("Content-Length", "")
    return _State(address.url, response.headers.get("ETag", ""), int(length) if length.isdecimal() else None)


def _verified(part: _Part, expected: Expected, address: Address) -> Arrived:
    """Return what arrived.

    Raises:
        WebError: It is not what was asked for.
    """
    instead = content_instead(part.path)
    if instead == LFS_POINTER:
        raise WebError(
            f"{instead} in place of the data at {address.place}",
            "the data, which the repository keeps in git-LFS",
            f"clone the repository with git-lfs and copy the file to {part.target}",
        )
    if instead:
        raise _no_data(instead, address)
    checked = check_file(part.path, expected)
    if isinstance(checked, Arrived):
        return checked
    fix = f"fetch again, or set {address.mirror_variable} to a mirror"
    if expected.remedy:
        fix += f", or {expected.remedy}"
    raise WebError(f"{checked}, in what {address.place} sent", "the file that was asked for", fix)


def _no_data(what: str, address: Address) -> WebError:
    return WebError(
        f"{what} in place of the data at {address.place}",
        "the file's bytes",
        f"check the proxy, a log-in page of the network and {address.mirror_variable}",
    )


def _disk_error(error: OSError, target: Path, part: Path) -> InputError:
    if error.errno in (errno.ENOSPC, errno.EDQUOT):
        return InputError(
            f"no space left for {target} ({error.strerror})",
            "room on the disk",
            f"free some and fetch again (it goes on with {part}, which may be deleted), or {ROOT_FIX}",
        )
    found = f"{error.filename or target}, which cannot be written ({error.strerror or type(error).__name__})"
    return InputError(found, "a data root to write to", ROOT_FIX)
