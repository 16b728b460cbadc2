"""Which weights went into which file? Every write of the trainer passes here, also manual ones."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from lightning_fabric.plugins.io.torch_io import TorchCheckpointIO

from datamodules.files import whole_file
from datamodules.storage import writing
from models.digest import State, weights_digest


class RecordingCheckpointIO(TorchCheckpointIO):
    """Writes checkpoints, each whole or not at all, and tells its weights digest.

    Lightning has no public hook after a checkpoint is on disk; the checkpoint plugin is the one public place that
    sees every write. Its own write goes through a temporary file that may lie on another disk, from where it is not
    moved at once: a full disk would then cost the checkpoint that is being replaced, too.

    Args:
        on_written: Called with (weights digest, global step, path) after the file is in place.
        how_to_go_on: Gives the command that goes on after a checkpoint could not be written.
        digest: `weights_digest`, or what gives the same in less time.
    """

    def __init__(
        self,
        on_written: Callable[[str, int, Path], None],
        how_to_go_on: Callable[[], str],
        digest: Callable[[State], str] = weights_digest,
    ) -> None:
        super().__init__()
        self._digest = digest
        self._on_written = on_written
        self._how_to_go_on = how_to_go_on

    def save_checkpoint(self, checkpoint: dict[str, Any], path: str | Path, storage_options: Any | None = None) -> None:
        """Write the file, then report it.

        Raises:
            InputError: The file cannot be written.
        """
        if storage_options is not None:
            raise TypeError("checkpoints are local files, which take no storage_options")
        with writing(Path(path), self._how_to_go_on()), whole_file(Path(path)) as part:
            _save(checkpoint, part)
        self._on_written(self._digest(checkpoint["state_dict"]), int(checkpoint["global_step"]), Path(path))


def _save(checkpoint: dict[str, Any], path: Path) -> None:
    """Write straight to the file: a copy in memory first takes as long again, and as much memory as the model.

    Raises:
        OSError: Why it failed; torch's own error, which comes of it, does not say.
    """
    try:
        with path.open("wb") as file:
            torch.save(checkpoint, file)
    except RuntimeError as error:
        reason: BaseException | None = error
        while reason is not None and not isinstance(reason, OSError):
            reason = reason.__context__
        raise reason or error from None
