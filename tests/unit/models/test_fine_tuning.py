import pytest
import torch

from datamodules.errors import InputError
from datamodules.taxonomy import load_taxonomy
from datamodules.views import ViewRequest
from models.classifier import Optimisation, ValueClassifier
from models.encoder import load_pretrained

VIEW = ViewRequest("dialogue", "head", 48)
IDS = torch.tensor([[2, 7, 8, 9, 3], [2, 11, 3, 0, 0]])
MASK = (IDS != 0).long()


@pytest.fixture(scope="module")
def tiny(tiny_encoder):
    return load_pretrained(str(tiny_encoder))


def built(tiny, **options):
    torch.manual_seed(0)
    return ValueClassifier.from_pretrained(tiny, load_taxonomy("value-imprint"), VIEW, **options)


def test_a_frozen_encoder_is_a_pure_function_of_its_tokens(tiny):
    model = built(tiny, encoder_training="frozen")
    model.on_train_epoch_start()
    assert model.head.training
    assert model.dropout.training
    assert not any(module.training for module in model.encoder.modules())
    first, second = model.features(IDS, MASK), model.features(IDS, MASK)
    assert torch.equal(first, second)
    assert not first.requires_grad
    assert torch.equal(first, model.eval().features(IDS, MASK))
    assert model.score_features(first).requires_grad


def test_an_encoder_that_is_trained_has_dropout_and_a_graph(tiny):
    model = built(tiny)
    model.on_train_epoch_start()
    first, second = model.features(IDS, MASK), model.features(IDS, MASK)
    assert first.requires_grad
    assert not torch.equal(first, second)


@pytest.mark.parametrize(
    ("options", "shape"),
    [
        ({}, (2, 16)),
        ({"pooling": "cls"}, (2, 16)),
        ({"head": "mlp", "head_width": 8}, (2, 16)),
        ({"pooling": "attention"}, (2, 5, 16)),
        ({"head": "label-attention"}, (2, 5, 16)),
    ],
)
def test_features_are_what_trained_weights_read(tiny, options, shape):
    model = built(tiny, encoder_training="frozen", **options).eval()
    features = model.features(IDS, MASK)
    assert features.shape == shape
    assert model.has_vector_features == (len(shape) == 2)
    mask = () if model.has_vector_features else (MASK,)
    assert torch.equal(model.score_features(features, *mask), model(IDS, MASK))


def test_dropout_before_the_head_acts_on_cached_features(tiny):
    model = built(tiny, encoder_training="frozen", dropout=0.5).train()
    features = model.features(IDS, MASK)
    assert not torch.equal(model.score_features(features), model.score_features(features))
    model = built(tiny, encoder_training="frozen", dropout=0.0).train()
    assert torch.equal(model.score_features(features), model.score_features(features))


def test_a_dropout_inside_a_frozen_encoder_is_told(tiny):
    with pytest.raises(InputError, match=r"encoder_dropout 0\.2 in a frozen encoder"):
        built(tiny, encoder_training="frozen", encoder_dropout=0.2)


def test_parameters_are_counted(tiny):
    n_encoder = sum(weight.numel() for weight in tiny.weights.values())
    assert built(tiny).parameter_counts() == {"trainable": n_encoder + 7 * 17, "total": n_encoder + 7 * 17}
    frozen = built(tiny, encoder_training="frozen")
    assert frozen.parameter_counts() == {"trainable": 7 * 17, "total": n_encoder + 7 * 17}


def test_an_optimiser_of_a_head_alone_takes_steps(tiny):
    model = built(tiny, encoder_training="frozen")
    model.optimisation = Optimisation(1.0, 1.0, 0.0, 0.0, "constant", 1, 0)
    optimizer = model.configure_optimizers()["optimizer"]
    assert [len(group["params"]) for group in optimizer.param_groups] == [0, 0, 1, 1]
    before = model.head.weight.clone()
    model(IDS, MASK).sum().backward()
    optimizer.step()
    assert not torch.equal(model.head.weight, before)
