"""How are files read strictly and written whole?"""

import codecs
import gzip
import hashlib
import json
import os
import reprlib
import tempfile
import zlib
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any

from datamodules.errors import InputError


@contextmanager
def whole_file(path: Path) -> Iterator[Path]:
    """Yield a temporary path beside `path` that is renamed to it on success and removed on failure."""
    path.parent.mkdir(parents=True, exist_ok=True)
    handle, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.", suffix=".part")
    os.close(handle)
    temporary = Path(name)
    try:
        yield temporary
        # mkstemp makes files private; give the result the mode that open() would have given it.
        umask = os.umask(0)
        os.umask(umask)
        temporary.chmod(0o666 & ~umask)
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)


def write_text(path: Path, text: str) -> None:
    """Write `text` as UTF-8, whole or not at all."""
    with whole_file(path) as temporary:
        temporary.write_text(text, encoding="utf-8")


def write_json(path: Path, value: Any) -> None:
    """Write `value` as indented JSON, whole or not at all; NaN raises ValueError."""
    write_text(path, json.dumps(value, indent=2, ensure_ascii=False, allow_nan=False) + "\n")


def require_file(path: Path, fix: str) -> Path:
    """Return `path`, or raise InputError when it is not a readable file."""
    if not path.is_file():
        what = "a folder" if path.is_dir() else "no file"
        raise InputError(f"{what} at {path}", "a readable file", fix)
    return path


# A row above this is no row of text: a file without line breaks, or something pasted into one.
MOST_ROW_BYTES = 16 * 2**20


@contextmanager
def open_bytes(path: Path, fix: str) -> Iterator[IO[bytes]]:
    """Open a file for reading bytes, gunzipped when its name ends in .gz.

    Raises:
        InputError: No such file, or (also later, while it is read) not gzip though named .gz.
    """
    require_file(path, fix)
    if path.suffix != ".gz":
        with path.open("rb") as file:
            yield file
        return
    try:
        with gzip.open(path, "rb") as unzipped:
            yield unzipped  # type: ignore[misc]  # GzipFile is a binary file in all but name
    except gzip.BadGzipFile as error:
        found = f"{path}, which is not a whole gzip file ({error})"
        raise InputError(found, "a gzip file", f"drop the ending .gz if it is a plain file, or {fix}") from error
    except (EOFError, zlib.error) as error:
        raise InputError(f"{path}, which is not a whole gzip file ({error})", "a gzip file", fix) from error


def iter_lines(path: Path, fix: str) -> Iterator[tuple[int, str]]:
    """Yield the number, from 1, and the text of each line with its line break; a byte order mark is no text.

    Raises:
        InputError: As `open_bytes`, a line above 16 MiB, or not UTF-8 (the line is named).
    """
    with open_bytes(path, fix) as file:
        number = 0
        while line := file.readline(MOST_ROW_BYTES + 1):
            number += 1
            if len(line) > MOST_ROW_BYTES:
                found = f"{path}, line {number}, which is longer than {MOST_ROW_BYTES // 2**20} MiB"
                raise InputError(found, "one row a line", f"cut or remove that row, or {fix}")
            if number == 1:
                line = line.removeprefix(codecs.BOM_UTF8)
                # The first line of an archive may happen to be UTF-8.
                if line.startswith(tuple(_SIGNATURES)):
                    raise not_utf8(path, number, line, fix)
            try:
                text = line.decode("utf-8")
            except UnicodeDecodeError as error:
                raise not_utf8(path, number, line if number == 1 else b"", fix) from error
            yield number, text


def read_text(path: Path, fix: str) -> str:
    """Read a UTF-8 text file (gunzipped when its name ends in .gz).

    Args:
        path: The file.
        fix: The setting that names the file; becomes the `fix` of the error.

    Raises:
        InputError: No such file, not gzip though named .gz, or not UTF-8 (the line is named).
    """
    with open_bytes(path, fix) as file:
        data = file.read()
    try:
        return data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise not_utf8(path, data.count(b"\n", 0, error.start) + 1, data, fix) from error


# First bytes -> what such a file is and what to do with it.
_SIGNATURES = {
    b"\x1f\x8b": ("gzip", "give its name the ending .gz"),
    b"PK\x03\x04": ("a zip archive", "unpack it"),
    b"PAR1": ("parquet", "give its name the ending .parquet"),
    codecs.BOM_UTF32_LE: ("UTF-32", "re-encode it: iconv -f UTF-32 -t UTF-8"),
    codecs.BOM_UTF16_LE: ("UTF-16", "re-encode it: iconv -f UTF-16 -t UTF-8"),
    codecs.BOM_UTF16_BE: ("UTF-16", "re-encode it: iconv -f UTF-16 -t UTF-8"),
}


def not_utf8(path: Path, line: int, start: bytes, fix: str) -> InputError:
    """Return the error for a file with bytes that are not UTF-8, with a guess at what it is.

    Args:
        path: The file.
        line: The first line with such bytes, from 1.
        start: First bytes of the file; empty where they are known to be text.
        fix: The setting that names the file.
    """
    known = next((what for signature, what in _SIGNATURES.items() if start.startswith(signature)), None)
    guess = f", which looks like {known[0]}" if known else ""
    mend = known[1] if known else "re-encode it as UTF-8 (often: iconv -f WINDOWS-1252 -t UTF-8)"
    return InputError(f"bytes that are not UTF-8 in {path}, line {line}{guess}", "UTF-8 text", f"{mend}, or {fix}")


def read_json(path: Path, fix: str) -> Any:
    """Read a JSON file.

    Raises:
        InputError: As `read_text`, or the file is not JSON.
    """
    try:
        return json.loads(read_text(path, fix), object_pairs_hook=distinct_keys)
    except (ValueError, RecursionError) as error:
        raise InputError(f"{path}, which is not JSON ({first_line(error)})", "a JSON file", fix) from error


def distinct_keys(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """Return the object of these pairs, for `json`, which would settle a key that occurs twice in favour of the last.

    Raises:
        ValueError: A key occurs twice.
    """
    row = dict(pairs)
    if len(row) < len(pairs):
        twice = next(key for key, count in Counter(key for key, _ in pairs).items() if count > 1)
        raise ValueError(f"key {reprlib.repr(twice)} occurs twice in one object")
    return row


def first_line(error: BaseException) -> str:
    """Return the first line of an error's text, cut to a message's length."""
    return str(error).strip().split("\n")[0][:120]


def drop_torn_line(path: Path) -> None:
    """Cut off a last line without an end: what a process that was killed while appending leaves behind."""
    content = path.read_bytes()
    if content and not content.endswith(b"\n"):
        os.truncate(path, content.rfind(b"\n") + 1)


def require_output(path: Path, fix: str) -> None:
    """Raise InputError unless a file or folder can be made at `path`; makes the folder it lies in.

    Asked before long work, so that its result is not lost.
    """
    if path.is_dir():
        raise InputError(f"a folder at {path}", "a name that no folder has", fix)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        tempfile.TemporaryFile(dir=path.parent).close()
    except OSError as error:
        found = f"{path.parent}, where no file can be made ({error.strerror})"
        raise InputError(found, "a folder to write to", fix) from error


def is_unicode(text: str) -> bool:
    """Tell whether a string can be written as UTF-8: JSON may smuggle in half a surrogate pair."""
    try:
        text.encode("utf-8")
    except UnicodeEncodeError:
        return False
    return True


def file_digest(path: Path) -> str:
    """Return the sha256 of a file's bytes as hex."""
    with path.open("rb") as handle:
        return hashlib.file_digest(handle, "sha256").hexdigest()


def digest_of(value: Any) -> str:
    """Return the sha256 of a JSON-able value, independent of key order, as hex."""
    return hashlib.sha256(json.dumps(value, sort_keys=True, ensure_ascii=False).encode("utf-8")).hexdigest()


def key_of(text: str) -> int:
    """Return a 64-bit digest of a text, to count distinct ones: two of a million meet with chance 3e-8."""
    return int.from_bytes(hashlib.blake2b(text.encode("utf-8"), digest_size=8).digest(), "big")
