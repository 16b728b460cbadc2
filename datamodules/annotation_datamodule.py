"""How do annotated texts reach training?"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pytorch_lightning as pl
import torch
from torch.utils.data import DataLoader, Dataset

from datamodules.annotations import AnnotatedText
from datamodules.batching import LengthGroupedBatches, pad, token_budget_batches
from datamodules.dialogue import DialogueError, parse_hh, view_parts
from datamodules.splits import Splits, connected_groups
from datamodules.tokenise import TokenisedTexts, Tokeniser
from datamodules.views import ViewRequest


@dataclass(frozen=True, slots=True)
class Batch:
    """Padded texts with their labels.

    Attributes:
        input_ids: int64 [batch, length].
        attention_mask: int64 [batch, length].
        targets: 1 holds, 0 does not, -1 unknown; int64 [batch, n_labels].
        groups: Number of the group that each text belongs to, int64 [batch].
    """

    input_ids: torch.Tensor
    attention_mask: torch.Tensor
    targets: torch.Tensor
    groups: torch.Tensor

    def to(self, device: torch.device) -> "Batch":
        """Return the batch on `device`; Lightning calls it."""
        return Batch(*(getattr(self, name).to(device) for name in ("input_ids", "attention_mask", "targets", "groups")))


@dataclass(frozen=True, slots=True, eq=False)
class PooledFeatures:
    """What a frozen encoder makes of texts.

    Attributes:
        vectors: One pooled vector per distinct token sequence, float32 [n_distinct, width], memory-mapped.
        rows: Which of them each text has, int64 [n].
        encoder: Digest of the encoder and pooling that made them.
    """

    vectors: np.ndarray
    rows: np.ndarray
    encoder: str


@dataclass(frozen=True, slots=True)
class TokenisedSplit:
    """One split, tokenised.

    Attributes:
        texts: The annotated texts.
        tokens: Their token ids.
        targets: int64 [n, n_labels] in {1, 0, -1}.
        groups: Group numbers; texts of one group depend on each other, int64 [n].
        features: Their pooled vectors, where a frozen encoder made them once; None where the encoder is in the loop.
    """

    texts: tuple[AnnotatedText, ...]
    tokens: TokenisedTexts
    targets: np.ndarray
    groups: np.ndarray
    features: PooledFeatures | None = None

    @property
    def lengths(self) -> np.ndarray:
        """Tokens per text, int64 [n]."""
        return np.array([len(ids) for ids in self.tokens.ids], dtype=np.int64)


@dataclass(frozen=True, slots=True)
class TokenisedSplits:
    """Train, validation and test, tokenised."""

    train: TokenisedSplit
    val: TokenisedSplit
    test: TokenisedSplit


class _SplitDataset(Dataset[Batch]):
    """Gives a padded batch for a list of row numbers."""

    def __init__(self, split: TokenisedSplit, pad_id: int) -> None:
        self._split = split
        self._pad_id = pad_id

    def __len__(self) -> int:
        return len(self._split.texts)

    def __getitem__(self, rows: list[int]) -> Batch:
        input_ids, attention_mask = pad([self._split.tokens.ids[i] for i in rows], self._pad_id)
        targets, groups = self._split.targets[rows], self._split.groups[rows]
        return Batch(input_ids, attention_mask, torch.from_numpy(targets), torch.from_numpy(groups))


def text_parts(text: str, view: ViewRequest) -> tuple[str, str]:
    """Return (context, focus) of a text under a view; a text that is no dialogue is read whole, as it stands."""
    try:
        dialogue = parse_hh(text)
    except DialogueError:
        return "", text
    return view_parts(dialogue, view.view)


def tokenise_split(texts: Sequence[AnnotatedText], tokeniser: Tokeniser, view: ViewRequest) -> TokenisedSplit:
    """Tokenise annotated texts under a view."""
    tokens = tokeniser.encode([text_parts(t.text, view) for t in texts], view.max_length, view.truncation)
    targets = np.array([t.labels for t in texts], dtype=np.int64)
    return TokenisedSplit(tuple(texts), tokens, targets, connected_groups(texts))


def tokenise_splits(splits: Splits, tokeniser: Tokeniser, view: ViewRequest) -> TokenisedSplits:
    """Tokenise all splits under a view."""
    return TokenisedSplits(*(tokenise_split(s, tokeniser, view) for s in (splits.train, splits.val, splits.test)))


class AnnotationDataModule(pl.LightningDataModule):
    """Batches of annotated texts: fixed size and length-grouped for training, by token budget for evaluation.

    Args:
        splits: The split texts.
        pad_id: Id of the padding token.
        batch_size: Training texts per step.
        token_budget: Padded tokens per evaluation batch.
        seed: Seed of the training order.
    """

    def __init__(self, splits: TokenisedSplits, pad_id: int, batch_size: int, token_budget: int, seed: int) -> None:
        super().__init__()
        self.train, self.val, self.test = splits.train, splits.val, splits.test
        self._pad_id = pad_id
        self._token_budget = token_budget
        self._sampler = LengthGroupedBatches(self.train.lengths, batch_size, seed)

    @property
    def batches_per_epoch(self) -> int:
        """Training batches in one epoch."""
        return len(self._sampler)

    def train_dataloader(self) -> DataLoader[Batch]:
        """Training batches of the current epoch."""
        return self._loader(self.train, self._sampler)

    def val_dataloader(self) -> DataLoader[Batch]:
        """Validation batches, longest texts first."""
        return self._loader(self.val, [b.tolist() for b in token_budget_batches(self.val.lengths, self._token_budget)])

    def _loader(self, split: TokenisedSplit, batches: LengthGroupedBatches | list[list[int]]) -> DataLoader[Batch]:
        # batch_size=None: the sampler yields whole batches. No workers: padding a batch takes well under a millisecond.
        return DataLoader(_SplitDataset(split, self._pad_id), sampler=batches, batch_size=None, collate_fn=_unchanged)  # type: ignore[arg-type]


def _unchanged(batch: Batch) -> Batch:
    return batch
