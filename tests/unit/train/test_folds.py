"""The settings of folds reach the split, and what cannot be is told before anything is read."""

import numpy as np
import pytest

from datamodules.annotated_text import AnnotatedData, AnnotatedText
from datamodules.errors import InputError
from datamodules.taxonomy import load_taxonomy
from train.check_config import check_config
from train.config import Config, DataConfig
from train.inputs import split_annotations


@pytest.fixture
def data():
    taxonomy = load_taxonomy("value-imprint")
    rows = np.eye(len(taxonomy.labels), dtype=int)
    texts = tuple(
        AnnotatedText(f"t{i}", f"text {i}", tuple(rows[i % len(rows)].tolist()), f"g{i // 2}", "test")
        for i in range(140)
    )
    return AnnotatedData("table", taxonomy, texts, test_texts=None, report=None, is_sample=False)


def test_the_fold_is_test_and_folds_share_nothing(data):
    tested = []
    for fold in range(3):
        splits = split_annotations(data, DataConfig(n_folds=3, fold=fold, test_fraction=0.9)).splits
        tested += [text.text_id for text in splits.test]
        assert 35 <= len(splits.test) <= 60
        assert len(splits.val) > 5
    assert sorted(tested) == sorted(text.text_id for text in data.texts)
    whole = split_annotations(data, DataConfig(split_seed=0)).splits
    assert 20 <= len(whole.test) <= 36


@pytest.mark.parametrize(
    ("settings", "told"),
    [
        ({"fold": 1}, r"data\.fold 1 alone; needed both or none"),
        ({"n_folds": 5}, r"data\.n_folds 5 alone; needed both or none; fix: --data\.fold and --data\.n_folds"),
        ({"n_folds": 1, "fold": 0}, r"data\.n_folds 1; needed at least 2 folds"),
        ({"n_folds": 5, "fold": -1}, r"data\.fold -1"),
    ],
)
def test_half_settings_and_impossible_numbers_are_told(settings, told):
    config = Config(data=DataConfig(**settings))
    with pytest.raises(InputError, match=told):
        check_config(config)


def test_both_or_none_are_fine():
    check_config(Config())
    check_config(Config(data=DataConfig(n_folds=5, fold=4)))
