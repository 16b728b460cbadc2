"""What must be scored? Distinct token sequences, and which pair, side and view reads which of them.

Tokens are kept in a memory-mapped Arrow file under a cache folder, named by a digest of what they were made from.
"""

import hashlib
from array import array
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from datamodules.dialogue import view_parts
from datamodules.errors import InputError
from datamodules.files import digest_of, file_digest, whole_file
from datamodules.portions import portions
from datamodules.preference_data import ContentDigest, PreferenceData
from datamodules.preference_pairs import PreferencePair
from datamodules.storage import writing
from datamodules.tokenise import Tokeniser
from datamodules.views import ViewRequest

# Part of the cache key: raise it when tokenisation, views or the layout of the cached tables change.
LAYOUT = 3
# Key of the sha256 of the tokens file in the metadata of the index.
CHECKSUM = b"tokens_sha256"

# Rows of the index that are made together.
PAIRS_AT_ONCE = 10_000

TOKENS_SCHEMA = pa.schema([("input_ids", pa.list_(pa.int32())), ("length", pa.int64()), ("text_id", pa.string())])
_NAMES = ("dataset", "subset", "pair_id", "side", "view", "cluster_id", "text_id")
INDEX_SCHEMA = pa.schema([*((name, pa.string()) for name in _NAMES), ("truncated", pa.bool_())])


@dataclass(frozen=True, slots=True)
class AuditCorpus:
    """Distinct token sequences of one preference data set under some views.

    Attributes:
        data: The preference data.
        views: The views.
        input_ids: Token ids of each distinct sequence, Arrow list<int32> [n_sequences], memory-mapped.
        text_ids: Digest of each distinct sequence, 16 hex digits, Arrow string [n_sequences], memory-mapped.
        lengths: Tokens of each distinct sequence, int64 [n_sequences].
        rows: Sequence number per view slug, int64 [n_pairs, 2] (first and second side).
        truncated: Whether the text was cut, per view slug, bool [n_pairs, 2].
        digest: What the corpus was made from: data, tokenizer, views.
    """

    data: PreferenceData
    views: tuple[ViewRequest, ...]
    input_ids: pa.ChunkedArray
    text_ids: pa.ChunkedArray
    lengths: np.ndarray
    rows: dict[str, np.ndarray]
    truncated: dict[str, np.ndarray]
    digest: str

    def write_index(self, path: Path) -> None:
        """Write one row per (view, pair, side); the columns are those of `INDEX_SCHEMA`."""
        with whole_file(path) as part, pq.ParquetWriter(part, INDEX_SCHEMA, compression="zstd") as out:
            sides = self.data.index.sides
            for slug in self.rows:
                for start in range(0, len(self.data.index), PAIRS_AT_ONCE):
                    pairs = slice(start, start + PAIRS_AT_ONCE)
                    out.write_table(self._index_rows(slug, pairs, sides[pairs]))

    def _index_rows(self, slug: str, pairs: slice, sides: np.ndarray) -> pa.Table:
        index = self.data.index
        n = sides.size
        return pa.table(
            {
                "dataset": [self.data.name] * n,
                "subset": np.repeat(index.subsets[pairs], 2),
                "pair_id": np.repeat(index.pair_ids[pairs], 2),
                "side": sides.ravel(),
                "view": [slug] * n,
                "cluster_id": np.repeat(index.cluster_ids[pairs], 2),
                "text_id": self.text_ids.take(pa.array(self.rows[slug][pairs].ravel())),
                "truncated": self.truncated[slug][pairs].ravel(),
            },
            schema=INDEX_SCHEMA,
        )


def build_corpus(
    data: PreferenceData,
    views: Sequence[ViewRequest],
    tokeniser: Tokeniser,
    cache_dir: Path,
    on_pairs: Callable[[int], None] | None = None,
) -> AuditCorpus:
    """Tokenise a preference data set under all views, or read the result of an earlier run from the cache.

    Args:
        data: The pairs.
        views: What to read of each side; equal views are read once.
        tokeniser: Gives token ids.
        cache_dir: Folder of the cache; created when missing.
        on_pairs: Called with the number of pairs that were tokenised, for a progress bar; not called for the cache.

    Raises:
        InputError: A view is longer than the encoder can read, the file changed since it was first read, or the cache
            cannot be written.
    """
    views = tuple(dict.fromkeys(views))
    for view in views:
        tokeniser.require_length(view.max_length)
    digest = digest_of([LAYOUT, data.digest, tokeniser.digest, [view.slug for view in views]])
    tokens_path = cache_dir / f"{digest[:32]}.tokens.arrow"
    index_path = cache_dir / f"{digest[:32]}.index.parquet"
    found = _cached(tokens_path, index_path, views, len(data.index))
    if found is None:
        # Not there, or damaged: a file that a full disk or a power cut left behind must not come into the numbers.
        with writing(tokens_path, "start again, or set --run.cache_dir"):
            _tokenise(data, views, tokeniser, tokens_path, index_path, on_pairs)
        found = _cached(tokens_path, index_path, views, len(data.index))
    if found is None:
        raise InputError(f"{tokens_path}, which cannot be read back", "a folder that keeps files", "--run.cache_dir")
    tokens, rows, truncated = found
    lengths = tokens["length"].to_numpy()
    return AuditCorpus(data, views, tokens["input_ids"], tokens["text_id"], lengths, rows, truncated, digest)


def _cached(
    tokens_path: Path, index_path: Path, views: tuple[ViewRequest, ...], n_pairs: int
) -> tuple[pa.Table, dict[str, np.ndarray], dict[str, np.ndarray]] | None:
    """Read tokens, rows and cuts from the cache; None where a file is missing, damaged or does not fit the other."""
    try:
        index = pq.read_table(index_path, page_checksum_verification=True)
        if (index.schema.metadata or {}).get(CHECKSUM) != file_digest(tokens_path).encode():
            return None
        tokens = pa.ipc.open_file(pa.memory_map(str(tokens_path))).read_all()
        rows = {v.slug: index[f"{v.slug}/row"].to_numpy().reshape(n_pairs, 2) for v in views}
        truncated = {v.slug: index[f"{v.slug}/truncated"].to_numpy().reshape(n_pairs, 2) for v in views}
    except (OSError, KeyError, ValueError, pa.ArrowException):
        return None
    return tokens, rows, truncated


def _tokenise(
    data: PreferenceData,
    views: tuple[ViewRequest, ...],
    tokeniser: Tokeniser,
    tokens_path: Path,
    index_path: Path,
    on_pairs: Callable[[int], None] | None,
) -> None:
    """Tokenise and write the two cache files, each whole, holding the tokens of some pairs at a time."""
    seen = _Seen()
    rows = {view.slug: array("q") for view in views}
    truncated = {view.slug: array("b") for view in views}
    digest = ContentDigest()
    with (
        whole_file(tokens_path) as path,
        pa.OSFile(str(path), "wb") as sink,
        pa.ipc.new_file(sink, TOKENS_SCHEMA) as out,
    ):
        for pairs in portions(data.read(), _n_characters):
            for pair in pairs:
                digest.add(pair)
            dialogues = [side for pair in pairs for side in (pair.first, pair.second)]
            for view in views:
                tokens = tokeniser.encode(
                    [view_parts(d, view.view) for d in dialogues], view.max_length, view.truncation
                )
                truncated[view.slug].frombytes(tokens.truncated.tobytes())
                out.write_table(_new_sequences(tokens.ids, seen, rows[view.slug]))
            if on_pairs is not None:
                on_pairs(len(pairs))
        if digest.hexdigest() != data.digest:
            found = f"other pairs in {data.name} than when it was first read"
            raise InputError(found, "files that stay as they are during a run", "start again")
    index = {f"{slug}/row": np.frombuffer(column, dtype=np.int64) for slug, column in rows.items()}
    index |= {f"{slug}/truncated": np.frombuffer(column, dtype=np.bool_) for slug, column in truncated.items()}
    table = pa.table(index).replace_schema_metadata({CHECKSUM: file_digest(tokens_path)})
    with whole_file(index_path) as path:
        pq.write_table(table, path, write_page_checksum=True)


def _n_characters(pair: PreferencePair) -> int:
    return sum(len(turn.text) for dialogue in (pair.first, pair.second) for turn in dialogue.turns)


class _Seen:
    """Which sequences were seen, and in which row: 16 bytes a sequence, where a dict needs ten times as much."""

    def __init__(self) -> None:
        self._digests = np.empty(0, dtype=np.uint64)
        self._rows = np.empty(0, dtype=np.int64)

    def add(self, digests: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Add the sequences of a chunk.

        Args:
            digests: uint64 [n], in order, with repeats.

        Returns:
            The row of each, int64 [n], and where those that are new stand first in `digests`, int64, in order.
        """
        distinct, first, inverse = np.unique(digests, return_index=True, return_inverse=True)
        places = np.searchsorted(self._digests, distinct)
        known = np.zeros(len(distinct), dtype=np.bool_)
        inside = places < len(self._digests)
        known[inside] = self._digests[places[inside]] == distinct[inside]
        rows = np.empty(len(distinct), dtype=np.int64)
        rows[known] = self._rows[places[known]]
        # Numbered in the order in which they come.
        new = np.flatnonzero(~known)
        new = new[np.argsort(first[new])]
        rows[new] = len(self._rows) + np.arange(len(new))
        self._digests = np.insert(self._digests, places[~known], distinct[~known])
        self._rows = np.insert(self._rows, places[~known], rows[~known])
        return rows[inverse], first[new]


def _digest(ids: list[int]) -> bytes:
    """Return 64 bits of a sequence's sha256: two of a million sequences share them with chance 3e-8."""
    return hashlib.sha256(np.asarray(ids, dtype=np.int32).tobytes()).digest()[:8]


def _new_sequences(sequences: list[list[int]], seen: _Seen, rows: "array[int]") -> pa.Table:
    """Append the row of every sequence to `rows` and return those that were not seen before."""
    digests = [_digest(ids) for ids in sequences]
    own_rows, new = seen.add(np.frombuffer(b"".join(digests), dtype=np.uint64))
    rows.frombytes(own_rows.tobytes())
    return pa.table(
        {
            "input_ids": [sequences[i] for i in new],
            "length": [len(sequences[i]) for i in new],
            "text_id": [digests[i].hex() for i in new],
        },
        schema=TOKENS_SCHEMA,
    )
