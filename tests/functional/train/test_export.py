"""`imprint export` writes a whole folder that tells where it comes from, or nothing and why."""

import csv
import errno
import gzip
import json
import os
import re
import shutil
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest
import torch
import yaml
from safetensors import SafetensorError
from safetensors.torch import load_file
from transformers import PreTrainedTokenizerFast

import train.export
from datamodules.annotations import read_annotations
from datamodules.taxonomy import load_taxonomy
from experiments.cli import main
from models.calibration import Calibration
from models.checkpoint_file import AVERAGING
from models.digest import weights_digest
from models.export_check import Comparison
from models.modeling_imprint import ImprintForSequenceClassification
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
        "audit.precision": "float32",
        "trainer.max_epochs": 2,
        "trainer.average_weights": "ema",
        "trainer.ema_decay": 0.5,
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
        f"macro-F1: {tested['test/f1_macro']:.3f} (",
        "On 40 test texts in 10 groups",
        "its decisions with its errors",
        "Taxonomy `valueeval`, version 1",
        "view `exchange-head-64`",
        "* valueeval (arguments-validation.tsv, labels-validation.tsv): 40 annotated texts for test",
        "licence of these texts: CC BY 4.0",
        f"transformers {environment['packages']['transformers']}",
        *(f"{name}, sha256 `{digest}`" for name, digest in files.items()),
        environment["data"]["audited"]["hh-rlhf"]["digest"],
    ]
    assert [text for text in told if text not in card] == []
    assert len(re.findall(r"(?m)^\| hedonism \|", card)) == 2
    head = yaml.safe_load(card.split("---\n")[1])
    assert head["datasets"] == ["valueeval"]
    assert head["metrics"] == ["f1", "average_precision", "ece"]
    (result,) = head["model-index"][0]["results"]
    assert result["metrics"][0] == {"type": "f1", "name": "macro-F1", "value": round(tested["test/f1_macro"], 4)}
    # No text that it was trained, tested or audited on.
    for text in [*_column(tiny_root / "valueeval" / "arguments-training.tsv", "Premise"), *_responses(tiny_root)]:
        assert text not in card
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


def _column(path, name):
    with path.open(encoding="utf-8", newline="") as file:
        return [row[name] for row in csv.DictReader(file, delimiter="\t")]


def _responses(root):
    with gzip.open(root / "hh-rlhf" / "harmless-base" / "test.jsonl.gz", "rt", encoding="utf-8") as file:
        return [json.loads(line)["chosen"].split("Assistant: ")[-1] for line in file]


def test_the_run_directory_gives_its_best_checkpoint_which_predicts_what_the_run_did(
    run, best, export, tmp_path, tiny_root
):
    code, said = export(run)
    assert code == 0
    assert f"written of {best}" in said
    out = tmp_path / "out"
    tokenizer = PreTrainedTokenizerFast.from_pretrained(out)
    model = ImprintForSequenceClassification.from_pretrained(out)
    (tested,) = (run / "predictions").glob("*-test.parquet")
    stored = pq.read_table(tested).to_pylist()
    texts = {text.text_id: text.text for text in _test_texts(tiny_root)}
    with torch.no_grad():
        batch = tokenizer([texts[row["text_id"]] for row in stored], truncation=True, padding=True, return_tensors="pt")
        found = model(**batch).logits.sigmoid()
    labels = list(model.config.id2label.values())
    np.testing.assert_allclose(found, [[row[label] for label in labels] for row in stored], rtol=0, atol=1e-6)
    decided = found.numpy() >= [model.config.thresholds[label] for label in labels]
    np.testing.assert_array_equal(decided, [[row[f"{label}_on"] for label in labels] for row in stored])


def _test_texts(root):
    return read_annotations("valueeval", None, root, load_taxonomy("valueeval")).test_texts


def test_a_run_without_an_audit_says_so(run, export, tmp_path):
    copy = tmp_path / "copy" / run.name
    shutil.copytree(run, copy)
    lines = (copy / "ledger.jsonl").read_text().splitlines(keepends=True)
    (copy / "ledger.jsonl").write_text("".join(line for line in lines if '"seen"' in line))
    code, said = export(copy)
    assert code == 0
    assert "no finished audit of this checkpoint" in said
    assert "None: no audit of it was at hand." in (tmp_path / "out" / "README.md").read_text()


def test_the_last_checkpoint_is_exported_as_it_scores_not_as_training_goes_on(run, export, tmp_path):
    last = run / "checkpoints" / "last.ckpt"
    assert export(last)[0] == 0
    exported = load_file(tmp_path / "out" / "model.safetensors")["head.bias"]
    content = torch.load(last, weights_only=True)
    path = run / "thresholds" / f"{weights_digest(content['state_dict'])[:8]}.json"
    temperatures = [own["temperature"] for own in json.loads(path.read_text())["labels"].values()]
    torch.testing.assert_close(exported * torch.tensor(temperatures), content["state_dict"]["head.bias"])
    assert not torch.allclose(content[AVERAGING]["trained"]["head.bias"], content["state_dict"]["head.bias"])


def test_a_checkpoint_that_was_not_tested_says_so(run, best, export, tmp_path):
    other = next(path for path in (run / "checkpoints").glob("e*.ckpt") if path != best)
    assert export(other)[0] == 0
    card = (tmp_path / "out" / "README.md").read_text()
    assert "No test metrics: this checkpoint was not the one that its run tested." in card
    assert "Share of the chosen and of the rejected responses" in card


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
    assert "name a run directory" in refused(tmp_path)
    assert "name a run directory" in refused(best, f"--run={tmp_path}")
    other = tmp_path / "other"
    shutil.copytree(run, other)
    (other / "ledger.jsonl").write_text("")
    assert "which are none that" in refused(best, f"--run={other}")
    for path in (other / "thresholds").iterdir():
        path.unlink()
    assert "no thresholds of checkpoint" in refused(other / "checkpoints" / best.name)


@pytest.mark.parametrize("place", ["weights", "card"])
def test_a_full_disk_leaves_nothing_behind(best, refused, monkeypatch, place):
    reason = os.strerror(errno.ENOSPC)

    def full(*_arguments, **_options):
        raise OSError(errno.ENOSPC, reason)

    def full_as_safetensors_says(*_arguments, **_options):
        raise SafetensorError(f"Error while serializing: I/O error: {reason} (os error {errno.ENOSPC})")

    match place:
        case "weights":
            monkeypatch.setattr("transformers.modeling_utils.safe_save_file", full_as_safetensors_says)
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
