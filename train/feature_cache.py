"""Where are the pooled vectors of a frozen encoder kept? In files named by a digest of all that they depend on.

They are computed once per encoder, pooling, tokens and number format, whatever heads are trained on them, and read
memory-mapped. A file is a `.npy` with the sha256 of its content behind it: it is there whole or not at all, and one
that was damaged is made again.
"""

import hashlib
from dataclasses import dataclass, replace
from pathlib import Path
from typing import BinaryIO

import numpy as np
import pyarrow as pa

from datamodules.annotation_datamodule import PooledFeatures, TokenisedSplit, TokenisedSplits
from datamodules.corpus import AuditCorpus
from datamodules.errors import InputError
from datamodules.files import digest_of, whole_file
from datamodules.storage import writing
from models.features import arithmetic, encoder_digest, pooled_features
from models.fine_tuning import FineTunedEncoder
from train.progress import Progress

# Part of the key: raise it when pooling or the layout of the files changes.
LAYOUT = 1
# Texts whose vectors are in memory together.
TEXTS_AT_ONCE = 16_384
_CHECKSUM_BYTES = hashlib.sha256().digest_size
# Files that this process has checked, with inode, size and time of change as they were then.
_checked: dict[Path, tuple[int, int, int]] = {}


@dataclass(frozen=True, slots=True)
class FeatureCache:
    """Where pooled vectors are kept, and how they are made.

    Attributes:
        folder: Folder of the files; created when missing.
        precision: Number format of the encoder, `float32` or `bf16`; the vectors are kept in float32.
        token_budget: Padded tokens per batch; does not change results beyond rounding.
    """

    folder: Path
    precision: str
    token_budget: int


def corpus_features(
    model: FineTunedEncoder, corpus: AuditCorpus, cache: FeatureCache, progress: Progress
) -> np.ndarray:
    """Pool the distinct texts of an audited corpus, or read their vectors from the cache: float32 [n, width].

    Raises:
        InputError: The cache cannot be written, or vectors that are not finite.
    """
    key = feature_key(model, encoder_digest(model), corpus.digest, cache)
    return _vectors(model, key, corpus.input_ids, corpus.lengths, cache, corpus.data.name, progress)


def with_features(
    model: FineTunedEncoder, splits: TokenisedSplits, cache: FeatureCache, name: str, progress: Progress
) -> TokenisedSplits:
    """Give splits their pooled vectors, computed or read from the cache.

    The cache holds each distinct token sequence of all splits once, in an order of their own, so that another way to
    split the same texts finds it.

    Args:
        model: The model with its frozen encoder.
        splits: The splits.
        cache: Where vectors are kept.
        name: Name of the data set, for the progress bar.
        progress: Shows the work.

    Raises:
        InputError: As `corpus_features`.
    """
    all_splits = splits.train, splits.val, splits.test
    sequences = [_as_bytes(split) for split in all_splits]
    distinct = sorted({sequence for own in sequences for sequence in own})
    digest = hashlib.sha256()
    for sequence in distinct:
        digest.update(hashlib.sha256(sequence).digest())
    ids = [np.frombuffer(sequence, dtype=np.int32).tolist() for sequence in distinct]
    lengths = np.array([len(own) for own in ids], dtype=np.int64)
    encoder = encoder_digest(model)
    key = feature_key(model, encoder, digest.hexdigest(), cache)
    vectors = _vectors(model, key, ids, lengths, cache, name, progress)
    row_of = {sequence: row for row, sequence in enumerate(distinct)}
    rows = [np.array([row_of[sequence] for sequence in own], dtype=np.int64) for own in sequences]
    pooled = (PooledFeatures(vectors, own, encoder) for own in rows)
    return TokenisedSplits(*(replace(split, features=own) for split, own in zip(all_splits, pooled, strict=True)))


def _as_bytes(split: TokenisedSplit) -> list[bytes]:
    return [np.asarray(ids, dtype=np.int32).tobytes() for ids in split.tokens.ids]


def feature_key(model: FineTunedEncoder, encoder: str, tokens_digest: str, cache: FeatureCache) -> str:
    """Digest of all that pooled vectors depend on, as hex.

    Args:
        model: The model; the kind of its device counts, for its rounding.
        encoder: Its `encoder_digest`.
        tokens_digest: Digest of the token sequences, and so of texts, tokenizer and view.
        cache: Its number format counts.
    """
    device = next(model.parameters()).device
    return digest_of([LAYOUT, encoder, tokens_digest, arithmetic(device, cache.precision)])


def _vectors(
    model: FineTunedEncoder,
    key: str,
    input_ids: pa.ChunkedArray | list[list[int]],
    lengths: np.ndarray,
    cache: FeatureCache,
    name: str,
    progress: Progress,
) -> np.ndarray:
    """Read the vectors of a key, or compute and write them first."""
    path = cache.folder / f"{key[:32]}.features.npy"
    shape = (len(lengths), int(model.encoder.config.hidden_size))  # type: ignore[union-attr,arg-type]
    if (found := _cached(path)) is not None:
        return found
    if path.exists():
        progress.say(f"  {path} is damaged: computed again")
    with (
        progress.bar(f"pooled features of {name}", len(lengths), "texts") as advance,
        writing(path, "start again, or set --run.cache_dir", 4 * shape[0] * shape[1]),
        whole_file(path) as part,
        part.open("wb") as file,
    ):
        out = _Checksummed(file)
        np.lib.format.write_array_header_1_0(out, {"descr": "<f4", "fortran_order": False, "shape": shape})
        for start in range(0, len(lengths), TEXTS_AT_ONCE):
            block = slice(start, start + TEXTS_AT_ONCE)
            vectors = pooled_features(
                model, input_ids[block], lengths[block], cache.precision, cache.token_budget, advance
            )
            if not np.isfinite(vectors).all():
                what = f"pooled features of {name} that are not finite"
                raise InputError(what, "an encoder whose weights are whole", "--model.encoder")
            out.write(vectors.astype("<f4").data)
        file.write(out.digest.digest())
    if (found := _cached(path)) is None:
        raise InputError(f"{path}, which cannot be read back", "a folder that keeps files", "--run.cache_dir")
    return found


class _Checksummed:
    """A file that is digested as it is written."""

    def __init__(self, file: BinaryIO) -> None:
        self._file = file
        self.digest = hashlib.sha256()

    def write(self, content: bytes | memoryview) -> int:
        self.digest.update(content)
        return self._file.write(content)


def _cached(path: Path) -> np.ndarray | None:
    """Map the vectors of a file into memory; None where it is missing or damaged."""
    try:
        status = path.stat()
        state = status.st_ino, status.st_size, status.st_mtime_ns
        if _checked.get(path) != state:
            content = np.memmap(path, dtype=np.uint8, mode="r")
            digest = hashlib.sha256(content[:-_CHECKSUM_BYTES].data).digest()
            if digest != content[-_CHECKSUM_BYTES:].tobytes():
                return None
            _checked[path] = state
        vectors: np.ndarray = np.load(path, mmap_mode="r")
    except (OSError, ValueError):
        return None
    return vectors
