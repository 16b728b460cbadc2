import math

import pytest
import torch
from torch import nn

from datamodules.errors import InputError
from datamodules.taxonomy import Taxonomy, load_taxonomy
from datamodules.views import ViewRequest
from models.classifier import ValueClassifier, load_classifier
from models.encoder import load_pretrained
from models.heads import LabelAttention, build_head, definition_queries, label_texts
from models.reward_model import RewardModel

VIEW = ViewRequest("dialogue", "head", 48)
STATES = torch.tensor([[[1.0, 0.0], [0.0, 2.0], [9.0, 9.0]]])
MASK = torch.tensor([[1, 1, 0]])


@pytest.fixture(scope="module")
def tiny(tiny_encoder):
    return load_pretrained(str(tiny_encoder))


def label_attention():
    head = LabelAttention(2, 2, dropout=0.5).eval()
    head.set_queries(torch.tensor([[math.sqrt(2) * math.log(3), 0.0], [0.0, 0.0]]))
    head.score.weight.data = torch.tensor([[1.0, 10.0], [1.0, 1.0]])
    head.score.bias.data = torch.tensor([0.5, 0.0])
    return head


def test_label_attention_by_hand():
    # The first query makes the first token three times as likely as the second; the other one weighs both alike.
    head = label_attention()
    expected = torch.tensor([[[0.75, 0.25, 0.0], [0.5, 0.5, 0.0]]])
    torch.testing.assert_close(head.attention(STATES, MASK), expected)
    # 0.75 * (1, 0) + 0.25 * (0, 2) scored by (1, 10), and 0.5 * (1, 0) + 0.5 * (0, 2) by (1, 1).
    torch.testing.assert_close(head(STATES, MASK), torch.tensor([[0.75 + 5.0 + 0.5, 0.5 + 1.0]]))


def test_a_label_has_its_own_query_vector_and_score():
    head = label_attention()
    before = head(STATES, MASK)
    head.query.data[0] += 1.0
    moved = head(STATES, MASK)
    assert moved[0, 0] != before[0, 0]
    assert moved[0, 1] == before[0, 1]


def test_dropout_acts_on_what_was_pooled():
    head = label_attention().train()
    torch.manual_seed(0)
    assert len({tuple(head(STATES, MASK)[0].tolist()) for _ in range(20)}) > 1


def test_an_mlp_has_one_hidden_layer_with_gelu_and_dropout():
    head = build_head("mlp", 2, 1, width=3, dropout=0.5)
    first, second = head[0], head[3]
    assert (first.weight.shape, second.weight.shape) == ((3, 2), (1, 3))
    vectors = torch.tensor([[1.0, -2.0]])
    expected = second(nn.functional.gelu(first(vectors)))
    torch.testing.assert_close(head.eval()(vectors), expected)
    head.train()
    assert len({head(vectors).item() for _ in range(20)}) > 1


@pytest.mark.parametrize(
    ("kind", "width", "text"),
    [
        ("cnn", None, "head 'cnn'.*linear, mlp, label-attention"),
        ("mlp", None, "mlp with a hidden layer of width None"),
        ("mlp", 0, "mlp with a hidden layer of width 0"),
        ("linear", 8, "linear with a hidden layer of width 8"),
    ],
)
def test_an_impossible_head_is_told(kind, width, text):
    with pytest.raises(InputError, match=text):
        build_head(kind, 2, 1, width, 0.0)


def test_labels_in_words():
    texts = label_texts(load_taxonomy("value-imprint"))
    assert len(texts) == 7
    assert texts[0].startswith("Civility/Tolerance: Treating people, groups and opinions with respect")
    signed = label_texts(load_taxonomy("schwartz"))
    assert len(signed) == 20
    assert signed[0].startswith("in favour of Self-direction: Thinking")
    assert signed[1] == signed[0].replace("in favour of", "against")
    bare = Taxonomy.from_dict({"name": "x", "values": [{"slug": "a", "name": "Fair play"}]})
    assert label_texts(bare) == ["Fair play"]


def test_queries_look_for_what_a_text_means_and_leave_no_trace(tiny):
    model = ValueClassifier.from_pretrained(tiny, load_taxonomy("value-imprint"), VIEW)
    model.train()
    random_state = torch.random.get_rng_state()
    texts = ["why do i sleep", "respect the law because it is fair"] * 20 + ["help " * 500]
    queries = definition_queries(model.encoder, model.tokeniser, texts)
    assert model.encoder.training
    assert torch.equal(torch.random.get_rng_state(), random_state)
    assert queries.shape == (41, 16)
    assert not queries.requires_grad
    torch.testing.assert_close(queries[0], queries[38], rtol=0, atol=1e-4)
    # Logits are ten times the cosine, for a token state as long as they usually are.
    torch.testing.assert_close(queries.norm(dim=-1), queries[0].norm().expand(41))
    model.eval()
    ids = [torch.tensor([own]) for own in model.tokeniser.encode([("", text) for text in texts], 128).ids]
    means = torch.cat([model.features(own, torch.ones_like(own)) for own in ids])
    # What they have in common tells nothing apart.
    expected = nn.functional.normalize(means - means.mean(dim=0), dim=-1)
    torch.testing.assert_close(nn.functional.normalize(queries, dim=-1), expected, rtol=0, atol=1e-4)


@pytest.mark.parametrize("size", [1.0, 30.0])
def test_queries_are_as_sharp_whatever_the_size_of_token_states(tiny, size):
    model = ValueClassifier.from_pretrained(tiny, load_taxonomy("value-imprint"), VIEW)
    norm = model.encoder.encoder.layer[1].output.LayerNorm
    norm.weight.data.fill_(size)
    queries = definition_queries(model.encoder, model.tokeniser, ["why do i sleep"])
    # A layer norm of weight w makes states of length w * sqrt(16), so that 10 = length * w * sqrt(16) / sqrt(16).
    assert queries.norm().item() == pytest.approx(10 / size, rel=1e-3)


def test_queries_begin_as_the_definitions(tiny, tmp_path):
    taxonomy = load_taxonomy("value-imprint")
    model = ValueClassifier.from_pretrained(tiny, taxonomy, VIEW, head="label-attention")
    expected = definition_queries(model.encoder, model.tokeniser, label_texts(taxonomy))
    assert torch.equal(model.head.query, expected)
    assert len(torch.unique(expected, dim=0)) == 7
    # Training moves them, and a checkpoint brings them as they are.
    model.head.query.data += 1.0
    torch.save({"state_dict": model.state_dict(), "hyper_parameters": dict(model.hparams)}, tmp_path / "a.ckpt")
    assert torch.equal(load_classifier(tmp_path / "a.ckpt").head.query, expected + 1.0)


def test_heads_score_differently(tiny):
    ids, scores = torch.tensor([[2, 7, 8, 3]]), {}
    for head, width in (("linear", None), ("mlp", 8), ("label-attention", None)):
        torch.manual_seed(0)
        model = ValueClassifier.from_pretrained(
            tiny, load_taxonomy("schwartz"), VIEW, head=head, head_width=width
        ).eval()
        scores[head] = model(ids, torch.ones_like(ids))
    assert not torch.allclose(scores["linear"], scores["mlp"])
    assert not torch.allclose(scores["linear"], scores["label-attention"])


@pytest.mark.parametrize(("head", "width"), [("linear", None), ("mlp", 8), ("label-attention", None)])
def test_a_head_stays_in_float32_under_autocast(tiny, head, width):
    model = ValueClassifier.from_pretrained(tiny, load_taxonomy("schwartz"), VIEW, head=head, head_width=width).eval()
    ids = torch.tensor([[2, 7, 8, 3]])
    mask = torch.ones_like(ids)
    features = model.features(ids, mask)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        scores = model.score_features(features, mask)
        assert model.features(ids, mask).dtype == torch.float32
        assert not torch.equal(model.features(ids, mask), features)  # the encoder does round
    assert scores.dtype == torch.float32
    assert torch.equal(scores, model.score_features(features, mask))


@pytest.mark.parametrize("pooling", ["cls", "attention"])
def test_a_pooling_that_would_act_nowhere_is_told(tiny, pooling):
    with pytest.raises(InputError, match=rf"pooling {pooling} with head label-attention.*leave --model\.pooling out"):
        ValueClassifier.from_pretrained(tiny, load_taxonomy("schwartz"), VIEW, head="label-attention", pooling=pooling)


def test_a_reward_model_keeps_its_linear_head(tiny):
    head = RewardModel.from_pretrained(tiny, VIEW, []).head
    assert isinstance(head, nn.Linear)
    assert head.bias is None


def test_a_checkpoint_of_before_there_were_heads_still_loads(tiny, tmp_path):
    taxonomy = load_taxonomy("value-imprint")
    model = ValueClassifier.from_pretrained(tiny, taxonomy, VIEW).eval()
    # The hyper-parameters as they were, by name.
    stored = {
        "encoder_name": "tiny",
        "encoder_config": tiny.config,
        "tokenizer_json": tiny.tokenizer_json,
        "pad_id": tiny.pad_id,
        "max_positions": tiny.max_positions,
        "taxonomy": taxonomy.to_dict(),
        "view": {"view": "dialogue", "truncation": "head", "max_length": 48},
        "loss": "wan",
        "class_weights": [1.0] * 7,
        "pooling": "mean",
        "dropout": 0.1,
        "encoder_dropout": None,
        "max_false_negative_rate": None,
    }
    state = {"head.weight": torch.ones(7, 16), "head.bias": torch.arange(7.0)}
    state |= {f"encoder.{name}": weight for name, weight in tiny.weights.items()}
    torch.save({"state_dict": state, "hyper_parameters": stored}, tmp_path / "old.ckpt")
    old = load_classifier(tmp_path / "old.ckpt")
    ids = torch.tensor([[2, 7, 8, 3]])
    pooled = model.features(ids, torch.ones_like(ids))
    torch.testing.assert_close(old(ids, torch.ones_like(ids)), pooled.sum(dim=1, keepdim=True) + torch.arange(7.0))
