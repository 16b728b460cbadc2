"""One process at a time works on a run directory; the second gets one message and touches nothing."""

import os
import socket

import pytest

from experiments.cli import main
from train.run_directory import RunDirectory
from train.run_lock import run_lock

FLAGS = ("--data.name=value-imprint", "--model.loss=wan", "--trainer.batch_size=16", "--track.wandb=disabled")
FLAGS += ("--audit.datasets=[webgpt]", "--trainer.max_epochs=1")


@pytest.mark.parametrize("verb", ["fit", "audit"])
def test_the_second_process_is_told_who_is_there(tiny_run, only_run, capsys, verb):
    assert tiny_run(*FLAGS) == 0
    run = only_run()
    command = ["fit", "--resume", str(run)] if verb == "fit" else ["audit", str(run), "--datasets", "hh-rlhf"]
    capsys.readouterr()
    with run_lock(RunDirectory(run), print):
        before = {path: path.read_bytes() for path in run.rglob("*") if path.is_file()}
        assert main(command) == 2
        assert {path: path.read_bytes() for path in run.rglob("*") if path.is_file()} == before
        # Reading does not ask for the lock.
        texts = run / "texts.jsonl"
        texts.write_text('{"text": "why is the law fair"}\n')
        score = ["--checkpoint", str(run / "checkpoints" / "last.ckpt"), "--input", str(texts)]
        assert main(["score", *score, "--output", str(run / "scores.parquet")]) == 0
    error = capsys.readouterr().err
    found = f"imprint: error: found {run} in use by process {os.getpid()} on {socket.gethostname()} since 20"
    assert error.count(found) == 1
    assert "Traceback" not in error
    assert main(command) == 0


def test_a_new_run_is_locked_while_it_trains(tiny_run, only_run, monkeypatch, capsys):
    from models.classifier import ValueClassifier

    codes = []

    def second_process(self):
        codes.append(main(["audit", str(only_run())]))

    monkeypatch.setattr(ValueClassifier, "on_train_end", second_process, raising=False)
    assert tiny_run(*FLAGS) == 0
    assert codes == [2]
    assert "in use by process" in capsys.readouterr().err
