"""Ctrl-C during training tells how to go on, and the run can be resumed."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

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
