"""`imprint export` writes a whole folder that tells where it comes from, or nothing and why."""

import errno
import json
import os
import re
import shutil
from pathlib import Path

import pytest
import torch
from safetensors import SafetensorError

import models.export
import train.export
from experiments.cli import main
from models.calibration import Calibration
from models.export_check import Comparison
from train.export import run_facts
from train.ledger import Ledger
from train.run_directory import RunDirectory


@pytest.fixture(scope="module")
def run(tiny_encoder, tiny_root, tmp_path_factory) -> Path:
    """A finished run on the tiny ValueEval with an audit of hh-rlhf, two checkpoints; nobody may change it."""
    root = tmp_path_factory.mktemp("runs-to-export")
    flags = {
        "model.encoder": tiny_encoder,
        "data.root": tiny_root,
        "data.name": "valueeval",
        "data.max_length": 48,
        "audit.datasets": "[hh-rlhf]",
        "audit.max_length": 64,
        "audit.noise_floor": "false",
        "trainer.max_epochs": 2,
        "trainer.precision": "float32",
        "track.wandb": "disabled",
        "run.root": root / "runs",
        "run.cache_dir": root / "cache",
    }
    assert main(["fit", *(f"--{name}={value}" for name, value in flags.items())]) == 0
    (found,) = (root / "runs").iterdir()
    return found


@pytest.fixture
def best(run) -> Path:
    """The checkpoint file that was tested."""
    (tested,) = (run / "predictions").glob("*-test.parquet")
    entries = [json.loads(line) for line in (run / "ledger.jsonl").read_text().splitlines()]
    names = [e["path"] for e in entries if e["state"] == "seen" and tested.name.startswith(e["weights"][:8])]
    return next(run / "checkpoints" / name for name in names if name != "last.ckpt")


@pytest.fixture
def export(tmp_path, capsys):
    """Export into `tmp_path / "out"`; gives the exit code and what was said."""

    def call(checkpoint, *flags):
        code = main(["export", f"--checkpoint={checkpoint}", f"--output={tmp_path / 'out'}", *map(str, flags)])
        said = capsys.readouterr()
        assert "Traceback" not in said.err
        return code, said.out + said.err

    return call


@pytest.fixture
def refused(export, tmp_path):
    """Export what cannot be; gives the message after looking for remains."""

    def call(checkpoint, *flags):
        before = sorted(tmp_path.iterdir())
        code, said = export(checkpoint, *flags)
        assert code == 2, said
        assert sorted(tmp_path.iterdir()) == before
        return said

    return call


def test_the_card_tells_where_everything_comes_from(run, best, export, tmp_path, tiny_root, tiny_encoder):
    code, said = export(best)
    assert code == 0
    assert "differ by at most" in said
    assert "licence" in said
    out = tmp_path / "out"
    assert [path.name for path in tmp_path.iterdir()] == ["out"]
    card = (out / "README.md").read_text()
    logged = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
    tested = next(line for line in logged if "test/f1_macro" in line)
    weights = json.loads((out / "thresholds.json").read_text())["weights"]
    environment = json.loads((run / "env.json").read_text())
    files = environment["data"]["annotations"]["files"] | environment["data"]["test_annotations"]["files"]
    told = [
        f"`{run.name}`",
        f"`{weights}`",
        f"macro-F1: {tested['test/f1_macro']:.3f} (95% interval ",
        "On 40 test texts in 10 groups",
        "not error-corrected",
        "valueeval, version 1",
        f"transformers {environment['packages']['transformers']}",
        *(f"{name}, sha256 `{digest}`" for name, digest in files.items()),
        environment["data"]["audited"]["hh-rlhf"]["digest"],
        "# license:",
    ]
    assert [text for text in told if text not in card] == []
    assert len(re.findall(r"(?m)^\| hedonism \|", card)) == 2
    config = json.loads((out / "config.json").read_text())
    labels = json.loads((out / "thresholds.json").read_text())["labels"]
    assert config["thresholds"] == {name: own["threshold"] for name, own in labels.items()}
    assert config["temperatures"] == {name: own["temperature"] for name, own in labels.items()}
    assert config["imprint"]["weights"] == weights
    # Nothing of the machine that it was made on.
    texts = [path.read_text() for path in out.rglob("*") if path.is_file() and path.suffix != ".safetensors"]
    for place in (tiny_root, tiny_encoder, run.parent, tmp_path):
        assert not any(str(place) in text for text in texts)
    modes = {path.stat().st_mode & 0o777 for path in out.rglob("*") if path.is_file()}
    assert len(modes) == 1  # none is private


def test_a_checkpoint_that_was_not_tested_says_so(run, best, export, tmp_path):
    other = next(path for path in (run / "checkpoints").glob("e*.ckpt") if path != best)
    assert export(other)[0] == 0
    card = (tmp_path / "out" / "README.md").read_text()
    assert "No test metrics: this checkpoint was not the one that its run tested." in card
    assert "not error-corrected" in card


def test_every_checkpoint_has_its_own_audit(run):
    found = RunDirectory.open(run)
    seen = Ledger(found.ledger_file).checkpoints
    assert len(seen) == 2
    for checkpoint in seen:
        content = json.loads(found.thresholds_file(checkpoint.weights).read_text())
        facts = run_facts(found, checkpoint.weights, Calibration.from_json(content))
        assert facts.step == checkpoint.step
        assert facts.audit.rows["weights"].unique().to_pylist() == [checkpoint.weights]
        assert list(facts.audit.datasets) == ["hh-rlhf"]


def test_a_checkpoint_away_from_its_run_takes_thresholds_or_the_run(run, best, export, refused, tmp_path):
    alone = tmp_path / "alone.ckpt"
    shutil.copy(best, alone)
    assert "no thresholds of checkpoint" in refused(alone)
    (thresholds,) = [
        path for path in (run / "thresholds").glob("*.json") if list(run.glob(f"predictions/{path.stem}-test.parquet"))
    ]
    code, said = export(alone, f"--thresholds={thresholds}")
    assert code == 0
    assert "the model card lacks its data" in said
    assert "the run directory of this checkpoint was not at hand" in (tmp_path / "out" / "README.md").read_text()
    shutil.rmtree(tmp_path / "out")
    assert export(alone, f"--run={run}")[0] == 0
    assert f"`{run.name}`" in (tmp_path / "out" / "README.md").read_text()


def test_thresholds_changed_by_hand_are_exported_and_tested_so(run, best, export, tmp_path):
    copy = tmp_path / "copy" / run.name
    shutil.copytree(run, copy)
    (tested,) = (copy / "predictions").glob("*-test.parquet")
    path = copy / "thresholds" / f"{tested.name[:8]}.json"
    content = json.loads(path.read_text())
    for own in content["labels"].values():
        own["threshold"] = 1.0
    path.write_text(json.dumps(content))
    assert export(copy / "checkpoints" / best.name)[0] == 0
    card = (tmp_path / "out" / "README.md").read_text()
    assert "macro-F1: 0.000" in card
    assert "edited by hand after they were fitted" in card


def test_bad_input_leaves_nothing_behind(run, best, refused, tmp_path):
    for made in (Path.mkdir, Path.touch):
        made(tmp_path / "out")
        assert f"something at {tmp_path / 'out'} already" in refused(best)
        (tmp_path / "out").rmdir() if (tmp_path / "out").is_dir() else (tmp_path / "out").unlink()
    (tmp_path / "cut.ckpt").write_bytes(best.read_bytes()[:1000])
    assert "cut off" in refused(tmp_path / "cut.ckpt")
    reward = {"state_dict": {}, "hyper_parameters": {"trained_on": [], "encoder_config": {}}}
    torch.save(reward, tmp_path / "reward.ckpt")
    assert "a checkpoint of a reward model" in refused(tmp_path / "reward.ckpt")
    assert "no file at" in refused(tmp_path / "none.ckpt")
    assert "name a run directory" in refused(best, f"--run={tmp_path}")
    other = tmp_path / "other"
    shutil.copytree(run, other)
    (other / "ledger.jsonl").write_text("")
    assert "which are none that" in refused(best, f"--run={other}")
    for path in (other / "thresholds").iterdir():
        path.unlink()
    assert "no thresholds of checkpoint" in refused(other / "checkpoints" / best.name)


@pytest.mark.parametrize("place", ["weights", "head", "card"])
def test_a_full_disk_leaves_nothing_behind(best, refused, monkeypatch, place):
    reason = os.strerror(errno.ENOSPC)

    def full(*_arguments, **_options):
        raise OSError(errno.ENOSPC, reason)

    def full_as_safetensors_says(*_arguments, **_options):
        raise SafetensorError(f"Error while serializing: I/O error: {reason} (os error {errno.ENOSPC})")

    match place:
        case "weights":
            monkeypatch.setattr("transformers.modeling_utils.safe_save_file", full_as_safetensors_says)
        case "head":
            monkeypatch.setattr(models.export, "save_file", full_as_safetensors_says)
        case "card":
            monkeypatch.setattr(train.export, "write_text", full)
    assert re.search(r"out, where writing failed \(No space left on device; [\d,]+ MB free\)", refused(best))


def test_an_interrupt_leaves_nothing_behind(best, export, monkeypatch, tmp_path):
    def interrupted(*_arguments):
        assert any(tmp_path.iterdir())  # the model is written already
        raise KeyboardInterrupt

    monkeypatch.setattr(train.export, "compare_with_export", interrupted)
    assert export(best)[0] == 130
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("found", "told"),
    [
        (Comparison(3, 1, 2e-5), "probabilities that differ by 2e-05"),
        (Comparison(3, 1, float("nan"), "a text"), "other tokens for 'a text'"),
        (Comparison(3, 1, float("nan")), "probabilities that differ by nan"),
    ],
)
def test_another_function_is_not_given_away(best, refused, monkeypatch, found, told):
    monkeypatch.setattr(train.export, "compare_with_export", lambda *_: found)
    assert told in refused(best)


def test_a_lost_audit_is_told(run, best, refused, tmp_path):
    copy = tmp_path / "copy" / run.name
    shutil.copytree(run, copy)
    for path in copy.glob("audits/*-*/table.parquet"):
        path.unlink()
    assert f"fix: imprint audit {copy}" in refused(copy / "checkpoints" / best.name)
