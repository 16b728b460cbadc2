"""Does value-space run at every checkpoint, refuse early, and pay for values by a fixed checkpoint only?"""

import json

import numpy as np
import pyarrow.parquet as pq
import pytest
import yaml

from audits.table import read_table
from datamodules.errors import InputError
from experiments.cli import main
from models.classifier import load_classifier
from models.digest import weights_digest
from train.value_scorer import require_other_weights

SIGNED = ("--data.name=fulcra", "--data.allow_empty_values=true", "--trainer.max_epochs=1", "--audit.noise_floor=false")


@pytest.fixture
def signed_run(tiny_run, only_run):
    """A run with signed values whose checkpoint was audited."""
    assert tiny_run(*SIGNED, "--audit.datasets=[hh-rlhf]", "--audit.audits=[value-space]") == 0
    return only_run()


@pytest.mark.slow  # trains and audits twice
def test_value_space_and_a_reward_from_a_fixed_checkpoint(signed_run, tiny_run, tiny_root, tmp_path, capsys):
    (checkpoint,) = [path for path in (signed_run / "checkpoints").glob("*.ckpt") if path.stem != "last"]
    (folder,) = [path.parent for path in signed_run.glob("audits/*/table.parquet") if path.parent.name != "drift"]
    rows = read_table(folder / "table.parquet").to_pylist()
    assert {row["audit"] for row in rows} == {"value-space"}
    assert {row["slice"] for row in rows} >= {"chosen", "rejected", "chosen-rejected", "held-out", "held-out-labels"}
    capsys.readouterr()

    output = tmp_path / "scores.jsonl"
    flags = ["--kind", "value-distance", "--target", "uk", "--max_length", "64", "--root", str(tiny_root)]
    flags += ["--datasets", "hh-rlhf", "--cache_dir", str(tmp_path / "cache"), "--output", str(output)]
    assert main(["reward", "score", "--scorer", str(checkpoint), *flags]) == 0
    scores = [json.loads(line) for line in output.read_text().splitlines()]
    # The same checkpoint read the same texts for the audit: the mean distance of the chosen responses is minus theirs.
    chosen = np.mean([row["reward"] for row in scores if row["side"] == "chosen"])
    (row,) = [r for r in rows if (r["metric"], r["slice"], r["feature"]) == ("smooth_distance", "chosen", "uk")]
    assert -chosen == pytest.approx(row["estimate"], abs=1e-5)
    assert row["n"] == 20
    named = f"{checkpoint.stem}-uk-smooth"
    assert f"texts scored by {named};" in " ".join(capsys.readouterr().out.split())

    # Two distances are told apart by their names; the file records target and distance.
    output = tmp_path / "scores.parquet"
    flags = [*flags[:-1], str(output)]
    assert main(["reward", "score", "--scorer", str(checkpoint), "--distance", "l1", *flags]) == 0
    (record,) = json.loads(pq.read_schema(output).metadata[b"provenance"])
    assert record["scorer"]["name"] == f"{checkpoint.stem}-uk-l1"
    assert record["scorer"]["column"] == "minus l1 distance to uk"
    assert record["scorer"]["weights"] == weights_digest(load_classifier(checkpoint).state_dict())
    assert any(note.startswith("target uk: ") for note in record["scorer"]["notes"])

    # What is no reward model may be a classifier of values.
    capsys.readouterr()
    assert main(["reward", "score", "--scorer", str(checkpoint), *flags[4:]]) == 2
    error = capsys.readouterr().err
    assert "fix: --scorer" in error
    assert "of a value classifier: --kind value-distance --target NAME" in error

    # Targets of one's own replace the bundled ones, by the flag of this command too.
    mine = tmp_path / "mine.yaml"
    target = {"name": "calm", "title": "Calm", "source": "made up", "licence": "none", "values": {"security": 1}}
    mine.write_text(yaml.safe_dump({"taxonomy": "schwartz", "targets": [target]}))
    flags = ["--datasets", "hh-rlhf", "--audits", "value-space", "--root", str(tiny_root), "--max_length", "64"]
    flags += ["--target_vectors", str(mine), "--output", str(tmp_path / "own")]
    assert main(["audit", "--checkpoint", str(checkpoint), *flags]) == 0
    table = read_table(tmp_path / "own" / "table.parquet").to_pylist()
    assert {row["feature"] for row in table if row["metric"] == "smooth_distance"} == {"calm"}

    # The fixed checkpoint may reward the audit of another run, and not that of its own.
    source = {
        "name": "nearness",
        "kind": "value-distance",
        "path": str(checkpoint),
        "target": "ideal",
        "max_length": 64,
    }
    other = ("--audit.datasets=[hh-rlhf]", "--audit.audits=[reward-imprint]", "--run.experiment=other", "--run.seed=1")
    assert tiny_run(*SIGNED, *other, f"--audit.rewards={json.dumps([source])}") == 0
    (table,) = (tmp_path / "runs").glob("other*/audits/*/table.parquet")
    assert "nearness" in set(read_table(table)["scorer"].to_pylist())
    config = yaml.safe_load((signed_run / "config.yaml").read_text())
    config["audit"] |= {"audits": ["reward-imprint"], "rewards": [source]}
    (signed_run / "config.yaml").write_text(yaml.safe_dump(config))
    capsys.readouterr()
    assert main(["audit", str(signed_run)]) == 2
    said = capsys.readouterr().err
    assert "rests on the very checkpoint that is audited" in said
    assert "rewards of hh-rlhf" not in said, "told before anything is scored"


@pytest.mark.parametrize("flag", ["--target=uk", "--distance=l1", "--target_vectors=mine.yaml"])
@pytest.mark.parametrize("kind", [(), ("--kind=length",)])
def test_settings_of_distances_are_refused_of_another_kind(flag, kind, tmp_path, capsys):
    output = tmp_path / "scores.csv"
    flags = ["--scorer=length", *kind, "--datasets", "sample-webgpt", "--output", str(output), flag]
    assert main(["reward", "score", *flags]) == 2
    name = flag.partition("=")[0]
    assert f"found {name} without --kind value-distance" in capsys.readouterr().err
    assert not output.exists()


def test_a_missing_data_root_names_the_flag_of_the_command(tmp_path, capsys, monkeypatch):
    monkeypatch.delenv("IMPRINT_DATA", raising=False)
    flags = ["--scorer=length", "--datasets", "webgpt", "--output", str(tmp_path / "scores.csv")]
    assert main(["reward", "score", *flags]) == 2
    assert "fix: set --root or IMPRINT_DATA" in capsys.readouterr().err


def test_a_classifier_of_other_values_is_refused_before_training(tiny_run, tmp_path, capsys):
    assert tiny_run("--audit.datasets=[hh-rlhf]", "--audit.audits=[value-space]") == 2
    error = capsys.readouterr().err
    assert "audit value-space of a classifier with the labels civility-tolerance" in error or "civility" in error
    assert "signed Schwartz labels" in error
    assert not list((tmp_path / "runs").glob("*/checkpoints/*"))


def test_unknown_targets_are_told(tiny_run, tmp_path, capsys):
    missing = f"--audit.target_vectors={tmp_path / 'none.yaml'}"
    assert tiny_run(*SIGNED, "--audit.datasets=[hh-rlhf]", "--audit.audits=[value-space]", missing) == 2
    assert "none.yaml" in capsys.readouterr().err


def test_only_a_distance_of_the_audited_weights_is_refused():
    own = {"scorer": {"name": "x", "kind": "value-distance", "weights": "abc"}}
    require_other_weights("abd", [own])
    require_other_weights("abc", [{"scorer": {"name": "x", "kind": "checkpoint", "weights": "abc"}}])
    require_other_weights("abc", [{"scorer": {"name": "x", "kind": "file"}}])
    with pytest.raises(InputError, match="rests on the very checkpoint"):
        require_other_weights("abc", [own])
