"""How are rows of JSON read, one at a time? A large file is never held as a whole."""

import codecs
import json
from collections.abc import Iterator
from pathlib import Path
from typing import IO, Any

from datamodules.errors import InputError
from datamodules.files import MOST_ROW_BYTES, distinct_keys, first_line, iter_lines, not_utf8, open_bytes

JsonRow = dict[str, Any]

_CHUNK = 2**20


def iter_json_lines(path: Path, fix: str) -> Iterator[JsonRow]:
    """Yield one JSON object a line; blank lines are passed over, a byte order mark and CRLF are no text.

    Args:
        path: A UTF-8 file, gunzipped when its name ends in .gz.
        fix: The setting that names the file; becomes the `fix` of errors.

    Raises:
        InputError: No such file, not gzip though named .gz, a row above 16 MiB, not UTF-8, or a line that is not a JSON
            object with distinct keys (the line is named).
    """
    for number, line in iter_lines(path, fix):
        if not line.strip():
            continue
        if number == 1 and line.lstrip().startswith("["):
            found = f"{path}, which begins with an array"
            raise InputError(found, "one JSON object a line", f"rename it to .json if it is one JSON array, or {fix}")
        try:
            row = json.loads(line, object_pairs_hook=distinct_keys)
        except (ValueError, RecursionError) as error:
            over = " (an object over several lines?)" if line.strip() == "{" else f" ({first_line(error)})"
            found = f"{path}, line {number}, is not JSON{over}"
            raise InputError(found, "one JSON object a line", fix) from error
        if not isinstance(row, dict):
            raise InputError(f"{path}, line {number}, is a JSON {type(row).__name__}", "one JSON object a line", fix)
        yield row


def read_json_lines(path: Path, fix: str) -> list[JsonRow]:
    """Read all rows of `iter_json_lines`."""
    return list(iter_json_lines(path, fix))


def iter_json_array(path: Path, fix: str) -> Iterator[JsonRow]:
    """Yield the objects of a file that holds one JSON array.

    Args:
        path: A UTF-8 file, gunzipped when its name ends in .gz.
        fix: The setting that names the file; becomes the `fix` of errors.

    Raises:
        InputError: No such file, not gzip though named .gz, an item above 16 MiB, not UTF-8, or not an array of objects
            with distinct keys (the item is named, counted from 1).
    """
    with open_bytes(path, fix) as file:
        text = _TextWindow(file, path, fix)
        if text.skip_space() != "[":
            found = f"{path}, which does not begin with an array"
            raise InputError(
                found, "a JSON array of objects", f"rename it to .jsonl if it holds one object a line, {fix}"
            )
        text.step()
        number = 0
        closed = text.skip_space() == "]"
        while not closed:
            number += 1
            if text.skip_space() != "{":
                found = f"{path}, which is not an array of objects: item {number} is none"
                raise InputError(found, "a JSON array of objects", fix)
            yield text.decode_object(number)
            closed = text.skip_space() == "]"
            if not closed:
                text.expect(",", number)
        text.step()
        if text.skip_space():
            raise InputError(f"{path}, which goes on after its array", "one JSON array of objects", fix)


def read_json_array(path: Path, fix: str) -> list[JsonRow]:
    """Read all items of `iter_json_array`."""
    return list(iter_json_array(path, fix))


class _TextWindow:
    """The part of a text file that is being decoded; what lies behind the position is forgotten."""

    def __init__(self, file: IO[bytes], path: Path, fix: str) -> None:
        self._file = file
        self._path = path
        self._fix = fix
        self._utf8 = codecs.getincrementaldecoder("utf-8-sig")()
        self._decoder = json.JSONDecoder(object_pairs_hook=distinct_keys)
        self._text = ""
        self._at = 0
        self._lines = 1
        self._ended = False

    def _read_more(self, size: int) -> None:
        data = self._file.read(size)
        try:
            more = self._utf8.decode(data, final=not data)
        except UnicodeDecodeError as error:
            line = self._lines + self._text.count("\n") + error.object.count(b"\n", 0, error.start)
            raise not_utf8(self._path, line, error.object if line == 1 else b"", self._fix) from error
        self._ended = not data
        self._lines += self._text.count("\n", 0, self._at)
        self._text = self._text[self._at :] + more
        self._at = 0

    def skip_space(self) -> str:
        """Move to the next character that is not white space and return it; empty at the end of the file."""
        while True:
            while self._at < len(self._text):
                if not self._text[self._at].isspace():
                    return self._text[self._at]
                self._at += 1
            if self._ended:
                return ""
            self._read_more(_CHUNK)

    def step(self) -> None:
        """Move over one character."""
        self._at += 1

    def expect(self, character: str, number: int) -> None:
        """Move over a character that must be there, behind item `number`."""
        found = self.skip_space()
        if found != character:
            raise self._not_json(f"{found or 'the end of the file'!r} behind item {number}")
        self.step()

    def decode_object(self, number: int) -> JsonRow:
        """Return the object at the position and move behind it."""
        while True:
            try:
                row, self._at = self._decoder.raw_decode(self._text, self._at)
            except (ValueError, RecursionError) as error:
                waiting = len(self._text) - self._at
                # Only what is not finished may be mended by more text: no key that occurs twice, no endless number.
                if self._ended or waiting > MOST_ROW_BYTES or not isinstance(error, json.JSONDecodeError):
                    too_long = waiting > MOST_ROW_BYTES and not self._ended
                    size = f"item {number} is above {MOST_ROW_BYTES // 2**20} MiB or "
                    raise self._not_json(f"{size if too_long else ''}{first_line(error)}") from error
                # Twice as much each time: an object of many chunks is not decoded once a chunk.
                self._read_more(max(_CHUNK, waiting))
            else:
                return dict(row)

    def _not_json(self, why: str) -> InputError:
        return InputError(f"{self._path}, which is not JSON ({why})", "a JSON array of objects", self._fix)
