"""Which weights went into which file? Every write of the trainer passes here, also manual ones."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

from lightning_fabric.plugins.io.torch_io import TorchCheckpointIO

from models.digest import weights_digest


class RecordingCheckpointIO(TorchCheckpointIO):
    """Writes checkpoints and tells each one's weights digest.

    Lightning has no public hook after a checkpoint is on disk; the checkpoint plugin is the one public place that
    sees every write.

    Args:
        on_written: Called with (weights digest, global step, path) after the file is in place.
    """

    def __init__(self, on_written: Callable[[str, int, Path], None]) -> None:
        super().__init__()
        self._on_written = on_written

    def save_checkpoint(self, checkpoint: dict[str, Any], path: str | Path, storage_options: Any | None = None) -> None:
        """Write the file, then report it."""
        super().save_checkpoint(checkpoint, path, storage_options)
        self._on_written(weights_digest(checkpoint["state_dict"]), int(checkpoint["global_step"]), Path(path))
