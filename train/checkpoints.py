"""Which file holds which weights, and which weights are the best of a run?

Both are told by the run directory's own files, so that a run can be moved, copied and resumed.
"""

import json
import math
from pathlib import Path

import torch

from datamodules.errors import InputError
from models.classifier import ValueClassifier, load_classifier
from models.digest import weights_digest
from train.ledger import Ledger, SeenCheckpoint
from train.run_directory import RunDirectory


def files_of(run: RunDirectory, seen: SeenCheckpoint) -> list[Path]:
    """Files of a checkpoint that are still there; those without optimiser state come first."""
    files = [run.checkpoints / name for name in seen.paths]
    return sorted((file for file in files if file.is_file()), key=lambda file: file == run.last_checkpoint)


def load_weights(run: RunDirectory, seen: SeenCheckpoint, device: torch.device) -> ValueClassifier | None:
    """Load the classifier with exactly these weights; None when no file holds them any more.

    Raises:
        InputError: A file that cannot be read.
    """
    for file in files_of(run, seen):
        model = load_classifier(file, fix="restore or delete that file")
        if weights_digest(model.state_dict()) == seen.weights:
            return model.to(device)
    return None


def best_checkpoint(run: RunDirectory, ledger: Ledger, monitor: str) -> SeenCheckpoint:
    """Return the checkpoint with the best logged value of a metric among those whose file is there.

    Losses are better when lower, everything else when higher; of equals the earliest is taken.

    Raises:
        InputError: The metric has no defined value at any of them.
    """
    values: dict[int, float] = {}
    for line in (run.path / "metrics.jsonl").read_text(encoding="utf-8").splitlines():
        row = json.loads(line)
        if row.get(monitor) is not None:
            values[row["step"]] = float(row[monitor])
    sign = 1 if monitor.endswith("loss") else -1
    candidates = [
        (sign * values[seen.step], seen.step, seen)
        for seen in ledger.checkpoints
        if math.isfinite(values.get(seen.step, math.nan)) and files_of(run, seen)
    ]
    if not candidates:
        raise InputError(
            f"no checkpoint of {run.path} with a defined {monitor}",
            "a validation metric that is defined at a saved checkpoint",
            "another --trainer.monitor, or a larger --data.val_fraction",
        )
    return min(candidates, key=lambda candidate: candidate[:2])[2]
