import numpy as np

from datamodules.annotated_text import NOT_ASKED, AnnotatedText
from datamodules.annotation_datamodule import PooledFeatures, TokenisedSplit
from datamodules.joint_splits import joined, part_of, without_overlap
from datamodules.splits import Splits
from datamodules.tokenise import TokenisedTexts


def text(words, group=None):
    return AnnotatedText(f"id {words}", words, (1,), group or words, "own")


def splits(train, val, test):
    parts = (tuple(map(text, own)) for own in (train, val, test))
    return Splits(*parts, {"train": len(train), "val": len(val), "test": len(test)}, 0, 0)


def test_no_data_set_trains_on_what_another_one_validates_or_tests_on():
    opening = "Human: {}\n\nAssistant: {}"
    first = splits(["a", "b", "c", opening.format("why", "so")], ["d"], ["e"])
    second = splits(["D", "E ", "f"], ["g", opening.format("why", "not")], ["b"])
    third = splits(["h"], ["a", "i"], ["j"])
    found = without_overlap([first, second, third])
    # Case, white space and what follows the same opening do not make another text.
    assert [[own.text for own in part.train] for part in found] == [["c"], ["f"], ["h"]]
    assert [part.n_overlaps_dropped for part in found] == [3, 2, 0]
    assert [part.n_groups["train"] for part in found] == [1, 1, 1]
    for before, after in zip((first, second, third), found, strict=True):
        assert (before.val, before.test) == (after.val, after.test)
    assert found[0].to_dict()["n_overlaps_dropped"] == 3
    assert found[2].to_dict() == third.to_dict()


def split(words, targets, groups, features=None):
    tokens = TokenisedTexts([[len(word)] for word in words], np.zeros(len(words), dtype=bool))
    return TokenisedSplit(tuple(map(text, words)), tokens, np.array(targets), np.array(groups), features)


def test_joined_data_sets_keep_their_labels_and_groups_apart():
    first = split(["aa", "b"], [[1, 0], [0, -1]], [0, 0])
    second = split(["ccc", "d", "e"], [[1], [-1], [0]], [0, 1, 0])
    whole = joined([first, second])
    n = NOT_ASKED
    assert whole.targets.tolist() == [[1, 0, n], [0, -1, n], [n, n, 1], [n, n, -1], [n, n, 0]]
    assert whole.groups.tolist() == [0, 0, 1, 2, 1]
    assert whole.lengths.tolist() == [1] * 5
    for own, columns in ((first, slice(0, 2)), (second, slice(2, 3))):
        again = part_of(whole, columns)
        assert again.texts == own.texts
        assert again.tokens.ids == own.tokens.ids
        assert again.targets.tolist() == own.targets.tolist()
    assert joined([first]) is first


def test_a_part_keeps_its_pooled_vectors():
    vectors = np.arange(6.0).reshape(3, 2)
    whole = split(
        ["a", "b", "c"], [[1, -2], [-2, 1], [0, -2]], [0, 1, 2], PooledFeatures(vectors, np.array([2, 0, 1]), "e")
    )
    assert part_of(whole, slice(0, 1)).features.rows.tolist() == [2, 1]
    assert part_of(whole, slice(1, 2)).features.rows.tolist() == [0]
