import numpy as np
import pytest

from datamodules.annotations import AnnotatedText
from datamodules.errors import InputError
from datamodules.splits import (
    Fold,
    Splits,
    check_no_leak,
    connected_groups,
    label_counts,
    one_class_lines,
    require_contrast,
    split_texts,
    stratified_parts,
)


def text(i, labels=(1, 0), group=None, content=None):
    return AnnotatedText(f"t{i}", content or f"text number {i}", tuple(labels), group or f"g{i}", "test")


def many(n=300, seed=0):
    rng = np.random.default_rng(seed)
    return [text(i, (rng.random(3) < (0.5, 0.2, 0.06)).astype(int), group=f"g{i // 3}") for i in range(n)]


def test_groups_connect_by_group_text_and_dialogue_opening():
    texts = [
        text(0, group="x"),
        text(1, group="x"),
        text(2, content="Same  TEXT"),
        text(3, content="same text"),
        text(4, content="Human: Hi there?\n\nAssistant: Yes."),
        text(5, content="Human: hi THERE?\n\nAssistant: No.\n\nHuman: Oh?\n\nAssistant: Well."),
        text(6),
    ]
    assert connected_groups(texts).tolist() == [0, 0, 1, 1, 2, 2, 3]


def test_groups_connect_through_a_chain():
    chain = [text(0, group="a", content="one"), text(1, group="b", content="one"), text(2, group="b", content="two")]
    assert connected_groups(chain).tolist() == [0, 0, 0]


def test_no_group_straddles_and_every_text_is_somewhere():
    texts = many()
    splits = split_texts(texts, None, 0.1, 0.2, seed=1)
    owner = {t.group_id: name for name in ("train", "val", "test") for t in getattr(splits, name)}
    for name in ("train", "val", "test"):
        assert all(owner[t.group_id] == name for t in getattr(splits, name))
    assert len(splits.train) + len(splits.val) + len(splits.test) == len(texts)
    assert sum(splits.n_groups.values()) == 100


def test_label_shares_are_closer_than_in_a_random_split():
    texts = many(600)
    wanted = np.array([t.labels for t in texts]).mean(axis=0)

    def distance(parts):
        return max(np.abs(np.array([t.labels for t in part]).mean(axis=0) / wanted - 1).max() for part in parts)

    splits = split_texts(texts, None, 0.1, 0.2, seed=0)
    ours = distance([splits.train, splits.val, splits.test])
    groups = connected_groups(texts)
    random = []
    for seed in range(10):
        order = np.random.default_rng(seed).permutation(groups.max() + 1)
        cuts = np.split(order, [20, 60])
        random.append(distance([[t for t, g in zip(texts, groups, strict=True) if g in set(c)] for c in cuts]))
    assert ours < 0.2
    assert ours < np.median(random) / 2


def test_shares_of_texts_are_as_asked():
    splits = split_texts(many(600), None, 0.1, 0.2, seed=0)
    assert abs(len(splits.val) - 60) <= 6
    assert abs(len(splits.test) - 120) <= 9


def test_the_seed_decides_and_repeats():
    ids = [[t.text_id for t in split_texts(many(), None, 0.1, 0.2, seed=s).test] for s in (0, 0, 1)]
    assert ids[0] == ids[1] != ids[2]


def test_parts_by_hand():
    # Two groups carry the rare label: one must go to each half.
    positives = np.array([[1, 0], [1, 0], [1, 0], [1, 1], [1, 1], [1, 0]], dtype=bool)
    parts = stratified_parts(positives, np.array([0, 1, 2, 3, 4, 5]), [0.5, 0.5], seed=0)
    assert parts[3] != parts[4]
    assert (parts == 0).sum() == 3


def test_a_given_test_file_stands_and_its_texts_leave_training():
    train = [text(i) for i in range(40)]
    given = [text(100, content="text number 7"), text(101, group="g9")]
    splits = split_texts(train, given, 0.2, 0.5, seed=0)
    assert [t.text_id for t in splits.test] == ["t100", "t101"]
    assert splits.n_leaks_dropped == 1
    assert splits.n_test_groups_shared == 1
    assert "t7" not in {t.text_id for t in splits.train + splits.val}
    assert len(splits.train) + len(splits.val) == 39


def test_a_leak_is_an_error():
    with pytest.raises(RuntimeError, match="t1 of test shares its text with train"):
        check_no_leak({"train": [text(0, content="same")], "test": [text(1, content="Same")]})


@pytest.mark.parametrize(("val", "test"), [(0.0, 0.2), (0.5, 0.5), (-0.1, 0.2), (0.1, 1.0)])
def test_impossible_fractions_are_told(val, test):
    with pytest.raises(InputError, match=r"--data\.val_fraction"):
        split_texts(many(), None, val, test, seed=0)


def test_too_few_groups_are_told():
    with pytest.raises(InputError, match="2 group"):
        split_texts([text(i, group=f"g{i % 2}") for i in range(20)], None, 0.1, 0.2, seed=0)


@pytest.mark.parametrize(
    ("labels", "rows", "found"),
    [
        ("a", [(1,), (1,)], "2 training texts that all carry a and nothing else"),
        ("a", [(1,), (-1,)], "2 training texts that carry a or do not say"),
        ("a", [(0,), (0,)], "2 training texts that all carry nothing and nothing else"),
        ("ab", [(1, 0), (1, 0), (1, -1)], "3 training texts that all carry a and nothing else"),
        ("ab", [(1, -1), (1, -1)], "2 training texts that all carry a and nothing else"),
        ("ab", [(1, 1), (1, 1)], "2 training texts that all carry a, b and nothing else"),
        ("a", [(1,), (0,)], None),
        ("ab", [(1, -1), (-1, 1)], None),
        ("ab", [(1, 0), (1, 1)], None),
    ],
)
def test_texts_that_are_all_labelled_alike_teach_nothing(labels, rows, found):
    texts = [text(i, row) for i, row in enumerate(rows)]
    if found is None:
        require_contrast(texts, tuple(labels))
        return
    with pytest.raises(InputError, match=rf"{found}; needed .*; fix: .*--data\.path"):
        require_contrast(texts, tuple(labels))


def test_a_split_with_one_class_is_told():
    train = tuple(text(i, row) for i, row in enumerate([(1, 1, 0), (1, 0, -1)]))
    val = (text(2, (1, 0, 0)), text(3, (-1, 1, 0)))
    test = (text(4, (1, 1, 1)), text(5, (1, 0, -1)))
    assert one_class_lines(Splits(train, val, test, {}, 0, 0), ("a", "b", "c")) == [
        "warning: every train text carries a: the classifier cannot learn when it does not hold",
        "warning: no val text carries c: its threshold is not its own, see the notes on thresholds",
        "warning: every test text carries a: metrics that need both are undefined (-)",
    ]


def test_label_counts_leave_unknown_out():
    assert label_counts([text(0, (1, -1)), text(1, (0, 1)), text(2, (-1, -1))], ["a", "b"]) == {
        "a": (1, 2),
        "b": (1, 1),
    }


def test_folds_have_every_text_in_test_once_and_no_group_straddles():
    texts = many()
    folds = [split_texts(texts, None, 0.1, 0.5, seed=1, fold=Fold(k, 5)) for k in range(5)]
    tested = [t.text_id for splits in folds for t in splits.test]
    assert sorted(tested) == sorted(t.text_id for t in texts)
    for splits in folds:
        owner = {t.group_id: name for name in ("train", "val", "test") for t in getattr(splits, name)}
        assert all(owner[t.group_id] == name for name in ("train", "val", "test") for t in getattr(splits, name))
        assert len(splits.train) + len(splits.val) + len(splits.test) == len(texts)
        # test_fraction plays no part; the share for validation is that of all texts.
        assert abs(len(splits.test) - 60) <= 12
        assert abs(len(splits.val) - 30) <= 9
        assert sum(splits.n_groups.values()) == 100
        carried = np.array([t.labels for t in splits.test]).sum(axis=0)
        assert np.abs(carried - np.array([t.labels for t in texts]).sum(axis=0) / 5).max() <= 3


def test_the_folds_of_a_seed_repeat_and_those_of_another_differ():
    ids = [[t.text_id for t in split_texts(many(), None, 0.1, 0.2, s, Fold(2, 4)).test] for s in (0, 0, 1)]
    assert ids[0] == ids[1] != ids[2]


@pytest.mark.parametrize(
    ("fold", "val", "given", "told"),
    [
        (Fold(0, 5), 0.1, [text(900)], r"5 folds of a data set that ships a test file.*leave out --data\.n_folds"),
        (Fold(5, 5), 0.1, None, r"fold 5 of 5.*numbered from 0.*--data\.fold"),
        (Fold(0, 1), 0.1, None, r"fold 0 of 1.*at least 2 folds"),
        (Fold(0, 2), 0.5, None, r"val_fraction 0\.5 with 2 folds.*--data\.val_fraction"),
        (Fold(100, 101), 0.1, None, r"no text for test.*fewer --data\.n_folds"),
    ],
)
def test_impossible_folds_are_told(fold, val, given, told):
    with pytest.raises(InputError, match=told):
        split_texts(many(), given, val, 0.2, 0, fold)
