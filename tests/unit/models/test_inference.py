import numpy as np
import pytest
import torch

from datamodules.taxonomy import load_taxonomy
from datamodules.views import ViewRequest
from models.classifier import ValueClassifier
from models.digest import weights_digest
from models.encoder import load_pretrained
from models.inference import evaluation_mode, score_tokens


@pytest.fixture(scope="module")
def minilm_classifier():
    torch.manual_seed(0)
    encoder = load_pretrained("minilm")
    return ValueClassifier.from_pretrained(encoder, load_taxonomy("value-imprint"), ViewRequest("dialogue", "head", 64))


@pytest.fixture(scope="module")
def token_ids():
    rng = np.random.default_rng(0)
    return [[101, *rng.integers(1000, 20000, n).tolist(), 102] for n in rng.integers(2, 60, 23)]


def test_scores_do_not_depend_on_the_batches_in_float32(minilm_classifier, token_ids):
    lengths = np.array([len(ids) for ids in token_ids])
    one_by_one = score_tokens(minilm_classifier, token_ids, lengths, 0, "float32", token_budget=1)
    for budget in (64, 500, 10**6):
        batched = score_tokens(minilm_classifier, token_ids, lengths, 0, "float32", token_budget=budget)
        np.testing.assert_allclose(batched, one_by_one, atol=1e-5, rtol=0)


def test_order_is_the_input_order_and_progress_counts_all(minilm_classifier, token_ids):
    lengths = np.array([len(ids) for ids in token_ids])
    done = []
    scores = score_tokens(minilm_classifier, token_ids, lengths, 0, "float32", 256, done.append)
    backwards = score_tokens(minilm_classifier, token_ids[::-1], lengths[::-1], 0, "float32", 256)
    np.testing.assert_allclose(backwards[::-1], scores, atol=1e-5)
    assert sum(done) == len(token_ids)


def test_scoring_leaves_modes_gradients_and_random_state_as_they_were(minilm_classifier, token_ids):
    model = minilm_classifier
    model.train()
    model.encoder.eval()
    before = torch.get_rng_state(), [module.training for module in model.modules()], weights_digest(model.state_dict())
    score_tokens(model, token_ids[:3], np.array([len(ids) for ids in token_ids[:3]]), 0, "float32")
    assert torch.equal(torch.get_rng_state(), before[0])
    assert [module.training for module in model.modules()] == before[1]
    assert weights_digest(model.state_dict()) == before[2]
    assert torch.is_grad_enabled()


def test_modes_come_back_after_an_error():
    model = torch.nn.Dropout()

    def fail():
        with evaluation_mode(model):
            assert not model.training
            raise RuntimeError("stop")

    with pytest.raises(RuntimeError, match="stop"):
        fail()
    assert model.training


def test_nothing_to_score_is_an_error(minilm_classifier):
    with pytest.raises(ValueError, match="nothing to score"):
        score_tokens(minilm_classifier, [], np.array([], dtype=int), 0)


def test_the_digest_names_weights_not_files(minilm_classifier):
    state = minilm_classifier.state_dict()
    assert weights_digest(state) == weights_digest(dict(reversed(list(state.items()))))
    changed = {name: tensor.clone() for name, tensor in state.items()}
    changed["head.bias"][0] += 1e-6
    assert weights_digest(changed) != weights_digest(state)
    assert weights_digest({"a": torch.zeros(2, 3)}) != weights_digest({"a": torch.zeros(3, 2)})
