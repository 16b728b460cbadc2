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
from experiments.cli import main
from models.reward_model import load_reward_model

FOLDER = Path(experiments.__path__[0])
# A reward model is fitted by a verb of its own; its settings name preference data, those of a classifier do not.
# A search is another verb, too (test_tune.py).
ALL_FILES = [path for path in sorted(FOLDER.glob("*.yaml")) if "tune" not in yaml.safe_load(path.read_text())]
REWARD_FILES = [path for path in ALL_FILES if "datasets" in yaml.safe_load(path.read_text()).get("data", {})]
FILES = [path for path in ALL_FILES if path not in REWARD_FILES]
TINY = ("--trainer.max_epochs=2", "--trainer.limit_train_batches=2", "--trainer.batch_size=8")
OVERRIDDEN = {flag.lstrip("-").split("=")[0] for flag in TINY} | {
    "data.max_length",
    "data.val_fraction",
    "model.encoder",
}
RUN_FILES = {"config.yaml", "cost.json", "env.json", "splits.json", "metrics.jsonl", "ledger.jsonl", "wandb"}
RUN_FOLDERS = {"checkpoints", "thresholds", "predictions", "corpus", "audits"}


@pytest.fixture
def reward_fit(tiny_encoder, tiny_root, tmp_path, monkeypatch):
    """Run `imprint reward fit` on the tiny world, in a folder that gets what a relative `output` names."""
    monkeypatch.chdir(tmp_path)

    def run(path, *flags):
        own = [f"--model.encoder={tiny_encoder}", f"--data.root={tiny_root}", "--data.max_length=48"]
        own += ["--data.val_fraction=0.3", "--trainer.precision=float32", f"--run.root={tmp_path / 'reward-runs'}"]
        return main(["reward", "fit", f"--config={path}", *own, f"--run.cache_dir={tmp_path / 'cache'}", *TINY, *flags])

    return run


@pytest.mark.parametrize("path", REWARD_FILES, ids=lambda path: path.stem)
def test_reward_file(path, reward_fit, tmp_path, capsys):
    assert reward_fit(path) == 0
    (run,) = (tmp_path / "reward-runs").iterdir()
    assert {entry.name for entry in run.iterdir()} == RUN_FILES - {"cost.json", "ledger.jsonl"} | {"checkpoints"}
    settings = yaml.safe_load(path.read_text())
    resolved = yaml.safe_load((run / "config.yaml").read_text())
    output = settings.pop("output")
    assert resolved["output"] == output == f"rewards/{path.stem}.ckpt"
    require_resolved(settings, resolved)
    model = load_reward_model(tmp_path / output)
    assert [entry["dataset"] for entry in model.trained_on] == settings["data"]["datasets"]
    out = capsys.readouterr().out
    assert "Pair accuracy on the held-out part" in out
    assert output in out


def require_resolved(settings, resolved):
    """Every setting of a file arrives; where it is a list of sections, these have defaults besides."""

    def agrees(value, found):
        match value:
            case dict():
                return all(agrees(part, found[name]) for name, part in value.items())
            case list():
                return len(value) == len(found) and all(map(agrees, value, found))
            case _:
                return value == found

    for section, fields in settings.items():
        for name, value in fields.items():
            assert f"{section}.{name}" in OVERRIDDEN or agrees(value, resolved[section][name]), (section, name)


def reward_checkpoints(settings):
    rewards = settings.get("audit", {}).get("rewards", [])
    return [Path(reward["path"]) for reward in rewards if reward["kind"] == "checkpoint"]


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.stem)
def test_experiment_file(path, tiny_run, reward_fit, only_run, capsys):
    for needed in reward_checkpoints(yaml.safe_load(path.read_text())):
        assert reward_fit(FOLDER / f"{needed.stem}.yaml", f"--output={needed}") == 0
    capsys.readouterr()
    assert tiny_run(f"--config={path}", *TINY) == 0
    run = only_run()
    assert {entry.name for entry in run.iterdir()} == RUN_FILES | RUN_FOLDERS | {"training_texts.parquet"}
    settings = yaml.safe_load(path.read_text())
    resolved = yaml.safe_load((run / "config.yaml").read_text())
    require_resolved(settings, resolved)
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
    assert names == {"val.parquet", "test.parquet", "test-reliability.parquet"}
    (test_file,) = (run / "predictions").glob("*-test.parquet")
    predictions = pq.read_table(test_file)
    assert predictions["text_id"].to_pylist() == ids["test"]
    assert {"face", "face_on", "face_true", "group_id"} <= set(predictions.column_names)
    (path,) = (path for path in (run / "corpus").glob("hh-rlhf-*.parquet") if "measured" not in path.name)
    index = pq.read_table(path)
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
