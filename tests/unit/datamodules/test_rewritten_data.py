import json

import numpy as np
import pytest

from datamodules.preferences import read_preferences
from datamodules.rewritten_data import drawn_pairs, rewritten_data

PROMPT = "\n\nHuman: q{}\n\nAssistant: first\n\nHuman: more\n\nAssistant:"


@pytest.fixture
def data(tmp_path):
    rows = [
        {
            side: f"\n\nHuman: q{i}\n\nAssistant: first\n\nHuman: more\n\nAssistant: {side} {i}"
            for side in ("chosen", "rejected")
        }
        | {"tie": i == 2}
        for i in range(4)
    ]
    path = tmp_path / "four.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return read_preferences(str(path), None)


def test_only_pairs_with_both_sides_stay_and_only_the_last_turn_changes(data):
    texts = {("four-0", "chosen"): "new c", ("four-0", "rejected"): "new r", ("four-1", "chosen"): "lonely"}
    texts |= {("four-2", "a"): "new a", ("four-2", "b"): "new b", ("four-3", "a"): "wrong side"}
    made = rewritten_data(data, texts)
    assert made.index.pair_ids.tolist() == ["four-0", "four-2"]
    assert made.index.is_tie.tolist() == [False, True]
    assert made.index.cluster_ids.tolist() == data.index.cluster_ids[[0, 2]].tolist()
    pairs = list(made.read())
    assert [(pair.first.response, pair.second.response) for pair in pairs] == [("new c", "new r"), ("new a", "new b")]
    original = next(data.read())
    assert pairs[0].first.turns[:-1] == original.first.turns[:-1]
    assert (pairs[0].pair_id, pairs[0].cluster_id) == (original.pair_id, original.cluster_id)
    assert made.digest != rewritten_data(data, texts | {("four-0", "chosen"): "newer c"}).digest
    assert list(made.read()) == pairs, "read again"


def test_pairs_are_drawn_by_their_ids_alone():
    ids = np.array([f"p{i}" for i in range(1_000)])
    few, many = drawn_pairs(ids, 100, 0), drawn_pairs(ids, 300, 0)
    assert (few.sum(), many.sum()) == (100, 300)
    assert (many | ~few).all(), "a larger draw holds the smaller one"
    order = np.random.default_rng(0).permutation(1_000)
    assert (drawn_pairs(ids[order], 100, 0) == few[order]).all(), "the order of the file does not matter"
    assert (drawn_pairs(ids, 100, 1) != few).any()
    assert drawn_pairs(ids, 5_000, 0).all()
    # Spread over the file: the mean position of a draw of 100 of 1,000 is within three standard errors of the middle.
    assert abs(np.flatnonzero(few).mean() - 499.5) < 3 * 288.7 / 10
