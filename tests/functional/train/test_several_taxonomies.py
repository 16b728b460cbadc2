"""Does a run learn several taxonomies at once, each from its own texts, and tell of each by itself?"""

import json
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest
import yaml

from datamodules.files import read_json
from datamodules.taxonomy import load_taxonomy
from experiments.cli import main
from models.calibration import Calibration
from models.classifier import load_classifier
from models.digest import weights_digest
from models.evaluation import evaluate
from train.patient_tracker import PatientTracker

FLAGS = (
    "--trainer.batch_size=16",
    "--trainer.max_epochs=1",
    "--track.wandb=disabled",
    "--data.allow_empty_values=true",
)
ALSO = "--data.also=[{name: fulcra}, {name: value-imprint, class_weights: sqrt, weight: 0.5}]"
OFF = "--audit.enabled=false"


@pytest.fixture
def runs(tmp_path):
    """Give the run directories in the order in which they were begun."""
    return lambda: sorted((tmp_path / "runs").iterdir(), key=lambda run: run.stat().st_ctime_ns)


def values_of(run: Path) -> dict[str, float]:
    """Every metric of a run at its last step."""
    found = {}
    for line in (run / "metrics.jsonl").read_text().splitlines():
        found |= json.loads(line)
    return found


def test_every_taxonomy_is_trained_scored_and_audited(tiny_run, only_run, tmp_path, capsys, monkeypatch):
    logged: dict[str, float] = {}
    monkeypatch.setattr(PatientTracker, "log_audit", lambda self, scalars, step: logged.update(scalars))
    flags = ("--audit.datasets=[webgpt]", "--audit.audits=[value-distribution,resistance]", "--audit.targets=[face]")
    flags += ("--audit.rewards=[{name: long, kind: length}]",)
    assert tiny_run("--data.name=valueeval", ALSO, *FLAGS, *flags) == 0
    said = capsys.readouterr()
    assert "fulcra: 20 labels of schwartz, loss bce" in said.out + said.err
    assert "value-imprint: 7 labels of value-imprint, loss wan" in said.out + said.err
    assert "Per-value metrics on test: schwartz" in said.out
    run = only_run()
    model = load_classifier(run / "checkpoints" / "last.ckpt")
    assert [(task.name, task.loss, task.weight) for task in model.tasks[1:]] == [
        ("schwartz", "bce", 1.0),
        ("value-imprint", "wan", 0.5),
    ]
    assert model.tasks[2].class_weights != (1.0,) * 7
    _check_metrics(run, model)
    _check_audits(run)
    assert any(name.startswith("audit/webgpt/prevalence/") for name in logged)
    assert any(name.startswith("audit/schwartz/webgpt/prevalence/") and name.endswith("power-net") for name in logged)
    _check_scores(run, model, tmp_path)


def _check_metrics(run, model):
    """Logged metrics are those of stored predictions, of each taxonomy on its own texts."""
    metrics, splits = values_of(run), read_json(run / "splits.json", "")
    (thresholds,) = (run / "thresholds").glob("*.json")
    whole = Calibration.from_json(json.loads(thresholds.read_text()))
    assert list(whole.further) == ["schwartz", "value-imprint"]
    sets = {"": splits, "schwartz": splits["further"]["schwartz"], "value-imprint": splits["further"]["value-imprint"]}
    for task in model.tasks:
        name = f"{thresholds.stem}-test{'-' * bool(task.name)}{task.name}.parquet"
        table = pq.read_table(run / "predictions" / name)
        assert table["text_id"].to_pylist() == sets[task.name]["test"]
        assert [column.removesuffix("_true") for column in table.column_names if column.endswith("_true")] == [
            *task.labels
        ]
        logits = np.stack([table[f"{label}_logit"].to_numpy() for label in task.labels], axis=1)
        truth = [table[f"{label}_true"].cast("int64").fill_null(-1).to_numpy() for label in task.labels]
        calibration = whole.further.get(task.name, whole)
        expected = evaluate(logits, np.stack(truth, axis=1), calibration, table["group_number"].to_numpy())
        for metric, value in expected.items():
            logged = metrics[f"test/{task.qualified(metric)}"]
            assert logged == (None if np.isnan(value) else value)
        assert metrics[f"val/{task.qualified('loss')}"] > 0
    assert {"val/f1_macro", "val/schwartz/f1_macro", "val/value-imprint/f1_top1_macro"} <= metrics.keys()
    assert "val/value-imprint/f1_macro" not in metrics


def _check_audits(run):
    """Every taxonomy has an audit of its own, as complete as that of a run on it alone, and all are in one table."""
    (folder,) = (path for path in (run / "audits").glob("*-*") if path.is_dir())
    table = pq.read_table(run / "audits" / "table.parquet")
    assert set(table["taxonomy"].to_pylist()) == {"valueeval", "schwartz", "value-imprint"}
    keys = table.select(table.column_names[: table.column_names.index("estimate")]).to_pylist()
    assert len({tuple(row.values()) for row in keys}) == len(keys)
    for name, taxonomy in (("", "valueeval"), ("schwartz", "schwartz"), ("value-imprint", "value-imprint")):
        meta = read_json(folder / name / "meta.json", "")
        assert meta["taxonomy"]["name"] == taxonomy
        assert set(pq.read_table(folder / name / "table.parquet")["taxonomy"].to_pylist()) == {taxonomy}
        stored = pq.read_table(folder / name / "decisions.parquet")
        assert stored["probabilities"].type.list_size == len(meta["labels"])


def _check_scores(run, model, tmp_path):
    """`imprint score` gives the labels of all taxonomies, and `imprint audit` needs no more than the file."""
    (tmp_path / "texts.jsonl").write_text(json.dumps({"text": "why do i sleep"}) + "\n")
    checkpoint = next((run / "checkpoints").glob("e*.ckpt"))
    into = tmp_path / "scores.parquet"
    given = ["--checkpoint", str(checkpoint), "--input", str(tmp_path / "texts.jsonl"), "--output", str(into)]
    assert main(["score", *given]) == 0
    names = pq.read_table(into).column_names
    labels = [label if not task.name else f"{task.name}.{label}" for task in model.tasks for label in task.labels]
    assert names == ["text_id", *(name for label in labels for name in (label, f"{label}_on"))]
    assert "achievement" in names
    assert "schwartz.achievement-for" in names


def test_resumed_it_repeats_the_unbroken_run(tiny_run, runs, capsys):
    flags = (*FLAGS, OFF, "--data.name=valueeval", "--trainer.limit_train_batches=5")
    flags += ("--optim.schedule=constant", "--optim.warmup_fraction=0")
    assert tiny_run(*flags, ALSO) == 0
    (broken,) = runs()
    capsys.readouterr()
    longer = "--trainer.max_epochs=2"
    assert tiny_run(*flags, ALSO.replace("0.5", "0.4"), longer, f"--resume={broken}") == 2
    assert "a changed further" in capsys.readouterr().err
    assert tiny_run(*flags, ALSO, longer, f"--resume={broken}") == 0
    assert tiny_run(*flags, ALSO, longer) == 0
    models = [load_classifier(run / "checkpoints" / "last.ckpt") for run in runs()]
    assert len({weights_digest(model.state_dict()) for model in models}) == 1


def test_a_frozen_encoder_trains_every_head_on_its_own_texts_alone(tiny_run, runs):
    """With the encoder out of the way, a head sees nothing of the other data sets but their share of the batches."""
    flags = ("--data.name=valueeval", *FLAGS, OFF, "--model.encoder_training=frozen")
    # All in one batch, whose mean a weight makes that of the main texts again.
    flags += ("--trainer.batch_size=1000", "--trainer.gradient_clip=0", "--model.dropout=0", "--trainer.max_epochs=3")
    for also in ([], ["--data.also=[{name: fulcra}]"], ["--data.also=[{name: fulcra, weight: 3}]"]):
        assert tiny_run(*flags, *also) == 0
    alone, both, heavier = (load_classifier(run / "checkpoints" / "last.ckpt") for run in runs())
    # Adam is blind to the scale of a gradient.
    np.testing.assert_allclose(both.head.weight.detach(), alone.head.weight.detach(), atol=1e-4)
    np.testing.assert_allclose(heavier.head.weight.detach(), alone.head.weight.detach(), atol=1e-4)


def test_runs_with_and_without_further_data_are_compared_on_the_same_texts(tiny_run, runs, capsys):
    assert tiny_run("--data.name=valueeval", *FLAGS, OFF) == 0
    assert tiny_run("--data.name=valueeval", ALSO, *FLAGS, OFF) == 0
    capsys.readouterr()
    alone, both = runs()
    assert main(["compare", str(alone), str(both)]) == 0
    out = capsys.readouterr().out
    assert "2 variants on the same 40 test texts" in out
    assert "achievement-for" not in out


def test_shared_texts_leave_training(tiny_run, runs, tiny_root, tmp_path, capsys):
    """A table with the test texts of the main data set: none of them may be trained on."""
    premises = (tiny_root / "valueeval" / "arguments-validation.tsv").read_text().splitlines()[1:]
    rows = []
    for i, line in enumerate(premises):
        _, conclusion, stance, premise = line.split("\t")
        rows.append({"text": f"{premise} {stance}: {conclusion}", "labels": ["one"] if i % 2 else ["two"]})
    rows += [{"text": f"why do i sleep {'a ' * i}", "labels": ["one"] if i % 2 else ["two"]} for i in range(30)]
    table, taxonomy = tmp_path / "own.jsonl", tmp_path / "own.yaml"
    table.write_text("".join(json.dumps(row) + "\n" for row in rows))
    taxonomy.write_text(yaml.safe_dump({"name": "own", "values": [{"slug": s, "name": s} for s in ("one", "two")]}))
    also = f"--data.also=[{{name: table, path: {table}, taxonomy: {taxonomy}}}]"
    assert tiny_run("--data.name=valueeval", also, *FLAGS, OFF) == 0
    said = capsys.readouterr()
    splits = read_json(runs()[0] / "splits.json", "")
    own = splits["further"]["own"]
    assert own["n_overlaps_dropped"] > 10
    assert f"{own['n_overlaps_dropped']} training texts dropped that another data set" in said.out + said.err
    # Rows are numbered from 1, and the first 40 are the main test texts.
    assert all(int(text_id.removeprefix("own-")) > len(premises) for text_id in own["train"])


@pytest.mark.parametrize(
    ("flags", "said"),
    [
        (["--data.also=[{name: valueeval}]"], "two data sets of taxonomy valueeval"),
        (["--data.also=[{name: fulcra}, {name: table, path: x.csv, taxonomy: schwartz}]"], r"table in data.also"),
        (["--data.also=[{name: table}]"], "a table without a taxonomy (table in data.also)"),
        (["--data.also=[{name: value-imprint, loss: bce}]"], "loss bce, but every training text"),
        (["--data.also=[{name: fulcra, weight: 0}]"], "weight 0.0 of fulcra in data.also"),
        (["--data.also=[{name: nothing}]"], "nothing"),
        (["--data.also=[{name: fulcra}]", "--model.label_smoothing=0.1"], "label_smoothing 0.1 with loss bce"),
    ],
    ids=["twice", "no file", "no taxonomy", "loss", "weight", "name", "idle setting"],
)
def test_mistakes_are_told_before_anything_is_written(tiny_run, tmp_path, capsys, flags, said):
    assert tiny_run("--data.name=valueeval", *FLAGS, OFF, *flags) == 2
    assert said in capsys.readouterr().err
    assert not (tmp_path / "runs").exists()


def test_two_tables_have_splits_of_their_own_and_are_told_apart(tiny_run, runs, tmp_path, capsys):
    tables = []
    for name in ("first", "second"):
        table, taxonomy = tmp_path / f"{name}.jsonl", tmp_path / f"{name}.yaml"
        rows = [{"text": f"{name} text {i}", "one": i % 2, "two": 1 - i % 2} for i in range(40)]
        table.write_text("".join(json.dumps(row) + "\n" for row in rows))
        taxonomy.write_text(yaml.safe_dump({"name": name, "values": [{"slug": s, "name": s} for s in ("one", "two")]}))
        tables.append(f"{{name: table, path: {table}, taxonomy: {taxonomy}}}")
    also = f"--data.also=[{', '.join(tables)}]"
    assert tiny_run("--data.name=valueeval", also, *FLAGS, OFF) == 0
    (run,) = runs()
    further = read_json(run / "splits.json", "")["further"]
    assert list(further) == ["first", "second"]
    assert list(read_json(run / "env.json", "")["data"]["further_annotations"]) == ["first", "second"]
    capsys.readouterr()
    assert tiny_run("--data.name=valueeval", also, *FLAGS, OFF, "--trainer.monitor=val/nothing") == 2
    assert "val/first/f1_macro" in capsys.readouterr().err


def test_a_further_taxonomy_may_not_take_the_name_of_another_file(tiny_run, tmp_path, capsys):
    taxonomy = load_taxonomy("value-imprint").to_dict() | {"name": "reliability"}
    (tmp_path / "own.yaml").write_text(yaml.safe_dump(taxonomy))
    also = f"--data.also=[{{name: value-imprint, taxonomy: {tmp_path / 'own.yaml'}}}]"
    assert tiny_run("--data.name=valueeval", also, *FLAGS, OFF) == 2
    assert "a further data set of taxonomy reliability" in capsys.readouterr().err
    assert not (tmp_path / "runs").exists()
