"""An ensemble is a run like any other: what it predicts, decides, audits and tells is that of the mean."""

import json
import shutil
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest
import torch
import yaml

from audits.table import read_table
from experiments.cli import main
from experiments.parsing import read_config
from models.classifier import load_classifier
from models.digest import weights_digest
from models.ensemble import load_scorer
from models.evaluation import evaluate
from train.cost import read_cost
from train.ensemble_members import choose_members, ensemble_config
from train.ledger import Ledger
from train.run_directory import RunDirectory
from train.siblings import unlike
from train.stored_audits import read_decisions, stored_audits
from train.stored_predictions import read_test_predictions
from train.thresholds import read_thresholds

ENSEMBLE = Path("checkpoints") / "ensemble.ckpt"


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tmp_path_factory.mktemp("ensembles")


@pytest.fixture(scope="module")
def fit(folder, tiny_encoder, tiny_root):
    """Train a tiny run and give its directory."""

    def run(name, *flags):
        arguments = [
            "fit",
            f"--model.encoder={tiny_encoder}",
            f"--data.root={tiny_root}",
            "--data.name=valueeval",
            "--data.max_length=48",
            "--data.val_fraction=0.3",
            "--trainer.max_epochs=2",
            "--trainer.batch_size=16",
            "--trainer.precision=float32",
            "--optim.lr_encoder=0.02",
            "--optim.lr_head=0.05",
            "--audit.datasets=[webgpt]",
            "--audit.max_length=64",
            "--audit.precision=float32",
            "--audit.noise_floor=false",
            "--track.wandb=disabled",
            f"--run.root={folder / name}",
            f"--run.cache_dir={folder / 'cache'}",
        ]
        assert main([*arguments, *flags]) == 0
        (path,) = (folder / name).iterdir()
        return path.rename(folder / "runs" / name)

    (folder / "runs").mkdir()
    return run


@pytest.fixture(scope="module")
def seeds(fit):
    return [fit("s0"), fit("s1", "--run.seed=1", "--model.pooling=cls")]


@pytest.fixture(scope="module")
def made(seeds, folder):
    """The ensemble of the best checkpoints of two runs of different pooling."""
    return ensemble_of(folder, *seeds)


def ensemble_of(folder, *arguments):
    before = set((folder / "ensembles").glob("*"))
    assert main(["ensemble", *map(str, arguments), "--run.root", str(folder / "ensembles")]) == 0
    (new,) = set((folder / "ensembles").glob("*")) - before
    return new


def best(path):
    return read_test_predictions(RunDirectory(path))


def logits_of(path, split, weights):
    table = pq.read_table(RunDirectory(path).predictions_file(weights, split))
    names = [name for name in table.column_names if name.endswith("_logit")]
    return np.stack([table[name].to_numpy() for name in names], axis=1).astype(np.float64)


def sigmoid(logits):
    return 1 / (1 + np.exp(-np.asarray(logits, dtype=np.float64)))


def test_it_predicts_the_mean_of_its_members(made, seeds):
    own = best(made)
    for split in ("val", "test"):
        members = [logits_of(run, split, best(run).weights) for run in seeds]
        assert np.abs(sigmoid(members[0]) - sigmoid(members[1])).max() > 0.1
        mean = (sigmoid(members[0]) + sigmoid(members[1])) / 2
        np.testing.assert_allclose(sigmoid(logits_of(made, split, own.weights)), mean, atol=1e-6)
    assert own.text_ids.tolist() == best(seeds[0]).text_ids.tolist()


def test_temperatures_and_thresholds_are_fitted_anew(made, seeds):
    own = RunDirectory(made)
    model = load_scorer(made / ENSEMBLE)
    weights = weights_digest(model.state_dict())
    calibration = read_thresholds(own.thresholds_file(weights), weights, model)
    for run in seeds:
        (member,) = [seen for seen in Ledger(run / "ledger.jsonl").checkpoints if seen.weights[:8] == best(run).weights]
        path = RunDirectory(run).thresholds_file(member.weights)
        other = read_thresholds(path, member.weights, load_classifier(run / "checkpoints" / member.paths[0]))
        assert calibration.thresholds != other.thresholds
        assert calibration.temperatures != other.temperatures
    # The logged numbers are those of the mean under the ensemble's own thresholds.
    predictions = best(made)
    rows = [json.loads(line) for line in own.metrics_file.read_text().splitlines()]
    (tested,) = [row for row in rows if "test/f1_macro" in row]
    logits = logits_of(made, "test", predictions.weights)
    expected = evaluate(logits, predictions.targets, calibration, predictions.groups)
    for name in ("f1_macro", "ap_macro", "ece_macro"):
        assert tested[f"test/{name}"] == pytest.approx(expected[name], abs=1e-6)
    assert any("val/ap_macro" in row for row in rows)


def test_its_audit_is_that_of_the_mean_score(made, seeds):
    (own,) = stored_audits(RunDirectory(made))
    text_ids, probabilities, decisions = read_decisions(own, "webgpt")
    members = []
    for run in seeds:
        (audit,) = [a for a in stored_audits(RunDirectory(run)) if a.weights[:8] == best(run).weights]
        ids, scores, _ = read_decisions(audit, "webgpt")
        assert ids.to_pylist() == text_ids.to_pylist()
        temperatures = [value["temperature"] for value in audit.meta["calibration"]["labels"].values()]
        logits = np.log(scores.astype(np.float64)) - np.log1p(-scores.astype(np.float64))
        members.append(sigmoid(logits * np.array(temperatures)))
    labels = own.meta["calibration"]["labels"].values()
    mean = np.mean(members, axis=0)
    # Stored in 16 bits, which the members' temperatures stretch.
    scaled = sigmoid((np.log(mean) - np.log1p(-mean)) / np.array([value["temperature"] for value in labels]))
    np.testing.assert_allclose(probabilities.astype(np.float64), scaled, atol=2e-3)
    thresholds = np.array([value["threshold"] for value in labels])
    clear = np.abs(scaled - thresholds) > 4e-3
    assert clear.mean() > 0.9
    np.testing.assert_array_equal(decisions[clear], (scaled >= thresholds)[clear])
    table = read_table(made / "audits" / "table.parquet")
    assert set(table["weights"].to_pylist()) == {own.weights}
    assert set(table["run_id"].to_pylist()) == {made.name}


def test_its_checkpoint_is_one_file_of_plain_values(made, seeds):
    content = torch.load(made / ENSEMBLE, weights_only=True)
    assert len(content["hyper_parameters"]["members"]) == 2
    model = load_scorer(made / ENSEMBLE)
    (seen,) = Ledger(made / "ledger.jsonl").checkpoints
    assert weights_digest(model.state_dict()) == seen.weights
    # The order in which members are named does not matter.
    digests = [weights_digest(member.state_dict()) for member in model.classifiers]
    assert digests == sorted(digests)
    assert {digest[:8] for digest in digests} == {best(run).weights for run in seeds}


def test_it_tells_its_members_and_what_they_cost(made, seeds):
    config = yaml.safe_load((made / "config.yaml").read_text())
    told = config["ensemble"]["members"]
    assert [Path(member["run"]).name for member in told] == ["s0", "s1"]
    assert [member["weights"][:8] for member in told] == [best(run).weights for run in seeds]
    assert [member["settings"] for member in told] == [
        {"run.seed": 0, "model.pooling": "mean"},
        {"run.seed": 1, "model.pooling": "cls"},
    ]
    cost, members = read_cost(RunDirectory(made)), [read_cost(RunDirectory(run)) for run in seeds]
    assert cost.training_seconds == pytest.approx(sum(own.training_seconds for own in members))
    assert cost.n_parameters == sum(own.n_parameters for own in members)
    assert cost.texts_per_second > 0
    assert cost.audit_seconds > 0


def test_other_commands_take_it_for_a_run(made, seeds, tiny_root, capsys, tmp_path):
    assert main(["compare", str(seeds[0]), str(made), "--audits", "--format", "json"]) == 0
    rows = json.loads(capsys.readouterr().out)["rows"]
    assert {row["variant"] for row in rows} == {"demo", "demo-ensemble"}
    assert main(["drift", str(seeds[0]), str(made)]) == 0
    assert f"step 0 of {made.name}" in capsys.readouterr().out
    assert unlike(RunDirectory(seeds[0]), RunDirectory(made)).startswith("ensemble.")
    texts = tmp_path / "texts.jsonl"
    texts.write_text('{"text": "we learn the rule"}\n')
    output = tmp_path / "scores.parquet"
    assert main(["score", "--checkpoint", str(made / ENSEMBLE), "--input", str(texts), "--output", str(output)]) == 0
    assert len(pq.read_table(output)) == 1
    output = tmp_path / "audit"
    arguments = ["--datasets", "webgpt", "--root", str(tiny_root), "--max_length", "64", "--output", str(output)]
    assert main(["audit", "--checkpoint", str(made / ENSEMBLE), *arguments]) == 0
    assert len(read_table(output / "table.parquet")) == len(read_table(made / "audits" / "table.parquet"))
    # A copy, whose files are younger than its ledger, is read again; then there is nothing to do.
    copy = tmp_path / "copy"
    shutil.copytree(made, copy, copy_function=shutil.copyfile)
    capsys.readouterr()
    assert main(["audit", str(copy), "--pending"]) == 0
    told = capsys.readouterr()
    assert "0 audited now, 1 done before" in told.out
    assert "passed over" not in told.err
    assert main(["audit", str(copy), "--datasets", "alpaca-gpt4"]) == 0
    assert "1 audited now" in capsys.readouterr().out


def test_what_is_not_for_ensembles_is_told(made, seeds, capsys, tmp_path):
    before = sorted(made.rglob("*"))
    assert main(["fit", "--resume", str(made)]) == 2
    assert "an ensemble of checkpoints; needed a run of `imprint fit`" in capsys.readouterr().err
    assert main(["export", "--checkpoint", str(made / ENSEMBLE), "--output", str(tmp_path / "out")]) == 2
    assert "a checkpoint of an ensemble of value classifiers" in capsys.readouterr().err
    assert main(["ensemble", str(made), str(seeds[0])]) == 2
    assert f"{made}, an ensemble itself" in capsys.readouterr().err
    assert sorted(made.rglob("*")) == before
    assert not (tmp_path / "out").exists()


def test_checkpoints_of_one_run(seeds, folder, capsys):
    run = seeds[0]
    steps = sorted(seen.step for seen in Ledger(run / "ledger.jsonl").checkpoints)
    assert len(steps) == 2
    own = ensemble_of(folder, run, "--checkpoint", "all", "--run.experiment", "trajectory")
    config = yaml.safe_load((own / "config.yaml").read_text())
    assert [member["step"] for member in config["ensemble"]["members"]] == steps
    assert own.name.startswith("trajectory-s0-")
    assert read_cost(RunDirectory(own)).training_seconds == pytest.approx(read_cost(RunDirectory(run)).training_seconds)
    named = ensemble_of(folder, run, run, "--checkpoint", f"{steps[1]},{steps[0]}")
    assert best(named).weights == best(own).weights


def test_the_best_by_the_own_metric_of_each_run_is_chosen(seeds, copy):
    metrics = copy / "metrics.jsonl"
    rows = [json.loads(line) for line in metrics.read_text().splitlines()]
    for row in rows:
        if "val/ap_macro" in row:
            row |= {"val/ap_macro": row["step"] / 100, "val/loss": row["step"] / 100}
    metrics.write_text("".join(json.dumps(row) + "\n" for row in rows))
    runs = [RunDirectory(copy), RunDirectory(seeds[0])]

    def steps(choice):
        return [member.seen.step for member in choose_members(runs, choice) if member.run.path == copy]

    assert steps("best") == steps("last") == [12]
    assert steps("all") == [6, 12]
    assert steps("12, 6,last") == [12, 6]
    path = copy / "config.yaml"
    path.write_text(path.read_text().replace("monitor: auto", "monitor: val/loss"))
    assert steps("best") == [6]
    members = choose_members(runs, "best")
    config = ensemble_config(members, [read_config(member.run.config_file) for member in members], "best")
    # The seed does not depend on the order in which members are named.
    assert (config.run.seed, config.model.pooling, config.trainer.monitor) == (0, "cls", "auto")
    assert [member.step for member in config.ensemble.members] == [6, members[1].seen.step]
    own = {"run.seed": 1, "model.pooling": "cls", "trainer.monitor": "val/loss"}
    assert config.ensemble.members[0].settings == own


def refusal(capsys, *arguments):
    capsys.readouterr()
    assert main(["ensemble", *map(str, arguments)]) == 2
    told = capsys.readouterr().err
    assert "Traceback" not in told
    return told


@pytest.fixture
def copy(seeds, tmp_path):
    """A copy of the second run, to damage."""
    path = tmp_path / "copies" / "copy"
    shutil.copytree(seeds[1], path)
    return path


def test_a_member_that_learnt_what_is_tested_is_refused(seeds, copy, capsys, folder):
    path = copy / "splits.json"
    splits = json.loads(path.read_text())
    splits["train"][:3], splits["val"][:3] = splits["val"][:3], splits["train"][:3]
    path.write_text(json.dumps(splits))
    before = sorted(folder.rglob("*"))
    # Three texts changed places, and all else is the same.
    told = refusal(capsys, seeds[0], copy)
    assert f"{copy}, whose val split is not that of {seeds[0]} (it learnt 3 of the {36 + 40} validation and" in told
    path.unlink()
    assert f"no file at {path}" in refusal(capsys, seeds[0], copy)
    assert sorted(folder.rglob("*")) == before


def test_other_texts_under_the_same_ids_are_refused(seeds, copy, capsys, tiny_root, tmp_path):
    digests = copy / "training_texts.parquet"
    table = pq.read_table(digests)
    pq.write_table(table.slice(1), digests)
    assert f"{copy}, which learnt other texts than {seeds[0]} under the same ids" in refusal(capsys, seeds[0], copy)
    digests.unlink()
    assert f"no training_texts.parquet of this version in {copy}" in refusal(capsys, seeds[0], copy)
    # Both learnt the same, and the file has changed since.
    root = tmp_path / "root"
    shutil.copytree(tiny_root, root)
    path = root / "valueeval" / "arguments-training.tsv"
    path.write_text(path.read_text().replace(" kind", " rights"))
    assert "under the same ids" in refusal(capsys, *seeds, "--data.root", root)
    path.write_text("\n".join(path.read_text().splitlines()[:-4]) + "\n")
    assert f"than in {seeds[0] / 'splits.json'}" in refusal(capsys, *seeds, "--data.root", root)


def test_bad_input_is_told_and_nothing_is_written(seeds, fit, copy, capsys, folder, tmp_path):
    none = tmp_path / "none"
    none.mkdir()
    damaged = tmp_path / "copies" / "damaged"
    shutil.copytree(copy, damaged)
    for path in (damaged / "checkpoints").glob("*.ckpt"):
        path.write_bytes(path.read_bytes()[:-100])
    gone = tmp_path / "copies" / "gone"
    shutil.copytree(copy, gone)
    shutil.rmtree(gone / "checkpoints")
    wan = fit("wan", "--model.loss=wan", "--audit.enabled=false", "--trainer.max_epochs=1")
    before = sorted(folder.rglob("*"))
    for arguments, text in (
        ((seeds[0],), "one checkpoint (step 12); needed two or more; fix: name more runs, or --checkpoint all"),
        ((seeds[0], none), "no file at"),
        ((seeds[0], copy, "--checkpoint", "7"), "no checkpoint '7' in"),
        ((*seeds, "--checkpoint", "worst"), "needed best, last, all or one of steps 6, 12; fix: --checkpoint"),
        ((*seeds, "--checkpoint", "best,,"), "no checkpoint ''"),
        ((*seeds, copy), f"in {seeds[1]} and in {copy}; needed distinct checkpoints"),
        ((seeds[0], damaged), "which is cut off"),
        ((seeds[0], gone), f"no checkpoint file in {gone / 'checkpoints'}"),
        ((seeds[0], wan), f"{wan}, with another loss"),
        ((*seeds, "--run.experiment", "a b"), "run.experiment 'a b'"),
        ((*seeds, "--run.root", copy / "config.yaml"), "fix: --run.root"),
        ((*seeds, "--data.root", none), str(none)),
        ((*seeds, "--colour", "red"), "--colour"),
        ((), "run_dirs"),
    ):
        assert text in refusal(capsys, *arguments), arguments
    assert sorted(folder.rglob("*")) == before


def test_what_breaks_off_leaves_no_run(seeds, capsys, tmp_path, monkeypatch):
    def full(*_):
        raise OSError(28, "No space left on device")

    def interrupted(*_, **__):
        raise KeyboardInterrupt

    root = tmp_path / "root"
    for name, failure, code in (
        ("train.ensemble.finish", full, 2),
        ("train.checkpoint_queue.audit_checkpoint", interrupted, 130),
    ):
        with monkeypatch.context() as patch:
            patch.setattr(name, failure)
            assert main(["ensemble", *map(str, seeds), "--run.root", str(root)]) == code
        assert list(root.iterdir()) == []
    capsys.readouterr()


def test_an_audit_that_fails_leaves_the_run_for_later(seeds, capsys, tmp_path, monkeypatch):
    def broken(*_, **__):
        raise RuntimeError("no luck")

    root = tmp_path / "root"
    with monkeypatch.context() as patch:
        patch.setattr("train.checkpoint_queue.audit_checkpoint", broken)
        assert main(["ensemble", *map(str, seeds), "--run.root", str(root)]) == 1
    (run,) = root.iterdir()
    assert best(run).text_ids.size == 40
    assert main(["audit", str(run), "--pending"]) == 0
    assert "1 audited now" in capsys.readouterr().out


def test_audits_of_the_data_are_made_too(seeds, copy, folder, capsys):
    config = yaml.safe_load((copy / "config.yaml").read_text())
    config["audit"]["audits"] = ["dataset-quality"]
    (copy / "config.yaml").write_text(yaml.safe_dump(config))
    run = ensemble_of(folder, copy, seeds[0])
    assert "1 audit of data: 1 made now" in capsys.readouterr().out
    (found,) = (run / "audits").iterdir()
    assert found.name.startswith("dataset-quality-webgpt-")
