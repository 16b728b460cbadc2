"""A disk that is full, or a right that is missing: one message that names the path; only what must stop does."""

import errno
import json
import os
import re

import pytest
import torch

import train.audit_tables
import train.callbacks.recording_checkpoint_io
import train.checkpoint_queue
import train.fit
import train.ledger
import train.run_directory
from audits.table import read_table
from experiments.cli import main
from models.digest import weights_digest
from train.tracking import LocalRecord

FAST = ("--data.name=value-imprint", "--model.loss=wan", "--trainer.batch_size=16", "--track.wandb=disabled")
TWO_EPOCHS = (*FAST, "--audit.datasets=[webgpt]", "--trainer.max_epochs=2")
ALWAYS = range(1, 1000)


@pytest.fixture
def broken(monkeypatch):
    """Make a function fail at some of its calls (by number, from 1); gives a function that mends it."""

    def replace(owner, name, fails_at=ALWAYS, number=errno.ENOSPC):
        real = getattr(owner, name)
        n_calls = 0

        def function(*arguments, **options):
            nonlocal n_calls
            n_calls += 1
            if n_calls in fails_at:
                raise OSError(number, os.strerror(number))
            return real(*arguments, **options)

        monkeypatch.setattr(owner, name, function)
        return lambda: monkeypatch.setattr(owner, name, real)

    return replace


@pytest.fixture
def told(capsys):
    """Give the lines of standard error about a failed write to a path; there must be no traceback."""

    def find(path: str, reason: str = "No space left on device") -> list[str]:
        error = capsys.readouterr().err
        assert "Traceback" not in error
        pattern = (
            rf"found \S*{path}, where writing failed \({reason}; [\d,]+ MB free\); needed .*; fix: mend that, then "
        )
        lines = [line for line in error.splitlines() if re.search(pattern, line)]
        assert lines, error
        return lines

    return find


def digest_of_last(run):
    return weights_digest(torch.load(run / "checkpoints" / "last.ckpt", weights_only=True)["state_dict"])


@pytest.mark.parametrize(
    ("number", "reason"), [(errno.ENOSPC, "No space left on device"), (errno.EACCES, "Permission denied")]
)
def test_without_a_ledger_training_goes_on_and_pending_does_the_rest(
    tiny_run, only_run, broken, told, counts, entries, number, reason
):
    mend = broken(train.ledger, "append_text", number=number)
    assert tiny_run(*TWO_EPOCHS) == 1
    run = only_run()
    assert f"then imprint audit {run} --pending" in told(r"ledger\.jsonl", reason)[0]
    assert counts.audits == []
    assert not (run / "ledger.jsonl").exists()
    mend()
    for _ in range(2):
        assert main(["audit", str(run), "--pending"]) == 0
    assert len(counts.audits) == len(set(counts.audits)) == 2
    assert [(entry["step"], entry["path"]) for entry in entries(run, "seen")] == [
        (6, "e000-s000006.ckpt"),
        (12, "e001-s000012.ckpt"),
        (12, "last.ckpt"),
    ]


def test_a_ledger_that_could_not_be_written_for_a_while_is_complete_in_the_end(
    tiny_run, only_run, broken, counts, entries
):
    # Both sightings of the first checkpoint and the end of the second one's audit.
    broken(train.ledger, "append_text", fails_at=(1, 2, 6))
    assert tiny_run(*TWO_EPOCHS, "--trainer.max_epochs=3") == 0
    run = only_run()
    assert len(counts.audits) == 3
    assert [entry["step"] for entry in entries(run, "seen")] == [6, 6, 12, 12, 18, 18]
    assert [entry["state"] for entry in entries(run, "running", "done", "failed")] == ["running", "done"] * 3


@pytest.mark.parametrize("n_write", [1, 2, 3, 4])
def test_without_room_for_a_checkpoint_the_run_stops_and_can_be_gone_on_with(
    tiny_run, only_run, broken, told, counts, tmp_path, n_write
):
    flags = (*TWO_EPOCHS, "--optim.schedule=constant", "--model.dropout=0.3")
    mend = broken(train.callbacks.recording_checkpoint_io, "whole_file", fails_at=(n_write,))
    assert tiny_run(*flags) == 2
    run = only_run()
    (line,) = told(r"checkpoints/\S+\.ckpt")
    assert line.startswith("imprint: error: ")
    assert len(list((run / "checkpoints").glob("*"))) == n_write - 1 if n_write < 4 else 3
    mend()
    if n_write < 3:
        assert line.endswith("then start the run again (it has saved nothing to go on from)")
        return
    assert line.endswith(f"then imprint fit --resume {run}")
    assert main(["fit", "--resume", str(run)]) == 0
    resumed = digest_of_last(run)
    assert len(counts.audits) == len(set(counts.audits)) == 2
    run.rename(tmp_path / "resumed")
    assert tiny_run(*flags) == 0
    assert digest_of_last(only_run()) == resumed


@pytest.mark.parametrize(
    ("name", "path"),
    [
        ("audit_checkpoint", r"audits/\w{8}-\w{8}"),
        ("write_thresholds", r"thresholds/\w{8}\.json"),
        ("write_predictions", r"predictions/\w{8}-val\.parquet"),
    ],
)
def test_what_cannot_be_written_about_a_checkpoint_is_done_later(
    tiny_run, only_run, broken, told, counts, entries, name, path
):
    broken(train.checkpoint_queue, name, fails_at=(1,))
    assert tiny_run(*TWO_EPOCHS) == 1
    run = only_run()
    (line,) = told(path)
    assert f"then imprint audit {run} --pending" in line
    assert len(counts.audits) == 1
    assert main(["audit", str(run), "--pending"]) == 0
    assert len(counts.audits) == len(set(counts.audits)) == 2
    assert len(entries(run, "done")) == 2
    assert len(list((run / "predictions").glob("*-val.parquet"))) == 2


def test_a_table_of_the_run_that_could_not_be_written_is_written_later(tiny_run, only_run, broken, told):
    mend = broken(train.audit_tables, "write_table")
    assert tiny_run(*TWO_EPOCHS) == 0
    run = only_run()
    told(r"audits/table\.parquet")
    mend()
    assert main(["audit", str(run), "--pending"]) == 0
    assert len(set(read_table(run / "audits" / "table.parquet")["weights"].to_pylist())) == 2


def test_metrics_wait_in_order_for_the_disk(tiny_run, only_run, broken, told, tmp_path):
    assert tiny_run(*TWO_EPOCHS) == 0
    whole = (only_run() / "metrics.jsonl").read_text()
    only_run().rename(tmp_path / "whole")
    broken(LocalRecord, "log", fails_at=(2, 3))
    assert tiny_run(*TWO_EPOCHS) == 0
    assert len(told(r"metrics\.jsonl")) == 1
    assert (only_run() / "metrics.jsonl").read_text() == whole


def test_metrics_that_were_never_written_are_told(tiny_run, only_run, broken, capsys):
    broken(LocalRecord, "log")
    assert tiny_run(*TWO_EPOCHS) == 2
    error = capsys.readouterr().err
    assert "rows of metrics are lost: they could not be written" in error
    assert "no checkpoint of" in error
    assert "Traceback" not in error
    assert (only_run() / "checkpoints" / "last.ckpt").is_file()


def test_a_run_that_cannot_be_tested_is_finished_by_resuming_it(tiny_run, only_run, broken, told, counts):
    import train.finish

    mend = broken(train.finish, "write_predictions")
    assert tiny_run(*TWO_EPOCHS) == 2
    run = only_run()
    (line,) = told(run.name)
    assert line.endswith(f"then imprint fit --resume {run}")
    mend()
    assert main(["fit", "--resume", str(run)]) == 0
    assert len(counts.audits) == 2
    assert any("test/top1_accuracy" in json.loads(row) for row in (run / "metrics.jsonl").read_text().splitlines())


def test_a_run_that_cannot_begin_leaves_nothing(tiny_run, broken, told, tmp_path):
    broken(train.run_directory, "write_text")
    assert tiny_run(*TWO_EPOCHS) == 2
    told("runs/demo-s0-.*")
    assert list((tmp_path / "runs").iterdir()) == []


@pytest.mark.parametrize("folder", ["audits", "thresholds", "checkpoints", "."])
@pytest.mark.parametrize("verb", ["fit", "audit"])
def test_a_folder_that_takes_no_file_is_told_before_anything_is_done(
    tiny_run, only_run, told, counts, monkeypatch, folder, verb
):
    import tempfile

    assert tiny_run(*TWO_EPOCHS, "--trainer.max_epochs=1") == 0
    run = only_run()
    real = tempfile.TemporaryFile

    def denied(**options):
        if options["dir"] == run / folder:
            raise PermissionError(errno.EACCES, os.strerror(errno.EACCES))
        return real(**options)

    monkeypatch.setattr(tempfile, "TemporaryFile", denied)
    counts.reset()
    before = {path: path.read_bytes() for path in run.rglob("*") if path.is_file()}
    command = ["fit", "--resume", str(run), "--trainer.max_epochs=2"] if verb == "fit" else ["audit", str(run)]
    assert main(command) == 2
    told(run.name if folder == "." else folder, "Permission denied")
    assert {path: path.read_bytes() for path in run.rglob("*") if path.is_file()} == before
