"""Checkpoints on disk that the ledger does not know are found again; what counts is the weights, not the file."""

import json
import shutil

import pytest

from audits.table import read_table
from experiments.cli import main

FLAGS = ("--data.name=value-imprint", "--model.loss=wan", "--trainer.batch_size=16", "--track.wandb=disabled")
FLAGS += ("--audit.datasets=[webgpt]", "--trainer.max_epochs=2")


@pytest.fixture
def run(tiny_run, only_run, counts):
    assert tiny_run(*FLAGS) == 0
    counts.reset()
    return only_run()


def forget(run, *names):
    """Take the lines about some files, or about all, out of the ledger, with their audits."""
    lines = [json.loads(line) for line in (run / "ledger.jsonl").read_text().splitlines()]
    gone = {line["weights"] for line in lines if not names or line.get("path") in names}
    kept = [json.dumps(line) + "\n" for line in lines if line["weights"] not in gone]
    (run / "ledger.jsonl").write_text("".join(kept))
    for weights in gone:
        for folder in (run / "audits").glob(f"{weights[:8]}-*"):
            shutil.rmtree(folder)


@pytest.mark.parametrize("verb", ["resume", "pending"])
def test_an_unknown_checkpoint_is_recorded_and_audited(run, counts, entries, capsys, verb):
    weights = entries(run, "seen")[-1]["weights"]
    forget(run, "e001-s000012.ckpt")
    assert weights not in (run / "ledger.jsonl").read_text()
    (run / "checkpoints" / "junk.ckpt").write_bytes(b"something else")
    capsys.readouterr()
    for _ in range(2):
        assert main(["fit", "--resume", str(run)] if verb == "resume" else ["audit", str(run), "--pending"]) == 0
    error = capsys.readouterr().err
    assert error.count("e001-s000012.ckpt is recorded now") == error.count("last.ckpt is recorded now") == 1
    assert "passed over" in error
    assert "junk.ckpt" in error
    assert counts.audits == [weights]


def test_a_lost_ledger_costs_the_epochs_and_nothing_else(run, counts, entries, audit_folders):
    forget(run)
    assert main(["audit", str(run), "--pending"]) == 0
    assert len(counts.audits) == len(set(counts.audits)) == 2
    assert {entry["epoch"] for entry in entries(run, "seen")} == {None}
    steps = [set(read_table(path / "table.parquet")["step"].to_pylist()) for path in audit_folders(run)]
    assert sorted(map(tuple, steps)) == [(6,), (12,)]


def test_the_epoch_is_told_by_the_other_checkpoints(run, entries):
    forget(run, "e001-s000012.ckpt")
    main(["audit", str(run), "--pending"])
    assert {entry["path"]: entry["epoch"] for entry in entries(run, "seen")} == {
        "e000-s000006.ckpt": 1.0,
        "e001-s000012.ckpt": 2.0,
        "last.ckpt": 2.0,
    }


def test_a_copy_and_a_link_are_no_new_weights(run, counts, entries):
    folder = run / "checkpoints"
    shutil.copyfile(folder / "e000-s000006.ckpt", folder / "copy.ckpt")
    (folder / "link.ckpt").symlink_to("e000-s000006.ckpt")
    for _ in range(2):
        assert main(["audit", str(run)]) == 0
    assert counts.audits == []
    copies = [entry for entry in entries(run, "seen") if entry["path"] in ("copy.ckpt", "link.ckpt")]
    assert [(entry["path"], entry["step"]) for entry in copies] == [("copy.ckpt", 6)]


def test_a_known_name_with_other_weights_is_read_again(run, counts, entries, tiny_run, only_run, tmp_path):
    run = run.rename(tmp_path / "first")
    assert tiny_run(*FLAGS, "--run.seed=5", "--trainer.max_epochs=1") == 0
    shutil.copyfile(only_run() / "checkpoints" / "last.ckpt", run / "checkpoints" / "last.ckpt")
    (other,) = counts.audits
    counts.reset()
    assert main(["audit", str(run), "--pending"]) == 0
    assert counts.audits == [other]
    assert entries(run, "seen")[-1]["path"] == "last.ckpt"
