"""Which file holds which weights, and which weights are the best of a run?

Both are told by the run directory's own files, so that a run can be moved, copied and resumed.
"""

import json
import math
from collections.abc import Callable
from pathlib import Path

import torch

from datamodules.errors import InputError
from models.checkpoint_file import SCORER, read_checkpoint_file
from models.digest import weights_digest
from models.ensemble import Scorer, load_scorer
from models.evaluation import is_error
from train.ledger import Ledger, SeenCheckpoint
from train.run_directory import RunDirectory


def files_of(run: RunDirectory, seen: SeenCheckpoint) -> list[Path]:
    """Files of a checkpoint that are still there; those without optimiser state come first."""
    files = [run.checkpoints / name for name in seen.paths]
    return sorted((file for file in files if file.is_file()), key=lambda file: file == run.last_checkpoint)


def load_weights(run: RunDirectory, seen: SeenCheckpoint, device: torch.device) -> Scorer | None:
    """Load the classifier, or ensemble, with exactly these weights; None when no file holds them any more.

    Raises:
        InputError: A file that cannot be read, and no other with these weights.
    """
    unreadable: InputError | None = None
    for file in files_of(run, seen):
        try:
            model = load_scorer(file, fix="restore or delete that file")
        except InputError as error:
            unreadable = unreadable or error
            continue
        if weights_digest(model.state_dict()) == seen.weights:
            return model.to(device)
    if unreadable is not None:
        raise unreadable
    return None


def name_of(run: RunDirectory, path: Path) -> str:
    """Name of a checkpoint file in the ledger: relative to `checkpoints/`, or the whole path of a file elsewhere."""
    # Lightning gives the folder with its links resolved; a file that is a link itself keeps its name.
    path, folder = path.parent.resolve() / path.name, run.checkpoints.resolve()
    return path.relative_to(folder).as_posix() if path.is_relative_to(folder) else str(path)


def record_unknown_files(
    run: RunDirectory, ledger: Ledger, steps_per_epoch: float | None, say: Callable[[str], None]
) -> None:
    """Record weights that lie in `checkpoints/` and not in the ledger: it could not be written, or its process died.

    Args:
        run: The run directory.
        ledger: Its ledger.
        steps_per_epoch: To tell the epoch of a step; None to ask the ledger, and where it does not know either, the
            epoch is unknown.
        say: Takes a line about each file that is recorded or passed over.

    Raises:
        InputError: The ledger cannot be written.
    """
    found = []
    for path in sorted(run.checkpoints.glob("*.ckpt")):
        # A link has no weights of its own. A file is written before it is recorded: a later change is another write.
        if path.is_symlink() or path.stat().st_mtime <= ledger.sighted(path.name):
            continue
        try:
            checkpoint = read_checkpoint_file(path, "restore or delete that file", SCORER)
            weights, step = weights_digest(checkpoint["state_dict"]), int(checkpoint["global_step"])
        except (InputError, KeyError, TypeError, AttributeError) as error:
            say(f"  passed over: {path}, no checkpoint of this run ({error})")
            continue
        held = {name for seen in ledger.checkpoints if seen.weights == weights for name in seen.paths}
        if path.name not in held and not ledger.is_of_parent(weights):
            found.append((step, path.name, weights))
    if steps_per_epoch is None:
        steps_per_epoch = next((seen.step / seen.epoch for seen in ledger.checkpoints if seen.epoch), None)
    for step, name, weights in sorted(found):
        say(f"  {name} is recorded now: it was not in {ledger.path}")
        ledger.record_seen(weights, step, step / steps_per_epoch if steps_per_epoch else None, name)


def logged_values(run: RunDirectory, metric: str) -> dict[int, float]:
    """Read the values of a metric by step, the last where a step was logged again; undefined ones are left out."""
    values: dict[int, float] = {}
    lines = run.metrics_file.read_text(encoding="utf-8").splitlines() if run.metrics_file.is_file() else []
    for row in map(json.loads, lines):
        if row.get(metric) is not None:
            values[row["step"]] = float(row[metric])
    return values


def best_checkpoint(run: RunDirectory, ledger: Ledger, monitor: str) -> SeenCheckpoint:
    """Return the checkpoint with the best logged value of a metric among those whose file is there.

    Losses are better when lower, everything else when higher; of equals the earliest is taken.

    Raises:
        InputError: The metric has no defined value at any of them.
    """
    values = logged_values(run, monitor)
    sign = 1 if is_error(monitor) else -1
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
