"""How do preference pairs reach the training of a reward model?"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pytorch_lightning as pl
import torch
from torch.utils.data import DataLoader, Dataset

from datamodules.batching import LengthGroupedBatches, pad, token_budget_batches
from datamodules.dialogue import normalise, view_parts
from datamodules.errors import InputError
from datamodules.files import key_of
from datamodules.parts import Part
from datamodules.portions import portions
from datamodules.preference_data import PreferenceData
from datamodules.preference_pairs import PreferencePair
from datamodules.tokenise import Tokeniser
from datamodules.views import ViewRequest


@dataclass(frozen=True, slots=True)
class PairBatch:
    """Padded pairs, both sides in one batch: first all preferred sides, then all others in the same order.

    Attributes:
        input_ids: int64 [2 * n_pairs, length].
        attention_mask: int64 [2 * n_pairs, length].
    """

    input_ids: torch.Tensor
    attention_mask: torch.Tensor

    def to(self, device: torch.device) -> "PairBatch":
        """Return the batch on `device`; Lightning calls it."""
        return PairBatch(self.input_ids.to(device), self.attention_mask.to(device))


@dataclass(frozen=True, slots=True, eq=False)
class TokenisedPairs:
    """Tokenised pairs, each with a preferred side that reads otherwise than the other.

    Attributes:
        datasets: Names [n_pairs] str.
        pair_ids: [n_pairs] str.
        cluster_ids: [n_pairs] str.
        prompts: 64-bit digests of the normalised prompts of both sides, uint64 [n_pairs, 2].
        first: Token ids of each preferred side, int32 arrays.
        second: Token ids of each other side.
        truncated: Whether a text was cut, bool [n_pairs, 2].
    """

    datasets: np.ndarray
    pair_ids: np.ndarray
    cluster_ids: np.ndarray
    prompts: np.ndarray
    first: list[np.ndarray]
    second: list[np.ndarray]
    truncated: np.ndarray

    def __len__(self) -> int:
        return len(self.pair_ids)

    @property
    def lengths(self) -> np.ndarray:
        """Tokens of the longer side of each pair, int64 [n_pairs]."""
        sides = zip(self.first, self.second, strict=True)
        return np.array([max(len(a), len(b)) for a, b in sides], dtype=np.int64)

    def at(self, rows: np.ndarray) -> "TokenisedPairs":
        """Return some of the pairs, by number or by mask."""
        numbers = np.flatnonzero(rows) if rows.dtype == np.bool_ else rows
        return TokenisedPairs(
            self.datasets[numbers],
            self.pair_ids[numbers],
            self.cluster_ids[numbers],
            self.prompts[numbers],
            [self.first[i] for i in numbers],
            [self.second[i] for i in numbers],
            self.truncated[numbers],
        )


@dataclass(frozen=True, slots=True)
class PairTally:
    """What became of the pairs of one data set.

    Attributes:
        dataset: Its name.
        n_pairs: All of them.
        n_ties: Left out: no side was preferred.
        n_identical: Left out: both sides have the same tokens, as they stand or after the cut.
        n_truncated: Of those that stay, pairs with a side that was cut.
    """

    dataset: str
    n_pairs: int
    n_ties: int
    n_identical: int
    n_truncated: int

    def line(self) -> str:
        """Return the counts for a reader."""
        used = self.n_pairs - self.n_ties - self.n_identical
        left_out = f"left out: {self.n_ties:,} ties, {self.n_identical:,} whose sides have the same tokens"
        return f"{self.dataset}: {used:,} of {self.n_pairs:,} pairs ({left_out}); {self.n_truncated:,} cut"


def tokenise_pairs(
    data: PreferenceData, tokeniser: Tokeniser, view: ViewRequest, on_pairs: Callable[[int], None] | None = None
) -> tuple[TokenisedPairs, PairTally]:
    """Tokenise the pairs of a data set that state a preference.

    Args:
        data: The pairs.
        tokeniser: Gives token ids.
        view: What is read of each side, and how it is cut.
        on_pairs: Called with the number of pairs that were read, for a progress bar.

    Raises:
        InputError: The view is longer than the encoder can read.
    """
    ids, clusters, prompts = [], [], []
    first, second, truncated = [], [], []
    n_ties = n_identical = 0
    for pairs in portions(data.read(), _n_characters):
        stated = [pair for pair in pairs if not pair.is_tie]
        n_ties += len(pairs) - len(stated)
        parts = [view_parts(side, view.view) for pair in stated for side in (pair.first, pair.second)]
        tokens = tokeniser.encode(parts, view.max_length, view.truncation)
        for k, pair in enumerate(stated):
            sides = [np.asarray(tokens.ids[2 * k + i], dtype=np.int32) for i in (0, 1)]
            if np.array_equal(sides[0], sides[1]):
                n_identical += 1
                continue
            ids.append(pair.pair_id)
            clusters.append(pair.cluster_id)
            prompts.append([key_of(normalise(view_parts(d, "prompt")[1])) for d in (pair.first, pair.second)])
            first.append(sides[0])
            second.append(sides[1])
            truncated.append(tokens.truncated[2 * k : 2 * k + 2])
        if on_pairs is not None:
            on_pairs(len(pairs))
    was_cut = np.array(truncated, dtype=np.bool_).reshape(-1, 2)
    tally = PairTally(data.name, len(data.index), n_ties, n_identical, int(was_cut.any(axis=1).sum()))
    keys = np.array(prompts, dtype=np.uint64).reshape(-1, 2)
    names = np.array([data.name] * len(ids), dtype=np.str_)
    as_text = (np.array(ids, dtype=np.str_), np.array(clusters, dtype=np.str_))
    return TokenisedPairs(names, *as_text, keys, first, second, was_cut), tally


def join_pairs(parts: Sequence[TokenisedPairs]) -> TokenisedPairs:
    """Return the pairs of several data sets as one."""
    return TokenisedPairs(
        np.concatenate([part.datasets for part in parts]),
        np.concatenate([part.pair_ids for part in parts]),
        np.concatenate([part.cluster_ids for part in parts]),
        np.concatenate([part.prompts for part in parts]),
        [ids for part in parts for ids in part.first],
        [ids for part in parts for ids in part.second],
        np.concatenate([part.truncated for part in parts]),
    )


def shares_prompt(pairs: TokenisedPairs, others: TokenisedPairs) -> np.ndarray:
    """Tell which pairs have a prompt, or a cluster, of some other pairs: bool [n_pairs]."""
    same_prompt = np.isin(pairs.prompts, others.prompts).any(axis=1)
    return np.asarray(same_prompt | np.isin(pairs.cluster_ids, others.cluster_ids))


@dataclass(frozen=True, slots=True)
class PairSplit:
    """Training and validation pairs; no cluster and no prompt is in both.

    Attributes:
        train: Training pairs.
        val: Validation pairs.
        n_dropped: Training pairs left out because a validation pair of another cluster has their prompt.
    """

    train: TokenisedPairs
    val: TokenisedPairs
    n_dropped: int

    def ids(self) -> dict[str, dict[str, list[str]]]:
        """Return split -> data set -> pair ids."""
        return {name: _ids_by_dataset(pairs) for name, pairs in (("train", self.train), ("val", self.val))}


def split_pairs(pairs: TokenisedPairs, val_fraction: float, seed: int) -> PairSplit:
    """Split by cluster, as a pure function of (seed, cluster) that is independent of the parts of the data.

    Args:
        pairs: All pairs.
        val_fraction: Share of the clusters for validation, in (0, 1).
        seed: Another seed draws another split.

    Raises:
        InputError: A fraction outside (0, 1), or a split that gets no pair.
    """
    if not 0 < val_fraction < 1:
        raise InputError(f"val_fraction {val_fraction}", "a share between 0 and 1", "--data.val_fraction")
    chosen = Part("held-out", val_fraction, seed)
    # The prefix keeps this draw independent of that of the parts, which may have the same seed.
    is_val = np.array([chosen.holds(f"validation\0{cluster}") for cluster in pairs.cluster_ids], dtype=np.bool_)
    val, rest = pairs.at(is_val), pairs.at(~is_val)
    shared = shares_prompt(rest, val)
    split = PairSplit(rest.at(~shared), val, int(shared.sum()))
    if not len(split.train) or not len(split.val):
        found = f"{len(split.train)} training and {len(split.val)} validation pairs at val_fraction {val_fraction}"
        raise InputError(found, "at least one of each", "more data, or another --data.val_fraction")
    return split


class PairDataModule(pl.LightningDataModule):
    """Batches of pairs: fixed size and length-grouped for training, by token budget for validation.

    Args:
        split: The tokenised pairs.
        pad_id: Id of the padding token.
        batch_size: Training pairs per step.
        token_budget: Padded tokens per validation batch.
        seed: Seed of the training order.
    """

    def __init__(self, split: PairSplit, pad_id: int, batch_size: int, token_budget: int, seed: int) -> None:
        super().__init__()
        self.split = split
        self._pad_id = pad_id
        # A pair is two texts.
        self._val_batches = [b.tolist() for b in token_budget_batches(2 * split.val.lengths, token_budget)]
        self._sampler = LengthGroupedBatches(split.train.lengths, batch_size, seed)

    @property
    def batches_per_epoch(self) -> int:
        """Training batches in one epoch."""
        return len(self._sampler)

    def train_dataloader(self) -> DataLoader[PairBatch]:
        """Training batches of the current epoch."""
        return self._loader(self.split.train, self._sampler)

    def val_dataloader(self) -> DataLoader[PairBatch]:
        """Validation batches, longest pairs first."""
        return self._loader(self.split.val, self._val_batches)

    def _loader(self, pairs: TokenisedPairs, batches: Any) -> DataLoader[PairBatch]:
        # batch_size=None: the sampler yields whole batches, as in AnnotationDataModule.
        return DataLoader(_PairDataset(pairs, self._pad_id), sampler=batches, batch_size=None, collate_fn=_unchanged)  # type: ignore[arg-type]


class _PairDataset(Dataset[PairBatch]):
    """Gives a padded batch for a list of row numbers."""

    def __init__(self, pairs: TokenisedPairs, pad_id: int) -> None:
        self._pairs = pairs
        self._pad_id = pad_id

    def __len__(self) -> int:
        return len(self._pairs)

    def __getitem__(self, rows: list[int]) -> PairBatch:
        sides = [self._pairs.first[i] for i in rows] + [self._pairs.second[i] for i in rows]
        return PairBatch(*pad(sides, self._pad_id))  # type: ignore[arg-type]


def _unchanged(batch: PairBatch) -> PairBatch:
    return batch


def _ids_by_dataset(pairs: TokenisedPairs) -> dict[str, list[str]]:
    names = dict.fromkeys(pairs.datasets.tolist())
    return {name: pairs.pair_ids[pairs.datasets == name].tolist() for name in names}


def _n_characters(pair: PreferencePair) -> int:
    return sum(len(turn.text) for side in (pair.first, pair.second) for turn in side.turns)
