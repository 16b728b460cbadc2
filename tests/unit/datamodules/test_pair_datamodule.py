import json

import numpy as np
import pytest
import torch

from datamodules.errors import InputError
from datamodules.pair_datamodule import (
    PairDataModule,
    join_pairs,
    shares_prompt,
    split_pairs,
    tokenise_pairs,
)
from datamodules.parts import Part
from datamodules.preferences import read_preferences
from datamodules.views import ViewRequest
from models.encoder import load_pretrained

VIEW = ViewRequest("exchange", "head", 24)


@pytest.fixture(scope="module")
def tokeniser(tiny_encoder):
    return load_pretrained(str(tiny_encoder)).tokeniser()


def write_pairs(path, rows):
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return read_preferences(str(path), None)


def row(i, chosen="yes", rejected="no", prompt=None, **more):
    return {"prompt": prompt or f"why {i} ?", "chosen": chosen, "rejected": rejected, **more}


def read(path, n=60):
    return write_pairs(path, [row(i, f"yes {'book ' * (i % 9)}") for i in range(n)])


def test_ties_and_identical_sides_are_left_out_and_counted(tmp_path, tokeniser):
    long = "sleep " * 40
    rows = [row(0), row(1, "same", "same"), row(2, f"{long} yes", f"{long} no"), row(3, long, "no")]
    data = write_pairs(tmp_path / "p.jsonl", rows)
    tie = write_pairs(tmp_path / "t.jsonl", [_webgpt(0, 0.0), _webgpt(1, 1.0)])
    pairs, tally = tokenise_pairs(data, tokeniser, VIEW)
    # Row 2 differs behind the cut only.
    assert pairs.pair_ids.tolist() == ["p-0", "p-3"]
    assert (tally.n_pairs, tally.n_ties, tally.n_identical, tally.n_truncated) == (4, 0, 2, 1)
    assert pairs.truncated.tolist() == [[False, False], [True, False]]
    pairs, tally = tokenise_pairs(tie, tokeniser, VIEW)
    assert (len(pairs), tally.n_ties) == (1, 1)
    assert "1 of 2 pairs (left out: 1 ties" in tally.line()


def _webgpt(i, score):
    question = {"full_text": f"why {i} ?"}
    return {"question": question, "answer_0": "yes", "answer_1": "no", "score_0": score, "score_1": -score}


def test_the_preferred_side_is_first(tmp_path, tokeniser):
    data = write_pairs(tmp_path / "p.jsonl", [row(0, "yes book", "no")])
    pairs, _ = tokenise_pairs(data, tokeniser, ViewRequest("response", "head", 24))
    expected = tokeniser.encode([("", "yes book"), ("", "no")], 24).ids
    assert [pairs.first[0].tolist(), pairs.second[0].tolist()] == expected


def test_validation_takes_whole_clusters_and_never_a_prompt_of_training(tmp_path, tokeniser):
    rows = [row(i % 30, f"yes {'book ' * (i % 7)}", prompt=f"why {'is ' * (i % 30)} ?") for i in range(90)]
    pairs, _ = tokenise_pairs(write_pairs(tmp_path / "p.jsonl", rows), tokeniser, VIEW)
    split = split_pairs(pairs, 0.3, 0)
    assert set(split.train.cluster_ids).isdisjoint(split.val.cluster_ids)
    assert not np.isin(split.train.prompts, split.val.prompts).any()
    assert split.n_dropped == 0
    assert len(split.train) + len(split.val) == len(pairs)
    assert 5 < len(split.val) < 60
    again, other = split_pairs(pairs, 0.3, 0), split_pairs(pairs, 0.3, 1)
    assert again.ids() == split.ids() != other.ids()


def test_one_prompt_in_two_groups_costs_the_training_pair(tmp_path, tokeniser):
    rows = [row(i, group=f"g{i}", prompt="why is it ?") for i in range(8)] + [row(i + 10) for i in range(30)]
    pairs, _ = tokenise_pairs(write_pairs(tmp_path / "p.jsonl", rows), tokeniser, VIEW)
    split = split_pairs(pairs, 0.4, 0)
    n_val = int(np.isin(split.val.pair_ids, [f"p-{i}" for i in range(8)]).sum())
    assert 0 < n_val < 8
    assert split.n_dropped == 8 - n_val
    assert not shares_prompt(split.train, split.val).any()


def test_the_validation_draw_is_independent_of_the_parts(tmp_path, tokeniser):
    # With the same hash and seed, no cluster of the training part would be drawn.
    rows = [row(i) for i in range(200)]
    path = tmp_path / "p.jsonl"
    write_pairs(path, rows)
    part = read_preferences(str(path), None, part=Part("train", 0.5, 0))
    split = split_pairs(tokenise_pairs(part, tokeniser, VIEW)[0], 0.2, 0)
    assert 5 <= len(split.val) <= 40


def test_an_empty_split_is_told(tmp_path, tokeniser):
    pairs, _ = tokenise_pairs(write_pairs(tmp_path / "p.jsonl", [row(0), row(1)]), tokeniser, VIEW)
    with pytest.raises(InputError, match=r"2 training and 0 validation pairs.*--data\.val_fraction"):
        split_pairs(pairs, 1e-6, 0)
    with pytest.raises(InputError, match=r"val_fraction 1\.0"):
        split_pairs(pairs, 1.0, 0)


def test_several_data_sets_are_joined(tmp_path, tokeniser):
    both = join_pairs([tokenise_pairs(read(tmp_path / f"{name}.jsonl", 20), tokeniser, VIEW)[0] for name in "ab"])
    assert both.datasets.tolist() == ["a"] * 20 + ["b"] * 20
    # The prompts are the same in both, so that they go the same way.
    split = split_pairs(both, 0.3, 0)
    assert set(split.ids()["val"]) == {"a", "b"}
    assert set(split.train.cluster_ids).isdisjoint(split.val.cluster_ids)


def test_batches_hold_each_pair_once_with_both_sides(tmp_path, tokeniser):
    split = split_pairs(tokenise_pairs(read(tmp_path / "p.jsonl"), tokeniser, VIEW)[0], 0.3, 0)
    module = PairDataModule(split, tokeniser.pad_id, batch_size=4, token_budget=100, seed=3)
    train, val = list(module.train_dataloader()), list(module.val_dataloader())
    assert len(train) == module.batches_per_epoch == -(-len(split.train) // 4)
    for batches, pairs in ((train, split.train), (val, split.val)):
        seen = []
        for batch in batches:
            n = len(batch.input_ids) // 2
            rows = [ids[mask.bool()].tolist() for ids, mask in zip(batch.input_ids, batch.attention_mask, strict=True)]
            seen += [(rows[i], rows[n + i]) for i in range(n)]
        expected = [(a.tolist(), b.tolist()) for a, b in zip(pairs.first, pairs.second, strict=True)]
        assert sorted(seen) == sorted(expected)
    assert all(batch.input_ids.numel() <= 100 for batch in val)


def test_the_training_order_is_a_function_of_seed_and_epoch(tmp_path, tokeniser):
    split = split_pairs(tokenise_pairs(read(tmp_path / "p.jsonl"), tokeniser, VIEW)[0], 0.3, 0)

    def order(seed, epoch):
        module = PairDataModule(split, tokeniser.pad_id, batch_size=4, token_budget=100, seed=seed)
        module._sampler.set_epoch(epoch)
        return torch.cat([batch.input_ids.flatten() for batch in module.train_dataloader()]).tolist()

    assert order(0, 1) == order(0, 1)
    assert order(0, 0) != order(0, 1)
    assert order(0, 0) != order(1, 0)
