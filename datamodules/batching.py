"""In which batches are texts read?"""

from collections.abc import Iterator, Sequence

import numpy as np
import torch
from torch.utils.data import Sampler


def pad(ids: Sequence[Sequence[int]], pad_id: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Right-pad token ids to the longest of the batch.

    Returns:
        Input ids, int64 [batch, length], and the attention mask, int64 [batch, length].
    """
    lengths = np.array([len(row) for row in ids])
    attention_mask = (np.arange(lengths.max()) < lengths[:, None]).astype(np.int64)
    input_ids = np.full(attention_mask.shape, pad_id, dtype=np.int64)
    for row, own in zip(input_ids, ids, strict=True):
        row[: len(own)] = own
    return torch.from_numpy(input_ids), torch.from_numpy(attention_mask)


def token_budget_batches(lengths: np.ndarray, budget: int) -> list[np.ndarray]:
    """Cut texts in length order into batches of at most `budget` padded tokens.

    The longest come first, so that a batch that does not fit into memory fails at once.

    Args:
        lengths: Tokens per text, int [n].
        budget: Padded tokens per batch; a single longer text gets a batch of its own.

    Returns:
        Index arrays that together hold each text once.
    """
    order = np.argsort(-np.asarray(lengths), kind="stable")
    batches, start = [], 0
    while start < len(order):
        size = max(1, budget // int(lengths[order[start]]))
        batches.append(order[start : start + size])
        start += size
    return batches


class LengthGroupedBatches(Sampler[list[int]]):
    """Shuffled batches of texts of similar length, a pure function of (seed, epoch).

    Texts are shuffled, sorted by length inside pools of `pool` batches, cut into batches, and the batches are
    shuffled again: little padding, and every epoch another composition.

    Args:
        lengths: Tokens per text, int [n].
        batch_size: Texts per batch; the last batch of an epoch may be smaller.
        seed: Seed of the order.
        pool: Batches that are sorted together.
    """

    def __init__(self, lengths: np.ndarray, batch_size: int, seed: int, pool: int = 16) -> None:
        self._lengths = np.asarray(lengths)
        self._batch_size = batch_size
        self._seed = seed
        self._pool = pool
        self._epoch = 0

    def set_epoch(self, epoch: int) -> None:
        """Choose the epoch whose order comes next; Lightning calls it."""
        self._epoch = epoch

    def __len__(self) -> int:
        return -(-len(self._lengths) // self._batch_size)

    def __iter__(self) -> Iterator[list[int]]:
        rng = np.random.default_rng([self._seed, self._epoch])
        order = rng.permutation(len(self._lengths))
        batches = []
        for start in range(0, len(order), self._batch_size * self._pool):
            pool = order[start : start + self._batch_size * self._pool]
            pool = pool[np.argsort(self._lengths[pool], kind="stable")]
            batches += [pool[i : i + self._batch_size] for i in range(0, len(pool), self._batch_size)]
        for i in rng.permutation(len(batches)):
            yield batches[i].tolist()
