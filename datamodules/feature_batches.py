"""How do pooled vectors of annotated texts reach the training of a head?"""

from dataclasses import dataclass

import numpy as np
import pytorch_lightning as pl
import torch
from torch.utils.data import DataLoader, Dataset

from datamodules.annotation_datamodule import TokenisedSplit, TokenisedSplits
from datamodules.batching import LengthGroupedBatches

# Validation texts whose vectors are scored together.
ROWS_AT_ONCE = 4096


@dataclass(frozen=True, slots=True)
class FeatureBatch:
    """Pooled vectors of texts with their labels.

    Attributes:
        features: float32 [batch, width].
        targets: 1 holds, 0 does not, -1 unknown; int64 [batch, n_labels].
        groups: Number of the group that each text belongs to, int64 [batch].
    """

    features: torch.Tensor
    targets: torch.Tensor
    groups: torch.Tensor

    def to(self, device: torch.device) -> "FeatureBatch":
        """Return the batch on `device`; Lightning calls it."""
        return FeatureBatch(self.features.to(device), self.targets.to(device), self.groups.to(device))


class _FeatureDataset(Dataset[FeatureBatch]):
    """Gives a batch of vectors for a list of row numbers."""

    def __init__(self, split: TokenisedSplit) -> None:
        if split.features is None:
            raise ValueError("a split without pooled features")
        self._vectors = split.features.vectors
        self._rows = split.features.rows
        self._targets = torch.from_numpy(split.targets)
        self._groups = torch.from_numpy(split.groups)

    def __len__(self) -> int:
        return len(self._rows)

    def __getitem__(self, rows: list[int]) -> FeatureBatch:
        features = torch.from_numpy(np.array(self._vectors[self._rows[rows]]))
        return FeatureBatch(features, self._targets[rows], self._groups[rows])


class FeatureDataModule(pl.LightningDataModule):
    """The batches of `AnnotationDataModule`, text by text the same, with pooled vectors in place of tokens.

    Args:
        splits: The split texts, with features.
        batch_size: Training texts per step.
        seed: Seed of the training order.
    """

    def __init__(self, splits: TokenisedSplits, batch_size: int, seed: int) -> None:
        super().__init__()
        self.train, self.val, self.test = splits.train, splits.val, splits.test
        # Length groups buy nothing here, but with them a head is trained exactly as with the encoder in the loop.
        self._sampler = LengthGroupedBatches(splits.train.lengths, batch_size, seed)

    @property
    def batches_per_epoch(self) -> int:
        """Training batches in one epoch."""
        return len(self._sampler)

    def train_dataloader(self) -> DataLoader[FeatureBatch]:
        """Training batches of the current epoch."""
        return self._loader(self.train, self._sampler)

    def val_dataloader(self) -> DataLoader[FeatureBatch]:
        """Validation batches, longest texts first."""
        order = np.argsort(-self.val.lengths, kind="stable").tolist()
        return self._loader(self.val, [order[i : i + ROWS_AT_ONCE] for i in range(0, len(order), ROWS_AT_ONCE)])

    def _loader(
        self, split: TokenisedSplit, batches: LengthGroupedBatches | list[list[int]]
    ) -> DataLoader[FeatureBatch]:
        return DataLoader(_FeatureDataset(split), sampler=batches, batch_size=None, collate_fn=_unchanged)  # type: ignore[arg-type]


def _unchanged(batch: FeatureBatch) -> FeatureBatch:
    return batch
