"""What becomes of metrics that cannot be written, on a full disk? They wait, in order, for the next that can be."""

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from datamodules.errors import InputError
from datamodules.files import drop_torn_line
from datamodules.storage import writing
from train.tracking import Tracker


class PatientTracker:
    """A tracker whose metrics wait while its local record cannot be written; training goes on.

    Args:
        tracker: Takes everything.
        path: The local record, to name it.
        say: Takes the message, once per time that the record cannot be written.
    """

    def __init__(self, tracker: Tracker, path: Path, say: Callable[[str], None]) -> None:
        self._tracker = tracker
        self._path = path
        self._say = say
        self._waiting: list[tuple[Mapping[str, float], int, float | None]] = []

    @property
    def n_unwritten(self) -> int:
        """Rows of metrics that are not in the file."""
        return len(self._waiting)

    def log(self, metrics: Mapping[str, float], step: int, epoch: float | None = None) -> None:
        """See `Tracker`."""
        self._waiting.append((dict(metrics), step, epoch))
        self._write_waiting(told_before=len(self._waiting) > 1)

    def _write_waiting(self, told_before: bool) -> None:
        try:
            with writing(self._path, "go on: what waits is written as soon as it can be"):
                while self._waiting:
                    self._tracker.log(*self._waiting[0])
                    self._waiting.pop(0)
        except InputError as error:
            if self._path.is_file():
                drop_torn_line(self._path)
            if not told_before:
                self._say(f"  {error}")

    def log_audit(self, metrics: Mapping[str, float], step: int) -> None:
        """See `Tracker`."""
        self._tracker.log_audit(metrics, step)

    def log_table(self, name: str, columns: Sequence[str], rows: Sequence[Sequence[Any]]) -> None:
        """See `Tracker`."""
        self._tracker.log_table(name, columns, rows)

    def log_artifact(
        self, name: str, kind: str, files: Sequence[Path], metadata: Mapping[str, Any], aliases: Sequence[str]
    ) -> None:
        """See `Tracker`."""
        self._tracker.log_artifact(name, kind, files, metadata, aliases)

    def finish(self, exit_code: int, state: str = "") -> None:
        """See `Tracker`; tells what was never written."""
        self._write_waiting(told_before=False)
        if self._waiting:
            self._say(f"  {len(self._waiting)} rows of metrics are lost: they could not be written to {self._path}")
        self._tracker.finish(exit_code, state)
