import numpy as np
import pytest
import torch

from datamodules.annotated_text import NOT_ASKED
from datamodules.annotation_datamodule import Batch
from datamodules.errors import InputError
from datamodules.taxonomy import load_taxonomy
from datamodules.views import ViewRequest
from models.classifier import ValueClassifier, load_classifier
from models.encoder import load_pretrained
from models.evaluation import is_error, validation_metrics
from models.losses import compute_loss
from models.tasks import build_tasks, joint_loss, joint_metrics

VIEW = ViewRequest("dialogue", "head", 48)


def plain(name, slugs, signed=False):
    values = [{"slug": slug, "name": slug} for slug in slugs]
    return {"name": name, "signed": signed, "values": values}


def task(taxonomy, loss="bce", **options):
    return {"taxonomy": taxonomy, "loss": loss, "class_weights": None, "loss_settings": None} | options


MAIN, OTHER = plain("main", ["a", "b"]), plain("other", ["a", "c", "d"])
N = NOT_ASKED
TARGETS = torch.tensor([[1, 0, N, N, N], [0, -1, N, N, N], [N, N, 1, -1, -1], [1, 1, N, N, N]])


def test_the_joint_loss_by_hand():
    tasks = build_tasks([task(MAIN), task(OTHER, "wan", weight=2.0)], None)
    logits = torch.zeros(4, 5)
    # At logit 0 every term is log 2. Main: 5 known entries, mean log 2, 3 of 4 texts. Other: the positive and twice 1/2
    # of an unknown label, weight 2, 1 of 4 texts.
    expected = np.log(2) * (3 / 4 * 1 + 2 * 1 / 4 * (1 + 2 * 1 / 2))
    assert joint_loss(tasks, logits, TARGETS, torch.ones(5)).item() == pytest.approx(expected)


def test_the_joint_loss_is_that_of_each_taxonomy_on_its_own_texts():
    tasks = build_tasks([task(MAIN), task(OTHER, "softmax")], None)
    logits, weights = torch.randn(4, 5, generator=torch.Generator().manual_seed(0)), torch.tensor([1.0, 2, 3, 1, 2])
    own = compute_loss("bce", logits[[0, 1, 3], :2], TARGETS[[0, 1, 3], :2], weights[:2])
    other = compute_loss("softmax", logits[[2], 2:], TARGETS[[2], 2:], weights[2:])
    torch.testing.assert_close(joint_loss(tasks, logits, TARGETS, weights), 3 / 4 * own + 1 / 4 * other)


@pytest.mark.parametrize("loss", ["bce", "wan", "an-ls", "asl", "softmax"])
def test_a_label_that_a_text_was_not_asked_for_has_no_gradient(loss):
    settings = {"unknown_as_negative": True} if loss == "asl" else None
    tasks = build_tasks([task(MAIN, loss, loss_settings=settings), task(OTHER, loss, loss_settings=settings)], None)
    logits = torch.randn(4, 5, generator=torch.Generator().manual_seed(1)).requires_grad_()
    joint_loss(tasks, logits, TARGETS, torch.ones(5)).backward()
    assert (logits.grad[TARGETS == NOT_ASKED] == 0).all()
    assert (logits.grad[2, 2:] != 0).any()


def test_names_and_columns_do_not_clash():
    signed = plain("signed", ["a"], signed=True)
    tasks = build_tasks([task(MAIN), task(OTHER), task(signed)], 0.2)
    assert [own.name for own in tasks] == ["", "other", "signed"]
    assert [(own.columns.start, own.columns.stop) for own in tasks] == [(0, 2), (2, 5), (5, 7)]
    assert [own.qualified("f1/a") for own in tasks] == ["f1/a", "other/f1/a", "signed/f1/a"]
    # The bound is that of the main data set alone.
    assert [own.max_false_negative_rate for own in tasks] == [0.2, None, None]


def test_a_loss_that_does_not_suit_a_further_taxonomy_is_told():
    with pytest.raises(InputError, match=r"loss wan with one value.*--data\.also"):
        build_tasks([task(MAIN), task(plain("one", ["a"]), "wan")], None)
    with pytest.raises(InputError, match=r"loss 'mse'.*--data\.also"):
        build_tasks([task(MAIN), task(OTHER, "mse")], None)


def test_metrics_are_those_of_each_taxonomy_alone():
    rng = np.random.default_rng(0)
    tasks = build_tasks([task(MAIN), task(OTHER, "wan")], None)
    targets = np.full((200, 5), NOT_ASKED)
    first = rng.random(200) < 0.6
    targets[first, :2] = rng.integers(0, 2, (int(first.sum()), 2))
    targets[~first, 2:] = -1
    targets[~first, 2 + rng.integers(0, 3, int((~first).sum()))] = 1
    logits, groups = rng.normal(size=(200, 5)), np.arange(200)
    found = joint_metrics(tasks, logits, targets, groups)
    expected = {}
    for own, rows, columns in ((tasks[0], first, slice(0, 2)), (tasks[1], ~first, slice(2, 5))):
        alone = validation_metrics(
            logits[rows, columns], targets[rows, columns], groups[rows], own.taxonomy, False, own.chance_thresholds
        )
        expected |= {own.qualified(name): value for name, value in alone.items()}
    assert found.keys() == expected.keys()
    np.testing.assert_array_equal([found[name] for name in found], [expected[name] for name in found])
    assert {"f1_macro", "other/f1_top1_macro"} <= found.keys()
    assert "other/f1_macro" not in found


@pytest.mark.parametrize(
    ("metric", "expected"),
    [
        ("val/loss", True),
        ("val/ece_macro", True),
        ("val/schwartz/loss", True),
        ("val/schwartz/ece/power-for", True),
        ("val/schwartz/ap_macro", False),
        ("val/f1/loss", False),
    ],
)
def test_what_is_better_when_less(metric, expected):
    assert is_error(metric) == expected


@pytest.fixture(scope="module")
def encoder(tiny_encoder):
    return load_pretrained(str(tiny_encoder))


def built(encoder, further=True, **options):
    torch.manual_seed(0)
    own = [task(load_taxonomy("schwartz").to_dict(), "wan")] if further else None
    return ValueClassifier.from_pretrained(encoder, load_taxonomy("valueeval"), VIEW, further=own, **options)


def batch(model):
    ids = torch.tensor(model.tokeniser.encode([("", "why do i sleep"), ("", "you can help them")], 48).ids)
    targets = torch.full((2, 40), NOT_ASKED)
    targets[:, :20] = 0
    return Batch(ids, torch.ones_like(ids), targets, torch.arange(2))


@pytest.mark.parametrize("options", [{}, {"head": "mlp", "head_width": 5}, {"head": "label-attention"}])
def test_every_taxonomy_has_a_head_of_its_own(encoder, options, tmp_path):
    model, alone = built(encoder, **options).eval(), built(encoder, further=False, **options).eval()
    own = batch(model)
    scores = model(own.input_ids, own.attention_mask)
    assert scores.shape == (2, 40)
    # Both taxonomies have an achievement; the outputs of the main one begin as they do alone.
    torch.testing.assert_close(scores[:, :20], alone(own.input_ids, own.attention_mask), rtol=0, atol=0)
    assert model.labels == alone.labels
    assert [each.name for each in model.further] == ["schwartz"]
    model._loss(scores, own.targets).backward()
    assert all((weight.grad is None) or (weight.grad == 0).all() for weight in model.further_heads.parameters())
    assert all((weight.grad != 0).any() for weight in model.head.parameters())
    model.zero_grad()
    others = torch.cat([own.targets[:, 20:], own.targets[:, :20]], dim=1)
    model._loss(model(own.input_ids, own.attention_mask), others).backward()
    assert all((weight.grad != 0).any() for weight in model.further_heads.parameters())
    assert all((weight.grad == 0).all() for weight in model.head.parameters())
    torch.save({"state_dict": model.state_dict(), "hyper_parameters": dict(model.hparams)}, tmp_path / "a.ckpt")
    again = load_classifier(tmp_path / "a.ckpt")
    torch.testing.assert_close(again(own.input_ids, own.attention_mask), scores, rtol=0, atol=0)
    assert again.tasks == model.tasks
