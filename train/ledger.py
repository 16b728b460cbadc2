"""Which checkpoints were seen, and which audits of them are done?

An append-only file, one JSON object a line. A checkpoint is known by its weights digest, an audit by (weights digest,
audit key). States of an audit: running, then done or failed.
"""

import json
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from datamodules.errors import InputError
from datamodules.files import drop_torn_line


@dataclass(slots=True)
class SeenCheckpoint:
    """One set of weights.

    Attributes:
        weights: Digest of the state dict.
        step: Optimiser step of the first sighting.
        epoch: Epoch of the first sighting.
        paths: File names under `checkpoints/`, in order of sighting; later ones are aliases.
    """

    weights: str
    step: int
    epoch: float
    paths: list[str] = field(default_factory=list)


class Ledger:
    """The ledger of one run directory.

    Args:
        path: `ledger.jsonl`; created by the first entry.

    Raises:
        InputError: A line that is not a ledger entry.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._seen: dict[str, SeenCheckpoint] = {}
        self._audits: dict[tuple[str, str], str] = {}
        self._done_paths: dict[tuple[str, str], str] = {}
        if path.is_file():
            drop_torn_line(path)
            for number, line in enumerate(path.read_text(encoding="utf-8").splitlines(), 1):
                try:
                    self._apply(json.loads(line))
                except (json.JSONDecodeError, KeyError, TypeError) as error:
                    found = f"{path}, line {number}, which is not a ledger entry"
                    raise InputError(found, "a ledger as `imprint fit` writes", "restore the file") from error

    def _apply(self, entry: dict[str, Any]) -> None:
        if entry["state"] == "seen":
            weights, path = entry["weights"], entry["path"]
            for other in self._seen.values():
                # A file name that is written again, such as last.ckpt, holds the newest weights alone.
                if other.weights != weights and path in other.paths:
                    other.paths.remove(path)
            seen = self._seen.setdefault(weights, SeenCheckpoint(weights, entry["step"], entry["epoch"]))
            if path not in seen.paths:
                seen.paths.append(path)
        else:
            audit = entry["weights"], entry["audit_key"]
            self._audits[audit] = entry["state"]
            if entry["state"] == "done":
                self._done_paths.pop(audit, None)
                self._done_paths[audit] = entry["path"]

    def _append(self, entry: dict[str, Any]) -> None:
        self.path.parent.mkdir(parents=True, exist_ok=True)
        with self.path.open("a", encoding="utf-8") as file:
            file.write(json.dumps({**entry, "time": round(time.time(), 3)}) + "\n")
        self._apply(entry)

    def record_seen(self, weights: str, step: int, epoch: float, path: str) -> None:
        """Record that weights were written to a file; a file name seen for other weights moves to the new ones."""
        self._append({"state": "seen", "weights": weights, "step": step, "epoch": epoch, "path": path})

    def record_audit(self, weights: str, audit_key: str, state: str, **details: Any) -> None:
        """Record that an audit is `running`, `done` or `failed`."""
        self._append({"state": state, "weights": weights, "audit_key": audit_key, **details})

    def is_done(self, weights: str, audit_key: str) -> bool:
        """Tell whether this audit of these weights is finished."""
        return self._audits.get((weights, audit_key)) == "done"

    def has_done(self, weights: str) -> bool:
        """Tell whether any audit of these weights is finished."""
        return any(owner == weights for owner, _ in self._done_paths)

    def make_newest(self, weights: str, audit_key: str) -> None:
        """Record a finished audit again where it is not the newest of its checkpoint."""
        own = [audit for audit in self._done_paths if audit[0] == weights]
        if own[-1] != (weights, audit_key):
            self.record_audit(weights, audit_key, "done", path=self._done_paths[weights, audit_key])

    @property
    def newest_audits(self) -> list[str]:
        """Folder of the newest finished audit of each checkpoint, relative to the run directory, in order."""
        newest = {weights: path for (weights, _), path in self._done_paths.items()}
        return list(newest.values())

    @property
    def latest(self) -> SeenCheckpoint:
        """The weights of the highest step; the run must have saved any."""
        return max(self._seen.values(), key=lambda seen: seen.step)

    @property
    def checkpoints(self) -> list[SeenCheckpoint]:
        """All weights seen, in order of first sighting."""
        return list(self._seen.values())
