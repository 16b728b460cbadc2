"""Do the decisions of a run keep what was asked for, and can they be judged from its files alone?"""

import json
import re

import numpy as np
import pyarrow.parquet as pq
import pytest
import torch

import train.checkpoint_queue
import train.held_out
from datamodules.files import digest_of
from experiments.cli import main
from models.calibration import Calibration
from models.classifier import load_classifier
from models.evaluation import ranking_scores, split_metrics
from train.held_out import held_out_scores

FLAGS = ("--data.name=valueeval", "--trainer.batch_size=16", "--trainer.max_epochs=2", "--optim.lr_encoder=5e-3")
FLAGS += ("--audit.datasets=[webgpt]", "--track.wandb=disabled", "--data.val_fraction=0.4", "--audit.noise_floor=false")


def logged(run, name):
    lines = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
    return [line[name] for line in lines if name in line]


def metas(run):
    return [json.loads(path.read_text()) for path in sorted((run / "audits").glob("*-*/meta.json"))]


def predictions_of(run):
    (path,) = (run / "predictions").glob("*-test.parquet")
    return pq.read_table(path)


@pytest.fixture
def finished(tiny_run, only_run):
    assert tiny_run(*FLAGS) == 0
    return only_run()


def test_files_tell_how_a_checkpoint_does_on_texts_it_was_not_fitted_on(finished, capsys, monkeypatch):
    model = load_classifier(finished / "checkpoints" / "last.ckpt")
    (weights,) = [m["weights"] for m in metas(finished) if m["epoch"] == 2]
    path = finished / "predictions" / f"{weights[:8]}-val.parquet"
    calibration = Calibration.from_json(json.loads((finished / "thresholds" / f"{weights[:8]}.json").read_text()))
    held_out = held_out_scores(path, calibration.reordered(model.labels), model)
    # Validation metrics are of halves, held-out rates of more parts; beside that they are one procedure.
    monkeypatch.setattr(train.held_out, "N_PARTS", 2)
    found = held_out_scores(path, calibration.reordered(model.labels), model)
    monkeypatch.undo()
    assert (held_out.targets == found.targets).all()
    assert (held_out.decisions != found.decisions).any()
    logits = np.stack([pq.read_table(path)[f"{label}_logit"].to_numpy() for label in model.labels], axis=1)
    metrics = split_metrics(
        found.probabilities, found.decisions, found.targets, model.labels, ranking_scores(logits, False)
    )
    for name in ("f1_macro", "f1_micro", "ece_macro"):
        assert metrics[name] == pytest.approx(logged(finished, f"val/{name}")[-1], abs=1e-6)
    assert all(m["held_out"]["n_texts"] == len(found.groups) for m in metas(finished))
    assert "held-out" not in capsys.readouterr().err
    # One file: the same held-out texts, the same audit. Without them: told, and another audit.
    passed = []
    audit = train.checkpoint_queue.audit_checkpoint
    monkeypatch.setattr(train.checkpoint_queue, "audit_checkpoint", lambda *a: passed.append(a[-1]) or audit(*a))
    assert main(["audit", str(finished)]) == 0
    assert not passed
    path.unlink()
    assert main(["audit", str(finished)]) == 0
    assert [own[""] is None for own in passed] == [True]
    assert f"{path.name} missing: prevalence rows get no band" in capsys.readouterr().err
    assert len(metas(finished)) == 3
    assert sorted(m["held_out"] is None for m in metas(finished)) == [False, False, True]


def test_reliability_of_the_best_checkpoint_on_test_is_its_calibration_error(finished):
    (path,) = (finished / "predictions").glob("*-test-reliability.parquet")
    rows = pq.read_table(path).to_pylist()
    labels = [name.removesuffix("_on") for name in predictions_of(finished).column_names if name.endswith("_on")]
    errors = {label: logged(finished, f"test/ece/{label}")[-1] for label in labels}
    assert {row["label"] for row in rows} == {label for label, error in errors.items() if error is not None}
    for label, error in errors.items():
        own = [row for row in rows if row["label"] == label]
        if error is None:
            assert not own
            continue
        gaps = [row["n"] * abs(row["mean_probability"] - row["positive_share"]) for row in own]
        assert sum(gaps) / sum(row["n"] for row in own) == pytest.approx(error, abs=1e-9)
        assert all(row["ci_low"] <= row["positive_share"] <= row["ci_high"] for row in own)


def test_a_bound_on_missed_labels_reaches_thresholds_metrics_and_files(tiny_run, only_run, capsys):
    rule = ("--model.decision=false-negative-rate", "--model.max_false_negative_rate=0.4")
    assert tiny_run(*FLAGS, *rule) == 0
    run = only_run()
    for path in (run / "thresholds").iterdir():
        content = json.loads(path.read_text())
        assert (content["decision"], content["max_false_negative_rate"]) == ("false-negative-rate", 0.4)
        assert len({own["threshold"] for own in content["labels"].values()}) == 1
        assert "does not carry over to another data set" in content["notes"][-1]
    assert len(logged(run, "val/false_negative_rate")) == 2
    assert len(logged(run, "test/false_negative_rate")) == 1
    assert all(m["calibration"]["max_false_negative_rate"] == 0.4 for m in metas(run))
    capsys.readouterr()
    assert main(["fit", "--resume", str(run), "--trainer.max_epochs=3", "--model.max_false_negative_rate=0.3"]) == 2
    assert "changed max_false_negative_rate (0.4 in the checkpoint, 0.3 now)" in capsys.readouterr().err
    assert main(["fit", "--resume", str(run), "--trainer.max_epochs=3"]) == 0
    assert len(list((run / "thresholds").iterdir())) == 3


@pytest.mark.parametrize(
    ("flags", "text"),
    [
        (("--model.max_false_negative_rate=0.02",), r"groups of texts with a known positive .*; needed 49 or more"),
        (("--model.max_false_negative_rate=1",), "model.max_false_negative_rate 1.*a rate above 0 and below 1"),
        (("--data.name=value-imprint", "--model.loss=wan"), "decision false-negative-rate without a known negative"),
    ],
)
def test_what_cannot_be_bounded_is_told_before_anything_is_written(tiny_run, tmp_path, capsys, flags, text):
    assert tiny_run(*FLAGS, "--model.decision=false-negative-rate", *flags) == 2
    assert re.search(text, capsys.readouterr().err)
    assert not (tmp_path / "runs").exists()


def test_a_run_without_a_rule_goes_on(finished, capsys):
    """Checkpoints and thresholds of before there was a rule: without the parameter, without the entry."""
    for path in (finished / "checkpoints").glob("*.ckpt"):
        checkpoint = torch.load(path, weights_only=True)
        assert checkpoint["hyper_parameters"].pop("max_false_negative_rate") is None
        torch.save(checkpoint, path)
    for path in (finished / "thresholds").iterdir():
        content = json.loads(path.read_text())
        assert content.pop("decision") == "f1"
        numbers = {name: part for name, part in content.items() if name not in ("notes", "weights", "digest")}
        assert content["digest"] == digest_of(numbers)
        path.write_text(json.dumps(content))
    assert main(["fit", "--resume", str(finished), "--trainer.max_epochs=3"]) == 0
    assert len(metas(finished)) == 3
    assert not any("edited by hand" in note for m in metas(finished) for note in m["calibration"]["notes"])
