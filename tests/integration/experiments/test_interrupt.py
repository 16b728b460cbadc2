"""A process that is stopped: Ctrl-C during training, kill -9 during an audit; the run can be gone on with."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

import experiments
from experiments.cli import main

ROOT = Path(experiments.__path__[0]).parent


def test_an_interrupt_names_the_run_and_it_goes_on(tiny_encoder, tiny_root, tmp_path):
    runs = tmp_path / "runs"
    command = [sys.executable, "-m", "experiments.cli", "fit", "--config", "experiments/valueeval.yaml"]
    command += [f"--model.encoder={tiny_encoder}", "--data.max_length=48", "--audit.enabled=false"]
    command += [f"--run.root={runs}", f"--run.cache_dir={tmp_path}/cache", "--track.wandb=disabled"]
    command += ["--trainer.max_epochs=100000", f"--data.root={tiny_root}", "--trainer.save_top_k=1"]
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "HOME": str(tmp_path)}
    with subprocess.Popen(command, cwd=ROOT, env=environment, stderr=subprocess.PIPE, text=True) as process:
        deadline = time.monotonic() + 90
        while not list(runs.glob("*/checkpoints/last.ckpt")) and time.monotonic() < deadline:
            time.sleep(0.1)
        process.send_signal(signal.SIGINT)
        _, error = process.communicate(timeout=60)
    (run,) = runs.iterdir()
    assert process.returncode == 130, error
    assert f"interrupted; go on with: imprint fit --resume {run}" in error
    assert "Traceback" not in error
    import torch

    done = torch.load(run / "checkpoints" / "last.ckpt", weights_only=True)["epoch"] + 1
    assert main(["fit", "--resume", str(run), f"--trainer.max_epochs={done + 1}"]) == 0


# The command line, in a process that is killed as soon as an audit begins. The code version is fixed, so that the audit
# stays the same one while somebody works on the code.
KILLED = """
import os, signal, sys
import train.audit_setup, train.auditing, train.checkpoint_queue
from experiments.cli import main
train.audit_setup.code_version = lambda: "fixed"
train.checkpoint_queue.audit_checkpoint = lambda *_: os.kill(os.getpid(), signal.SIGKILL)
main(sys.argv[1:])
"""


@pytest.mark.slow
def test_an_audit_that_kills_its_process_is_retried_once_and_then_only_when_asked(
    tiny_encoder, tiny_root, tmp_path, capsys, monkeypatch
):
    monkeypatch.setattr("train.audit_setup.code_version", lambda: "fixed")
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "HOME": str(tmp_path)}
    fit = ["fit", "--data.name=valueeval", f"--model.encoder={tiny_encoder}", "--data.max_length=48"]
    fit += ["--audit.datasets=[webgpt]", "--audit.max_length=64", f"--run.root={tmp_path}/runs"]
    fit += [f"--run.cache_dir={tmp_path}/cache", "--track.wandb=disabled", "--trainer.max_epochs=1"]
    fit += [f"--data.root={tiny_root}"]

    def killed(*command):
        process = subprocess.run([sys.executable, "-c", KILLED, *command], cwd=ROOT, env=environment, timeout=90)
        assert process.returncode == -signal.SIGKILL

    def states():
        return [json.loads(line)["state"] for line in (run / "ledger.jsonl").read_text().splitlines()]

    killed(*fit)
    (run,) = (tmp_path / "runs").iterdir()
    resume = ["fit", "--resume", str(run)]
    assert states() == ["seen", "seen", "running"]
    assert (run / ".lock").read_text(), "it could not clean up"
    killed(*resume)
    assert states() == ["seen", "seen", "running", "running"]
    for command in (resume, ["audit", str(run), "--pending"]):
        assert main(command) == 1
        assert f"2 processes died in the middle of it; to try it again: imprint audit {run}" in capsys.readouterr().err
    assert states() == ["seen", "seen", "running", "running", "failed"]
    assert main(["audit", str(run)]) == 0
    assert states()[5:] == ["running", "done"]
