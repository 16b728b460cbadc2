"""Repeats, swaps and conflicts across pairs, against all pairs compared one by one."""

import math

import numpy as np
import pytest

from datamodules.pair_likeness import chosen_and_rejected, likeness, repeats, swapped


@pytest.mark.parametrize(
    ("first", "second", "expected"),
    [
        ("a b c", "a b c", 1.0),
        ("A, b! c", "c b a", 1.0),
        ("a b", "c d", 0.0),
        ("a b c", "b c d", 0.5),
        ("a", "", 0.0),
        ("it's", "its", 0.0),
    ],
)
def test_likeness_is_jaccards(first, second, expected):
    assert likeness(first, second) == likeness(second, first) == expected


def test_likeness_of_nothing_is_undefined():
    assert math.isnan(likeness("", " ... "))


def test_against_all_pairs_compared_one_by_one():
    rng = np.random.default_rng(0)
    for _ in range(30):
        n = int(rng.integers(1, 40))
        keys = rng.integers(0, 6, size=(n, 2)).astype(np.uint64)
        is_tie = rng.random(n) < 0.3
        rows = [tuple(row) for row in keys.tolist()]
        assert repeats(keys).tolist() == [rows[i] in rows[:i] for i in range(n)]
        assert repeats(keys[:, 0]).tolist() == [rows[i][0] in [r[0] for r in rows[:i]] for i in range(n)]
        assert swapped(keys).tolist() == [a != b and (b, a) in rows for a, b in rows]
        usable = [i for i in range(n) if not is_tie[i] and rows[i][0] != rows[i][1]]
        chosen, rejected = ({rows[i][side] for i in usable} for side in (0, 1))
        expected = [[i in usable and text in chosen & rejected for text in rows[i]] for i in range(n)]
        assert chosen_and_rejected(keys, is_tie).tolist() == expected


def test_no_pairs():
    none = np.zeros((0, 2), dtype=np.uint64)
    assert repeats(none).shape == swapped(none).shape == (0,)
    assert chosen_and_rejected(none, np.zeros(0, dtype=bool)).shape == (0, 2)
