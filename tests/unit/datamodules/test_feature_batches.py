from dataclasses import replace

import numpy as np
import pytest
import torch

from datamodules.annotated_text import AnnotatedText
from datamodules.annotation_datamodule import (
    AnnotationDataModule,
    PooledFeatures,
    TokenisedSplit,
    TokenisedSplits,
)
from datamodules.feature_batches import FeatureDataModule
from datamodules.tokenise import TokenisedTexts


def a_split(n, seed):
    """Texts of number i: its only token, so often; its vector; its target; its group."""
    rng = np.random.default_rng(seed)
    ids = [[i + 1] * int(rng.integers(1, 9)) for i in range(n)]
    texts = tuple(AnnotatedText(str(i), "", (1,), str(i), "x") for i in range(n))
    targets = np.arange(n)[:, None] % 2
    return TokenisedSplit(texts, TokenisedTexts(ids, np.zeros(n, dtype=bool)), targets, np.arange(n))


def pooled(split):
    # Vectors lie in another order, and two texts share one.
    n = len(split.texts)
    rows = np.arange(n)[::-1].copy()
    rows[1] = rows[0]
    vectors = np.zeros((n, 3), dtype=np.float32)
    vectors[rows[2:]] = np.arange(2, n)[:, None]
    return replace(split, features=PooledFeatures(vectors, rows, "encoder"))


@pytest.fixture
def splits():
    return TokenisedSplits(a_split(37, 0), a_split(23, 1), a_split(5, 2))


def test_batches_hold_the_texts_of_the_ordinary_ones_in_their_order(splits):
    ordinary = AnnotationDataModule(splits, 0, 8, 20, seed=3)
    own = FeatureDataModule(TokenisedSplits(pooled(splits.train), pooled(splits.val), splits.test), 8, seed=3)
    assert own.batches_per_epoch == ordinary.batches_per_epoch == 5
    for epoch in (0, 1):
        loaders = own.train_dataloader(), ordinary.train_dataloader()
        for loader in loaders:
            loader.sampler.set_epoch(epoch)
        for batch, expected in zip(*loaders, strict=True):
            numbers = expected.input_ids[:, 0] - 1
            assert torch.equal(batch.groups, expected.groups)
            assert torch.equal(batch.targets, expected.targets)
            assert batch.features.dtype == torch.float32
            assert torch.equal(batch.features[:, 0], torch.where(numbers < 2, 0, numbers).float())
    (validation,) = own.val_dataloader()
    assert torch.equal(validation.groups, torch.cat([batch.groups for batch in ordinary.val_dataloader()]))


def test_a_split_without_features_is_an_error(splits):
    with pytest.raises(ValueError, match="without pooled features"):
        FeatureDataModule(splits, 8, 0).train_dataloader()
