"""What must be scored? Distinct token sequences, and which pair, side and view reads which of them.

Tokens are kept in a memory-mapped Arrow file under a cache folder, named by a digest of what they were made from.
"""

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from datamodules.dialogue import Dialogue, view_parts
from datamodules.files import digest_of, whole_file
from datamodules.preferences import PreferenceData
from datamodules.tokenise import Tokeniser
from datamodules.views import ViewRequest

# Part of the cache key: raise it when tokenisation, views or the layout of the cached tables change.
LAYOUT = 1


@dataclass(frozen=True, slots=True)
class AuditCorpus:
    """Distinct token sequences of one preference data set under some views.

    Attributes:
        data: The preference data.
        views: The views.
        input_ids: Token ids of each distinct sequence, Arrow list<int32> [n_sequences], memory-mapped.
        text_ids: Digest of each distinct sequence, 16 hex digits [n_sequences].
        lengths: Tokens of each distinct sequence, int64 [n_sequences].
        rows: Sequence number per view slug, int64 [n_pairs, 2] (first and second side).
        truncated: Whether the text was cut, per view slug, bool [n_pairs, 2].
        digest: What the corpus was made from: data, tokenizer, views.
    """

    data: PreferenceData
    views: tuple[ViewRequest, ...]
    input_ids: pa.ChunkedArray
    text_ids: np.ndarray
    lengths: np.ndarray
    rows: dict[str, np.ndarray]
    truncated: dict[str, np.ndarray]
    digest: str

    def index(self) -> pa.Table:
        """One row per (pair, side, view): dataset, subset, pair_id, side, view, cluster_id, text_id, truncated."""
        pairs = self.data.pairs
        tables = []
        for slug, rows in self.rows.items():
            tables.append(
                pa.table(
                    {
                        "dataset": [self.data.name] * (2 * len(pairs)),
                        "subset": [pair.subset for pair in pairs for _ in range(2)],
                        "pair_id": [pair.pair_id for pair in pairs for _ in range(2)],
                        "side": [side for pair in pairs for side in pair.sides],
                        "view": [slug] * (2 * len(pairs)),
                        "cluster_id": [pair.cluster_id for pair in pairs for _ in range(2)],
                        "text_id": self.text_ids[rows.ravel()],
                        "truncated": self.truncated[slug].ravel(),
                    }
                )
            )
        return pa.concat_tables(tables)


def build_corpus(
    data: PreferenceData, views: Sequence[ViewRequest], tokeniser: Tokeniser, cache_dir: Path
) -> AuditCorpus:
    """Tokenise a preference data set under all views, or read the result of an earlier run from the cache.

    Args:
        data: The pairs.
        views: What to read of each side; equal views are read once.
        tokeniser: Gives token ids.
        cache_dir: Folder of the cache; created when missing.

    Raises:
        InputError: A view is longer than the encoder can read.
    """
    views = tuple(dict.fromkeys(views))
    for view in views:
        tokeniser.require_length(view.max_length)
    digest = digest_of([LAYOUT, data.digest, tokeniser.digest, [view.slug for view in views]])
    tokens_path = cache_dir / f"{digest[:32]}.tokens.arrow"
    index_path = cache_dir / f"{digest[:32]}.index.parquet"
    if not (tokens_path.is_file() and index_path.is_file()):
        _tokenise(data, views, tokeniser, tokens_path, index_path)
    tokens = pa.ipc.open_file(pa.memory_map(str(tokens_path))).read_all()
    index = pq.read_table(index_path)
    rows = {v.slug: index[f"{v.slug}/row"].to_numpy().reshape(-1, 2) for v in views}
    truncated = {v.slug: index[f"{v.slug}/truncated"].to_numpy().reshape(-1, 2) for v in views}
    lengths = tokens["length"].to_numpy()
    text_ids = np.array(tokens["text_id"].to_pylist())
    return AuditCorpus(data, views, tokens["input_ids"], text_ids, lengths, rows, truncated, digest)


def _tokenise(
    data: PreferenceData, views: tuple[ViewRequest, ...], tokeniser: Tokeniser, tokens_path: Path, index_path: Path
) -> None:
    """Tokenise and write the two cache files, each whole."""
    row_of: dict[bytes, int] = {}
    distinct: list[np.ndarray] = []
    index: dict[str, np.ndarray] = {}
    for view in views:
        dialogues: list[Dialogue] = [side for pair in data.pairs for side in (pair.first, pair.second)]
        tokens = tokeniser.encode([view_parts(d, view.view) for d in dialogues], view.max_length, view.truncation)
        rows = np.empty(len(dialogues), dtype=np.int64)
        for i, ids in enumerate(tokens.ids):
            array = np.asarray(ids, dtype=np.int32)
            rows[i] = row_of.setdefault(array.tobytes(), len(distinct))
            if rows[i] == len(distinct):
                distinct.append(array)
        index[f"{view.slug}/row"] = rows
        index[f"{view.slug}/truncated"] = tokens.truncated
    table = pa.table(
        {
            "input_ids": pa.array(distinct, type=pa.list_(pa.int32())),
            "length": np.array([len(ids) for ids in distinct], dtype=np.int64),
            "text_id": [hashlib.sha256(ids.tobytes()).hexdigest()[:16] for ids in distinct],
        }
    )
    with (
        whole_file(tokens_path) as path,
        pa.OSFile(str(path), "wb") as sink,
        pa.ipc.new_file(sink, table.schema) as out,
    ):
        out.write_table(table)
    with whole_file(index_path) as path:
        pq.write_table(pa.table(index), path)
