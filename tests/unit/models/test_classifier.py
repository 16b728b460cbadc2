import os
import pickle
import zipfile
from dataclasses import asdict

import pytest
import torch

from datamodules.errors import InputError
from datamodules.taxonomy import load_taxonomy
from datamodules.views import ViewRequest
from models.classifier import Optimisation, ValueClassifier, load_classifier, read_checkpoint
from models.digest import weights_digest
from models.encoder import load_pretrained
from models.optimisation import parameter_groups

VIEW = ViewRequest("dialogue", "head", 48)


def optimisation(**changes):
    settings = {
        "lr_encoder": 0.1,
        "lr_head": 1.0,
        "weight_decay": 0.01,
        "warmup_fraction": 0.2,
        "schedule": "linear",
        "total_steps": 10,
        "seed": 0,
    }
    return Optimisation(**(settings | changes))


@pytest.fixture
def classifier(tiny_encoder):
    torch.manual_seed(0)
    return ValueClassifier.from_pretrained(load_pretrained(str(tiny_encoder)), load_taxonomy("schwartz"), VIEW)


def save(model, path):
    torch.save({"state_dict": model.state_dict(), "hyper_parameters": dict(model.hparams)}, path)


def test_a_checkpoint_rebuilds_everything_without_the_encoder_folder(classifier, tmp_path):
    save(classifier, tmp_path / "a.ckpt")
    again = load_classifier(tmp_path / "a.ckpt")
    assert weights_digest(again.state_dict()) == weights_digest(classifier.state_dict())
    assert again.labels == classifier.labels == load_taxonomy("schwartz").labels
    assert again.view == VIEW
    assert again.tokeniser.digest == classifier.tokeniser.digest
    assert not again.training
    ids = again.tokeniser.encode([("", "why do i sleep")], 48).ids
    mask = torch.ones(1, len(ids[0]), dtype=torch.int64)
    classifier.eval()
    torch.testing.assert_close(again(torch.tensor(ids), mask), classifier(torch.tensor(ids), mask))


def test_hyper_parameters_are_plain(classifier):
    def plain(value):
        if isinstance(value, dict):
            return all(isinstance(k, str) and plain(v) for k, v in value.items())
        if isinstance(value, list | tuple):
            return all(plain(v) for v in value)
        return value is None or isinstance(value, str | int | float | bool)

    assert plain(dict(classifier.hparams))


@pytest.mark.parametrize(
    ("content", "text"),
    [
        (b"", "which is empty"),
        (b"not a checkpoint", "which is not a torch checkpoint"),
        (b"PK\x03\x04 half a zip file", "which is cut off: its end is missing"),
    ],
)
def test_a_corrupt_checkpoint_is_told(tmp_path, content, text):
    path = tmp_path / "bad.ckpt"
    path.write_bytes(content)
    with pytest.raises(InputError, match=rf"bad\.ckpt, {text}"):
        load_classifier(path)


@pytest.mark.parametrize("share", [0.001, 0.1, 0.5, 0.9, 0.99999])
def test_a_truncated_checkpoint_is_told(classifier, tmp_path, share):
    path = tmp_path / "half.ckpt"
    save(classifier, path)
    content = path.read_bytes()
    path.write_bytes(content[: int(len(content) * share)])
    with pytest.raises(
        InputError, match=r"cut off: its end is missing \([\d,]+ bytes are there\).*copy the file again"
    ):
        load_classifier(path)


def test_a_damaged_middle_is_told(classifier, tmp_path):
    path = tmp_path / "hole.ckpt"
    save(classifier, path)
    content = bytearray(path.read_bytes())
    content[60:400] = bytes(340)
    path.write_bytes(content)
    with pytest.raises(InputError, match=r"hole\.ckpt, which (does not load as|holds more)"):
        load_classifier(path)


class Command:
    """A pickle of this touches a file when it is read without care."""

    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return os.system, (f"touch {self.path}",)


def test_code_inside_a_checkpoint_is_not_run(classifier, tmp_path):
    save(classifier, tmp_path / "a.ckpt")
    content = torch.load(tmp_path / "a.ckpt", weights_only=True) | {"extra": Command(tmp_path / "ran")}
    torch.save(content, tmp_path / "bad.ckpt")
    (tmp_path / "bare.ckpt").write_bytes(pickle.dumps(Command(tmp_path / "ran")))
    with pytest.raises(InputError, match=r"holds more than tensors and plain values \(\w+\.system\); not loaded"):
        load_classifier(tmp_path / "bad.ckpt")
    with pytest.raises(InputError, match="not a torch checkpoint"):
        load_classifier(tmp_path / "bare.ckpt")
    assert not (tmp_path / "ran").exists()


def test_another_zip_archive_is_told(tmp_path):
    with zipfile.ZipFile(tmp_path / "x.ckpt", "w") as archive:
        archive.writestr("folder/readme.txt", "hello")
    with pytest.raises(InputError, match="a zip archive that is not a torch checkpoint"):
        load_classifier(tmp_path / "x.ckpt")


@pytest.mark.parametrize(
    ("damage", "text"),
    [
        (lambda c: c["state_dict"].pop("head.bias"), r"not those of its own architecture \(no head\.bias\)"),
        (lambda c: c["state_dict"].update(more=torch.ones(1)), r"\(more too many\)"),
        (lambda c: c["state_dict"].update({"head.bias": torch.ones(3)}), r"\(head\.bias is \[3\], not \[20\]\)"),
        (lambda c: c["state_dict"].update({"head.bias": "x"}), r"\(head\.bias is a str\)"),
        (lambda c: c.update(state_dict={}), r"\(no encoder\.\S+, no encoder\.\S+, no encoder\.\S+ and \d+ more\)"),
        (lambda c: c.update(state_dict=[]), "whose `state_dict` is a list"),
        (lambda c: c.pop("state_dict"), "a checkpoint of something else .*no `state_dict`"),
        (
            lambda c: c.update(hyper_parameters=None),
            "a checkpoint of something else .*no taxonomy and no encoder_config",
        ),
        (
            lambda c: c["state_dict"]["head.bias"][:1].fill_(float("nan")),
            r"not finite \(head\.bias\): training had diverged",
        ),
        (
            lambda c: c["state_dict"]["head.bias"][:1].fill_(float("inf")),
            r"not finite \(head\.bias\): training had diverged",
        ),
        (lambda c: c["hyper_parameters"].update(new=1), "another version or an edited one .*'new'"),
        (lambda c: c["hyper_parameters"].update(tokenizer_json="{"), "another version or an edited one"),
        (lambda c: c["hyper_parameters"]["encoder_config"].update(model_type="none"), "an edited one .*none"),
        (lambda c: c["hyper_parameters"]["taxonomy"].update(values=[]), r"an edited one \(`values` of the taxonomy is"),
    ],
)
def test_weights_and_arguments_are_checked(classifier, tmp_path, damage, text):
    path = tmp_path / "bad.ckpt"
    save(classifier, path)
    content = torch.load(path, weights_only=True)
    damage(content)
    torch.save(content, path)
    for read in (load_classifier, read_checkpoint):
        with pytest.raises(InputError, match=text) as raised:
            read(path, "--this-one")
        assert str(path) in raised.value.found
        assert "--this-one" in raised.value.fix


def resumable(classifier, path):
    """Write a checkpoint as Lightning does, after one step."""
    classifier.optimisation = optimisation()
    optimizer = classifier.configure_optimizers()["optimizer"]
    classifier(torch.tensor([[2, 7, 3]]), torch.ones(1, 3, dtype=torch.int64)).sum().backward()
    optimizer.step()
    content = {"state_dict": classifier.state_dict(), "hyper_parameters": dict(classifier.hparams)}
    content |= {"epoch": 0, "global_step": 1, "loops": {}, "lr_schedulers": [{}], "pytorch-lightning_version": "2.6.6"}
    torch.save(content | {"optimizer_states": [optimizer.state_dict()]}, path)


@pytest.mark.parametrize(
    ("damage", "text"),
    [
        (lambda c: [c.pop(name) for name in ("epoch", "loops")], r"cannot go on from \(it has no epoch, loops\)"),
        (lambda c: c.pop("optimizer_states"), r"cannot go on from \(it has no optimizer_states\)"),
        (lambda c: c.update(optimizer_states=[]), "optimiser state is not that of its own weights"),
        (lambda c: c["optimizer_states"][0]["state"].pop(3), "optimiser state is not that of its own weights"),
        (
            lambda c: c["optimizer_states"][0]["state"][0].update(exp_avg=torch.zeros(1)),
            "optimiser state is not that of its own weights",
        ),
    ],
)
def test_what_training_goes_on_from_is_checked(classifier, tmp_path, damage, text):
    path = tmp_path / "last.ckpt"
    resumable(classifier, path)
    assert read_checkpoint(path, "--resume")["epoch"] == 0
    content = torch.load(path, weights_only=True)
    damage(content)
    torch.save(content, path)
    with pytest.raises(InputError, match=text):
        read_checkpoint(path, "--resume")
    assert load_classifier(path).labels == classifier.labels  # its weights are sound


def test_a_checkpoint_of_something_else_is_told(tmp_path):
    torch.save({"state_dict": {}, "hyper_parameters": {"lr": 1.0}}, tmp_path / "other.ckpt")
    with pytest.raises(InputError, match="a checkpoint of something else"):
        load_classifier(tmp_path / "other.ckpt")


def test_a_missing_checkpoint_is_told(tmp_path):
    with pytest.raises(InputError, match="no file at"):
        load_classifier(tmp_path / "none.ckpt")


def test_encoder_and_head_have_their_own_rates_and_biases_no_decay(classifier):
    groups = parameter_groups(classifier, optimisation())
    assert [(group["lr"], group["weight_decay"]) for group in groups] == [(0.1, 0.01), (0.1, 0), (1.0, 0.01), (1.0, 0)]
    n_grouped = sum(p.numel() for group in groups for p in group["params"])
    assert n_grouped == sum(p.numel() for p in classifier.parameters())
    assert groups[2]["params"][0] is classifier.head.weight
    assert all(p.ndim == 1 for group in groups[1::2] for p in group["params"])


@pytest.mark.parametrize(
    ("schedule", "expected"),
    [
        ("linear", [1 / 3, 2 / 3, 1.0, 0.875, 0.125, 0.0]),
        ("constant", [1 / 3, 2 / 3, 1.0, 1.0, 1.0, 1.0]),
        ("cosine", [1 / 3, 2 / 3, 1.0, 0.9619397662556434, 0.03806023374435663, 0.0]),
    ],
)
def test_learning_rate_factors(schedule, expected):
    factor = optimisation(schedule=schedule).factor
    assert [factor(step) for step in (0, 1, 2, 3, 9, 10)] == pytest.approx(expected)


def test_a_warm_up_never_outlasts_the_run():
    # The released Value Imprint notebooks ask for 1,000 warm-up steps in runs of 656 and 816 steps.
    with pytest.raises(InputError, match=r"warmup_fraction 1\.5.*\[0, 1\)"):
        optimisation(warmup_fraction=1.5)
    assert max(optimisation(warmup_fraction=0.99, total_steps=7).factor(s) for s in range(7)) <= 1.0


def test_unknown_options_are_told(tiny_encoder):
    encoder = load_pretrained(str(tiny_encoder))
    with pytest.raises(InputError, match="loss 'hinge'"):
        ValueClassifier.from_pretrained(encoder, load_taxonomy("schwartz"), VIEW, loss="hinge")
    with pytest.raises(InputError, match="schedule 'step'"):
        optimisation(schedule="step")


def test_class_weights_shape_the_loss_but_not_the_digest(tiny_encoder):
    encoder, taxonomy = load_pretrained(str(tiny_encoder)), load_taxonomy("value-imprint")
    models = []
    for weights in (None, [2.0, 1, 1, 1, 1, 1, 3.0]):
        torch.manual_seed(1)
        models.append(ValueClassifier.from_pretrained(encoder, taxonomy, VIEW, loss="wan", class_weights=weights))
    assert weights_digest(models[0].state_dict()) == weights_digest(models[1].state_dict())
    logits, targets = torch.zeros(1, 7), torch.tensor([[1, -1, -1, -1, -1, -1, -1]])
    assert models[0]._loss(logits, targets) < models[1]._loss(logits, targets)
    assert models[1].chance_thresholds == pytest.approx([2 / 3, *[0.5] * 5, 0.75])


def test_the_view_is_kept_in_the_checkpoint(classifier):
    assert classifier.hparams["view"] == asdict(VIEW)
