import numpy as np
import torch

from datamodules.batching import LengthGroupedBatches, pad, token_budget_batches


def test_pad_fills_on_the_right():
    ids, mask = pad([[5, 6, 7], [8]], pad_id=0)
    assert torch.equal(ids, torch.tensor([[5, 6, 7], [8, 0, 0]]))
    assert torch.equal(mask, torch.tensor([[1, 1, 1], [1, 0, 0]]))


def test_token_budget_batches_hold_each_text_once_longest_first_within_budget():
    lengths = np.array([3, 50, 7, 7, 120, 9, 1])
    batches = token_budget_batches(lengths, budget=60)
    assert sorted(np.concatenate(batches).tolist()) == list(range(7))
    assert batches[0].tolist() == [4]  # longer than the budget: alone
    for batch in batches[1:]:
        assert len(batch) * lengths[batch].max() <= 60
    firsts = [lengths[batch].max() for batch in batches]
    assert firsts == sorted(firsts, reverse=True)


def test_training_order_is_a_pure_function_of_seed_and_epoch():
    lengths = np.random.default_rng(0).integers(5, 90, 101)
    sampler = LengthGroupedBatches(lengths, batch_size=8, seed=3)
    orders = []
    for epoch in (0, 1, 0):
        sampler.set_epoch(epoch)
        orders.append(list(sampler))
    assert orders[0] == orders[2]
    assert orders[0] != orders[1]
    for order in orders:
        assert sorted(i for batch in order for i in batch) == list(range(101))
        assert len(order) == len(sampler) == 13


def test_batches_hold_texts_of_like_length():
    lengths = np.random.default_rng(0).integers(5, 200, 512)
    sampler = LengthGroupedBatches(lengths, batch_size=16, seed=0)
    padded = sum(len(batch) * lengths[batch].max() for batch in sampler)
    shuffled = np.random.default_rng(1).permutation(512).reshape(-1, 16)
    naive = sum(16 * lengths[batch].max() for batch in shuffled)
    assert padded / lengths.sum() < 1.15 < naive / lengths.sum()
