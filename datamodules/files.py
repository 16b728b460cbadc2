"""How are files read strictly and written whole?"""

import gzip
import hashlib
import json
import os
import tempfile
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

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


def read_text(path: Path, fix: str) -> str:
    """Read a UTF-8 text file (gunzipped when its name ends in .gz).

    Args:
        path: The file.
        fix: The setting that names the file; becomes the `fix` of the error.

    Raises:
        InputError: No such file, not gzip though named .gz, or not UTF-8 (the line is named).
    """
    data = require_file(path, fix).read_bytes()
    if path.suffix == ".gz":
        try:
            data = gzip.decompress(data)
        except (OSError, EOFError, zlib.error) as error:
            raise InputError(f"{path}, which is not a whole gzip file ({error})", "a gzip file", fix) from error
    try:
        return data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = data.count(b"\n", 0, error.start) + 1
        raise InputError(
            f"bytes that are not UTF-8 in {path}, line {line}", "UTF-8 text", f"re-encode the file as UTF-8, or {fix}"
        ) from error


def read_json_lines(path: Path, fix: str) -> list[dict[str, Any]]:
    """Read one JSON object a line; blank lines are passed over.

    Raises:
        InputError: As `read_text`, or a line that is not a JSON object (the line is named).
    """
    rows = []
    for number, line in enumerate(read_text(path, fix).split("\n"), 1):
        if not line.strip():
            continue
        try:
            row = json.loads(line)
        except (ValueError, RecursionError) as error:
            found = f"{path}, line {number}, is not JSON ({_first_line(error)})"
            raise InputError(found, "one JSON object a line", fix) from error
        if not isinstance(row, dict):
            raise InputError(f"{path}, line {number}, is a JSON {type(row).__name__}", "one JSON object a line", fix)
        rows.append(row)
    return rows


def read_json_array(path: Path, fix: str) -> list[dict[str, Any]]:
    """Read a JSON file that holds one array of objects.

    Raises:
        InputError: As `read_text`, or the file is not an array of objects.
    """
    try:
        rows = json.loads(read_text(path, fix))
    except (ValueError, RecursionError) as error:
        raise InputError(f"{path}, which is not JSON ({_first_line(error)})", "a JSON array of objects", fix) from error
    if not isinstance(rows, list) or not all(isinstance(row, dict) for row in rows):
        raise InputError(f"{path}, which is not an array of objects", "a JSON array of objects", fix)
    return rows


def read_json(path: Path, fix: str) -> Any:
    """Read a JSON file.

    Raises:
        InputError: As `read_text`, or the file is not JSON.
    """
    try:
        return json.loads(read_text(path, fix))
    except (ValueError, RecursionError) as error:
        raise InputError(f"{path}, which is not JSON ({_first_line(error)})", "a JSON file", fix) from error


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


def _first_line(error: BaseException) -> str:
    return str(error).strip().split("\n")[0][:120]


def file_digest(path: Path) -> str:
    """Return the sha256 of a file's bytes as hex."""
    with path.open("rb") as handle:
        return hashlib.file_digest(handle, "sha256").hexdigest()


def digest_of(value: Any) -> str:
    """Return the sha256 of a JSON-able value, independent of key order, as hex."""
    return hashlib.sha256(json.dumps(value, sort_keys=True, ensure_ascii=False).encode("utf-8")).hexdigest()
