"""How does a run go on in a new directory, with the old one left as it is?"""

import shutil
from typing import Any

from datamodules.files import whole_file
from models.checkpoint_file import read_checkpoint_file
from models.digest import weights_digest
from train.ledger import Ledger
from train.run_directory import RunDirectory


def begin_fork(parent: RunDirectory, run: RunDirectory) -> dict[str, Any]:
    """Copy the parent's last checkpoint, which this run starts from, and reference the parent in the ledger.

    The copy makes the new directory complete: it can be moved, and resumed before its first epoch has ended.

    Returns:
        The parent as env.json tells it: path, run id, digest and step of the weights this run starts from.
    """
    with whole_file(run.last_checkpoint) as part:
        shutil.copyfile(parent.last_checkpoint, part)
    # Read from the copy: the parent may still be training.
    checkpoint = read_checkpoint_file(run.last_checkpoint, fix="--resume")
    weights, step = weights_digest(checkpoint["state_dict"]), int(checkpoint["global_step"])
    path = parent.path.resolve()
    Ledger(run.ledger_file).record_parent(path, weights, step, Ledger(parent.ledger_file))
    return {"path": str(path), "run_id": parent.run_id, "weights": weights, "step": step}
