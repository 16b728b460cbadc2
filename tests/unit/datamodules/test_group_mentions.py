"""Completions that speak of another group than their prompt give away metadata joined by the order of rows."""

import numpy as np
import pytest

from datamodules.group_mentions import find_mentions

KNOWN = ("tall", "short", "blacksmiths", "calm")


def test_by_hand():
    texts = [
        "Tall people.",
        "A blacksmith works.",
        "The short and the tall.",
        "Nobody.",
        "taller, calmness",
        "Calm.",
    ]
    groups = np.array(["tall", "blacksmiths", "tall", "short", "calm", "tall"])
    found = find_mentions(texts, groups, KNOWN)
    assert (found.n, found.own) == (3, pytest.approx(2 / 3))
    # Named: tall, blacksmiths, calm; asked: tall twice, blacksmiths once.
    assert found.by_chance == pytest.approx((1 * 2 + 1 * 1) / 9)


def test_nothing_named_is_undefined():
    found = find_mentions(["Nobody."], np.array(["tall"]), KNOWN)
    assert found.n == 0
    assert np.isnan([found.own, found.by_chance]).all()
    assert not found.out_of_step


def test_rows_in_another_order_are_out_of_step():
    groups = np.repeat(["tall", "short", "calm", "blacksmiths"], 15)
    texts = [f"They are {group} people." for group in groups.tolist()]
    assert not find_mentions(texts, groups, KNOWN).out_of_step
    shuffled = np.random.default_rng(0).permutation(texts).tolist()
    found = find_mentions(shuffled, groups, KNOWN)
    assert found.by_chance == pytest.approx(0.25)
    assert found.out_of_step
    few = find_mentions(shuffled[:20], groups[:20], KNOWN)
    assert few.n == 20
    assert not few.out_of_step


def test_a_model_that_sometimes_speaks_of_others_is_in_step():
    groups = np.repeat(["tall", "short", "calm", "blacksmiths"], 15)
    texts = [f"They are {group if k % 3 else 'tall'} people." for k, group in enumerate(groups.tolist())]
    assert not find_mentions(texts, groups, KNOWN).out_of_step
