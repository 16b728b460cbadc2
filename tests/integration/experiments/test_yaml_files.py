"""Every experiments/*.yaml runs through the real command line on tiny files in the native layouts."""

import json
import subprocess
import sys
from pathlib import Path

import pyarrow.parquet as pq
import pytest
import yaml

import experiments
from audits.table import read_table

FOLDER = Path(experiments.__path__[0])
FILES = sorted(FOLDER.glob("*.yaml"))
TINY = ("--trainer.max_epochs=2", "--trainer.limit_train_batches=2", "--trainer.batch_size=8")
OVERRIDDEN = {flag.lstrip("-").split("=")[0] for flag in TINY} | {
    "data.max_length",
    "data.val_fraction",
    "model.encoder",
}
RUN_FILES = {"config.yaml", "env.json", "splits.json", "metrics.jsonl", "ledger.jsonl", "wandb"}
RUN_FOLDERS = {"checkpoints", "thresholds", "predictions", "corpus", "audits"}


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.stem)
def test_experiment_file(path, tiny_run, only_run, capsys):
    assert tiny_run(f"--config={path}", *TINY) == 0
    run = only_run()
    assert {entry.name for entry in run.iterdir()} == RUN_FILES | RUN_FOLDERS
    settings = yaml.safe_load(path.read_text())
    resolved = yaml.safe_load((run / "config.yaml").read_text())
    for section, fields in settings.items():
        for name, value in fields.items():
            assert f"{section}.{name}" in OVERRIDDEN or resolved[section][name] == value
    datasets = settings.get("audit", {}).get("datasets", resolved["audit"]["datasets"])
    tables = [read_table(folder / "table.parquet") for folder in (run / "audits").glob("*-*")]
    assert len(tables) == 2
    for table in tables:
        assert set(table["dataset"].to_pylist()) == set(datasets)
        assert set(table["mode"].to_pylist()) == {"corrected", "as_published"}
    out = capsys.readouterr().out
    assert "Per-value metrics on test" in out
    assert str(run) in out
    assert max(len(line) for line in out.splitlines() if str(run) not in line) <= 100


def test_the_run_directory_holds_what_the_design_says(tiny_run, only_run):
    tiny_run(f"--config={FOLDER / 'valueeval.yaml'}", *TINY)
    run = only_run()
    ids = json.loads((run / "splits.json").read_text())
    assert len(ids["test"]) == 40
    weights = {entry["weights"][:8] for entry in map(json.loads, (run / "ledger.jsonl").read_text().splitlines())}
    assert {path.stem for path in (run / "thresholds").iterdir()} == weights
    assert {path.name for path in (run / "audits").glob("*-*")} == {
        f"{path.name[:8]}-{json.loads((path / 'meta.json').read_text())['audit_key'][:8]}"
        for path in (run / "audits").glob("*-*")
    }
    names = {path.name.split("-", 1)[1] for path in (run / "predictions").iterdir()}
    assert names == {"val.parquet", "test.parquet"}
    (test_file,) = (run / "predictions").glob("*-test.parquet")
    predictions = pq.read_table(test_file)
    assert predictions["text_id"].to_pylist() == ids["test"]
    assert {"face", "face_on", "face_true", "group_id"} <= set(predictions.column_names)
    index = pq.read_table(run / "corpus" / "hh-rlhf.parquet")
    assert index.num_rows == 20 * 2 * 2
    items = pq.read_table(next((run / "audits").glob("*-*")) / "decisions.parquet")
    assert set(index["text_id"].to_pylist()) <= set(items["text_id"].to_pylist())
    environment = json.loads((run / "env.json").read_text())
    assert environment["data"]["annotations"]["n_kept"] == 120
    lines = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
    assert "val/n_values_scored" in {name for line in lines for name in line}
    assert [path for path in run.rglob("*.part*")] == []


def test_signed_values_are_two_labels_everywhere_and_net_in_tables(tiny_run, only_run):
    tiny_run(f"--config={FOLDER / 'fulcra.yaml'}", *TINY)
    run = only_run()
    table = read_table(next((run / "audits").glob("*-*")) / "table.parquet")
    features = set(table["feature"].to_pylist())
    assert {"power-for", "power-against", "power-net"} <= features
    (test_file,) = (run / "predictions").glob("*-test.parquet")
    predictions = pq.read_table(test_file).to_pandas()
    assert not (predictions["power-for_on"] & predictions["power-against_on"]).any()


def test_in_a_process_of_its_own(tiny_encoder, tiny_root, tmp_path):
    command = [sys.executable, "-m", "experiments.cli", "fit", "--config", str(FOLDER / "value-imprint.yaml"), *TINY]
    command += [f"--model.encoder={tiny_encoder}", "--data.max_length=48", "--audit.max_length=64"]
    command += [f"--run.root={tmp_path}/runs", f"--run.cache_dir={tmp_path}/cache", "--track.wandb=disabled"]
    environment = {"PATH": "/usr/bin:/bin", "HOME": str(tmp_path), "IMPRINT_DATA": str(tiny_root)}
    done = subprocess.run(command, capture_output=True, text=True, env=environment, timeout=240, cwd=FOLDER.parent)
    assert done.returncode == 0, done.stderr
    assert "Per-value metrics on test" in done.stdout
    assert "Warning" not in done.stderr
    (run,) = (tmp_path / "runs").iterdir()
    assert yaml.safe_load((run / "config.yaml").read_text())["data"]["root"] is None
