"""How does text become token ids?"""

import hashlib
from bisect import bisect_left
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from tokenizers import Tokenizer

from datamodules.errors import InputError
from datamodules.views import SHORTEST, Truncation, cut_to_length


@dataclass(frozen=True, slots=True)
class TokenisedTexts:
    """Token ids of many texts.

    Attributes:
        ids: One list of token ids a text, special tokens included.
        truncated: Whether the text was cut, bool [n].
    """

    ids: list[list[int]]
    truncated: np.ndarray


class Tokeniser:
    """A fast tokenizer without hidden truncation or padding, rebuilt from its JSON alone.

    Args:
        tokenizer_json: Serialised `tokenizers.Tokenizer`; its truncation and padding settings are dropped, because a
            published tokenizer may cut at its own length without saying so (all-MiniLM-L6-v2 cuts at 128).
        pad_id: Id of the padding token.
        max_positions: Longest sequence that the encoder can read.
        window: Tokens that the encoder is to read at a time, special tokens included. A longer text is laid out in
            windows, each with special tokens of its own, behind one another: all but the last are exactly so long.
            None: a text is read at once.

    Raises:
        InputError: A window that the encoder cannot read.
    """

    def __init__(self, tokenizer_json: str, pad_id: int, max_positions: int, window: int | None = None) -> None:
        if window is not None and not SHORTEST <= window <= max_positions:
            found = f"windows of {window} tokens, but the encoder reads {max_positions}"
            raise InputError(found, f"windows of {SHORTEST} to {max_positions} tokens", "--model.window")
        self._tokenizer = Tokenizer.from_str(tokenizer_json)
        self._tokenizer.no_truncation()
        self._tokenizer.no_padding()
        self.pad_id = pad_id
        self.max_positions = max_positions
        self.window = window
        bare = self._tokenizer.encode("a", add_special_tokens=False).ids
        full = self._tokenizer.encode("a", add_special_tokens=True).ids
        start = next(i for i in range(len(full) - len(bare) + 1) if full[i : i + len(bare)] == bare)
        self._prefix, self._suffix = full[:start], full[start + len(bare) :]

    @property
    def json(self) -> str:
        """The serialised tokenizer."""
        return str(self._tokenizer.to_str())

    @property
    def digest(self) -> str:
        """The sha256 of the serialised tokenizer and the window, as hex."""
        windows = "" if self.window is None else f"\nwindow {self.window}"
        return hashlib.sha256(f"{self.json}{windows}".encode()).hexdigest()

    def require_length(self, max_length: int) -> None:
        """Raise InputError when `max_length` is longer than the encoder can read, and there are no windows."""
        if self.window is None and max_length > self.max_positions:
            found = f"max_length {max_length}, but the encoder reads {self.max_positions} tokens"
            fix = "lower the max_length setting; a classifier can read more in windows (--model.window)"
            raise InputError(found, "a length that the encoder can read", fix)

    def lengths(self, texts: Sequence[str]) -> np.ndarray:
        """Count the tokens of uncut texts in one window, special tokens included, int64 [n]."""
        extra = len(self._prefix) + len(self._suffix)
        encodings = self._tokenizer.encode_batch(list(texts), add_special_tokens=False)
        return np.array([len(encoding.ids) + extra for encoding in encodings], dtype=np.int64)

    def encode(
        self, parts: Sequence[tuple[str, str]], max_length: int, truncation: Truncation = "head"
    ) -> TokenisedTexts:
        """Tokenise texts that are given as (context, focus).

        The concatenation is tokenised as one text; only a cut looks at the boundary (`views.cut_to_length`).

        Args:
            parts: (context, focus) per text; an empty context when nothing is to be cut first.
            max_length: Tokens kept, special tokens (of every window) included.
            truncation: What a cut of the focus keeps.

        Raises:
            InputError: `max_length` is longer than the encoder can read.
        """
        self.require_length(max_length)
        room = self._room(max_length)
        encodings = self._tokenizer.encode_batch([a + b for a, b in parts], add_special_tokens=False)
        ids, truncated = [], np.zeros(len(parts), dtype=bool)
        for i, ((context, _), encoding) in enumerate(zip(parts, encodings, strict=True)):
            tokens = encoding.ids
            if len(tokens) > room:
                truncated[i] = True
                # Tokens that start inside the context come first.
                boundary = bisect_left(encoding.offsets, (len(context),)) if context else 0
                tokens = cut_to_length(tokens, boundary, room, truncation)
            ids.append(self._framed(tokens))
        return TokenisedTexts(ids, truncated)

    def _room(self, max_length: int) -> int:
        """Count the tokens of a text that fit into `max_length` beside the special ones."""
        frame = len(self._prefix) + len(self._suffix)
        if self.window is None:
            return max_length - frame
        n_whole, rest = divmod(max_length, self.window)
        return n_whole * (self.window - frame) + max(0, rest - frame)

    def _framed(self, tokens: list[int]) -> list[int]:
        """Put special tokens around a text, or around each window of it."""
        room = len(tokens) if self.window is None else self._room(self.window)
        if len(tokens) <= room:
            return self._prefix + tokens + self._suffix
        parts = (tokens[start : start + room] for start in range(0, len(tokens), room))
        return [token for part in parts for token in (*self._prefix, *part, *self._suffix)]
