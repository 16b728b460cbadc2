"""Every way to train runs from settings to a tested checkpoint, and a resumed run ends as the unbroken one."""

import json
from collections import Counter

import pytest
import torch

from experiments.cli import main
from models.checkpoint_file import AVERAGING
from models.classifier import ValueClassifier, load_classifier
from models.digest import weights_digest

FAST = (
    "--data.name=value-imprint",
    "--model.loss=wan",
    "--trainer.batch_size=16",
    "--track.wandb=disabled",
    "--audit.datasets=[webgpt]",
    "--audit.noise_floor=false",
)
NO_AUDIT = ("--audit.enabled=false",)
EMA = ("--trainer.average_weights=ema", "--trainer.ema_decay=0.3")
CACHED = ("--model.encoder_training=frozen", "--model.head=mlp", "--model.dropout=0.3")
FROZEN = ("--model.encoder_training=frozen", "--model.head=label-attention")
LORA = ("--model.encoder_training=lora", "--model.lora_rank=2", "--model.head=mlp", "--model.head_width=8")


def state_of(path, name="state_dict"):
    return torch.load(path, weights_only=True)[name]


def trained_weights(path):
    """Weights that training goes on from, where those of the file are their average."""
    return state_of(path, AVERAGING)["trained"]


def digests(run):
    return {path.name: weights_digest(state_of(path)) for path in sorted((run / "checkpoints").glob("*.ckpt"))}


def validations(run):
    rows = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
    return {row["step"]: {k: v for k, v in row.items() if k.startswith("val/")} for row in rows if "val/loss" in row}


def parts_that_moved(run, tiny_encoder):
    """Names of the parameters that are not those of the encoder's folder, or that it does not have."""
    from models.encoder import load_pretrained

    plain = {f"encoder.{name}": weight for name, weight in load_pretrained(str(tiny_encoder)).weights.items()}
    state = state_of(run / "checkpoints" / "last.ckpt")
    names = {name: name.replace(".base_layer.", ".") for name in state}
    return {n for n, own in names.items() if own not in plain or not torch.equal(state[n], plain[own])}


@pytest.mark.slow
@pytest.mark.parametrize(
    "variant",
    [FROZEN, LORA, EMA, (*CACHED, *EMA), (*LORA, *EMA), (*EMA, "--trainer.val_check_interval=0.4")],
    ids=["frozen", "lora", "ema", "cached-ema", "lora-ema", "ema-within-epochs"],
)
def test_a_resumed_run_ends_as_the_unbroken_one(tiny_run, only_run, tmp_path, variant, monkeypatch):
    """The process dies in the third of four epochs."""
    flags = (*FAST, *NO_AUDIT, *variant, "--trainer.max_epochs=4", "--trainer.accumulate=2")
    assert tiny_run(*flags) == 0
    unbroken = only_run().rename(tmp_path / "unbroken")
    step = ValueClassifier.training_step

    def dies(self, batch, batch_idx):
        if self.current_epoch == 2 and batch_idx == 1:
            raise RuntimeError("no luck")
        return step(self, batch, batch_idx)

    with monkeypatch.context() as patch:
        patch.setattr(ValueClassifier, "training_step", dies)
        with pytest.raises(RuntimeError, match="no luck"):
            tiny_run(*flags)
    broken = only_run()
    assert torch.load(broken / "checkpoints" / "last.ckpt", weights_only=True)["epoch"] == 1
    assert main(["fit", "--resume", str(broken)]) == 0
    assert digests(broken) == digests(unbroken)
    assert len(set(digests(broken).values())) >= 4
    assert validations(broken) == validations(unbroken)
    if "--trainer.average_weights=ema" in variant:
        trained = [trained_weights(run / "checkpoints" / "last.ckpt") for run in (broken, unbroken)]
        assert weights_digest(trained[0]) == weights_digest(trained[1])


@pytest.mark.parametrize(("variant", "n_trained"), [(FROZEN, 7 * (16 + 17)), (LORA, 4 * 2 * 32 + 8 * 17 + 7 * 9)])
def test_what_is_trained_is_told_and_kept(tiny_run, only_run, tiny_encoder, capsys, variant, n_trained):
    assert tiny_run(*FAST, *variant, "--trainer.max_epochs=1") == 0
    run = only_run()
    counts = json.loads((run / "env.json").read_text())["parameters"]
    assert counts["trainable"] == n_trained
    assert f"training {n_trained:,} of {counts['total']:,} parameters" in capsys.readouterr().err
    moved = parts_that_moved(run, tiny_encoder)
    assert {".lora_" in name or name.startswith("head.") for name in moved} == {True}
    model = load_classifier(run / "checkpoints" / "last.ckpt")
    assert model.parameter_counts() == counts
    # It holds the base weights too: the plain encoder can be rebuilt without its folder.
    n_encoder = sum(parameter.numel() for parameter in model.merged().parameters())
    n_head = sum(parameter.numel() for parameter in model.head.parameters())
    assert counts["total"] == n_encoder + n_head + (n_trained - n_head)


def test_adapters_take_their_settings_from_the_flags(tiny_run, only_run, capsys):
    lora = ("--model.encoder_training=lora", "--model.lora_rank=3", "--model.lora_alpha=5", "--model.lora_dropout=0.25")
    targets = '--model.lora_targets=["layer.0.*.query"]'
    assert tiny_run(*FAST, *NO_AUDIT, *lora, targets, "--trainer.max_epochs=1") == 0
    model = load_classifier(only_run() / "checkpoints" / "last.ckpt")
    expected = {"rank": 3, "alpha": 5.0, "dropout": 0.25, "targets": ["layer.0.*.query"]}
    assert model.hparams["lora"] == expected
    adapters = {name: p.shape for name, p in model.encoder.named_parameters() if ".lora_" in name}
    assert [tuple(shape) for shape in adapters.values()] == [(3, 16), (16, 3)]
    capsys.readouterr()
    for flag, text in (
        ("--model.lora_targets=[layers.query]", "pattern 'layers.query', which is the end of no linear layer's name"),
        ("--model.lora_rank=0", "model.lora_rank 0"),
        ("--model.head_width=8", "model.head_width 8 with head linear, where it does nothing"),
        ("--trainer.ema_decay=0.9", "trainer.ema_decay 0.9 with average_weights none, where it does nothing"),
    ):
        assert tiny_run(*FAST, *NO_AUDIT, *lora, flag) == 2
        assert text in capsys.readouterr().err
    only_run()


def test_every_file_and_every_metric_is_of_the_average(tiny_run, only_run, counts, entries, monkeypatch, capsys):
    """What validation logs at a step is of the weights in the file of that step."""
    logged = {}
    log = ValueClassifier.log_validation

    def noted(self, metrics):
        logged[self.trainer.global_step] = (weights_digest(self.state_dict()), metrics["loss"])
        log(self, metrics)

    monkeypatch.setattr(ValueClassifier, "log_validation", noted)
    assert tiny_run(*FAST, *EMA, "--trainer.max_epochs=2", "--trainer.val_check_interval=0.5") == 0
    run = only_run()
    seen = {entry["step"]: entry["weights"] for entry in entries(run, "seen")}
    assert {step: weights for step, (weights, _) in logged.items()} == seen
    assert {step: row["val/loss"] for step, row in validations(run).items()} == {
        step: pytest.approx(value, rel=1e-6) for step, (_, value) in logged.items()
    }
    assert Counter(counts.audits) == dict.fromkeys(seen.values(), 1)
    assert len(counts.audits) == 4
    # What is audited is in memory already.
    captured = capsys.readouterr()
    assert "read from its file" not in captured.out + captured.err
    last = run / "checkpoints" / "last.ckpt"
    assert weights_digest(state_of(last) | trained_weights(last)) not in seen.values()


def test_averaging_acts_on_files_and_leaves_training_alone(tiny_run, only_run, tmp_path):
    last = {}
    for name, flags in (("plain", ()), ("average", EMA), ("of default decay", EMA[:1])):
        assert tiny_run(*FAST, *NO_AUDIT, *flags, "--trainer.max_epochs=1") == 0
        last[name] = only_run().rename(tmp_path / name) / "checkpoints" / "last.ckpt"
    trained = state_of(last["average"]) | trained_weights(last["average"])
    assert weights_digest(trained) == weights_digest(state_of(last["plain"]))
    assert len({weights_digest(state_of(path)) for path in last.values()}) == 3


OTHERS = {
    "--trainer.average_weights=ema": "trainer.average_weights ema for a run that kept no average",
    "--trainer.average_weights=none": "trainer.average_weights none for a run that kept a moving average",
    "--model.head=mlp": "a changed head ('linear' in the checkpoint, 'mlp' now)",
    "--model.encoder_training=frozen": "a changed encoder_training ('full' in the checkpoint, 'frozen' now)",
}


@pytest.mark.parametrize("averages", [False, True])
def test_what_a_run_began_with_stays(tiny_run, only_run, capsys, averages):
    assert tiny_run(*FAST, *NO_AUDIT, *EMA[:averages], "--trainer.max_epochs=1") == 0
    run = only_run()
    before = (run / "config.yaml").read_bytes()
    for flag, text in OTHERS.items():
        if ("ema" in flag) == averages and "average" in flag:
            continue
        assert main(["fit", "--resume", str(run), "--trainer.max_epochs=2", flag]) == 2
        assert text in capsys.readouterr().err
        assert (run / "config.yaml").read_bytes() == before


def test_a_run_of_before_there_was_a_choice_is_resumed(tiny_run, only_run):
    assert tiny_run(*FAST, *NO_AUDIT, "--trainer.max_epochs=1") == 0
    path = only_run() / "checkpoints" / "last.ckpt"
    content = torch.load(path, weights_only=True)
    for name in ("head", "head_width", "encoder_training", "lora"):
        del content["hyper_parameters"][name]
    torch.save(content, path)
    assert main(["fit", "--resume", str(only_run()), "--trainer.max_epochs=2"]) == 0
