import pytest
import torch

from datamodules.errors import InputError
from datamodules.taxonomy import load_taxonomy
from datamodules.views import ViewRequest
from models.checkpoint_file import AVERAGING
from models.classifier import Optimisation, ValueClassifier, load_classifier, read_checkpoint
from models.digest import weights_digest
from models.encoder import load_pretrained

VIEW = ViewRequest("dialogue", "head", 48)
IDS = torch.tensor([[2, 7, 8, 9, 3]])


@pytest.fixture(scope="module", params=["full", "frozen", "lora"])
def model(request, tiny_encoder):
    return ValueClassifier.from_pretrained(
        load_pretrained(str(tiny_encoder)),
        load_taxonomy("value-imprint"),
        VIEW,
        encoder_training=request.param,
        lora={"rank": 2} if request.param == "lora" else None,
    )


@pytest.fixture(scope="module")
def content(model):
    """What is saved after a step."""
    model.optimisation = Optimisation(1.0, 1.0, 0.0, 0.0, "constant", 1, 0)
    optimizer = model.configure_optimizers()["optimizer"]
    model(IDS, torch.ones_like(IDS)).sum().backward()
    optimizer.step()
    content = {"state_dict": model.state_dict(), "hyper_parameters": dict(model.hparams)}
    content |= {"epoch": 0, "global_step": 1, "loops": {}, "lr_schedulers": [{}], "pytorch-lightning_version": "2.6.6"}
    return content | {"optimizer_states": [optimizer.state_dict()]}


@pytest.fixture
def path(tmp_path):
    return tmp_path / "last.ckpt"


def test_a_model_is_rebuilt_whole_and_nothing_is_drawn_at_random(model, content, path):
    torch.save(content, path)
    random_state = torch.random.get_rng_state()
    again = load_classifier(path)
    assert torch.equal(torch.random.get_rng_state(), random_state)
    assert weights_digest(again.state_dict()) == weights_digest(model.state_dict())
    buffers = dict(model.named_buffers())  # also those that are in no file
    assert list(buffers) == [name for name, _ in again.named_buffers()]
    assert all(torch.equal(own, buffers[name]) for name, own in again.named_buffers())
    assert not again.training
    # Only while it was read.
    assert not torch.equal(torch.nn.Linear(2, 2).weight, torch.nn.Linear(2, 2).weight)


def test_training_can_go_on_from_it(content, path):
    torch.save(content, path)
    assert read_checkpoint(path, "--resume")["epoch"] == 0


def averaging(model, **changes):
    trained = {name: own.detach() for name, own in model.named_parameters() if own.requires_grad}
    return {AVERAGING: {"trained": trained | changes, "n_updates": 1, "last_step": 1}}


def test_averaged_weights_have_those_that_training_goes_on_from(model, content, path):
    torch.save(content | averaging(model), path)
    assert read_checkpoint(path, "--resume")[AVERAGING]["n_updates"] == 1


@pytest.mark.parametrize(
    ("changes", "text"),
    [
        (
            {"head.weight": torch.ones(2)},
            r"weights are not those of its own architecture \(head\.weight is \[2\]",
        ),
        ({"pooling.query": torch.ones(2)}, r"pooling\.query too many"),
        ({"head.bias": torch.full((7,), torch.nan)}, r"weights that are not finite \(head\.bias\)"),
        (None, "whose averaging of weights is of another version"),
    ],
)
def test_damaged_averages_are_told(model, content, path, changes, text):
    torch.save(content | ({AVERAGING: {"trained": {}}} if changes is None else averaging(model, **changes)), path)
    with pytest.raises(InputError, match=rf"last\.ckpt, .*{text}"):
        read_checkpoint(path, "--resume")
