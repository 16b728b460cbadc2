"""Which checkpoints were seen, and which audits of them are done?

An append-only file, one JSON object a line. A checkpoint is known by its weights digest, an audit by (weights digest,
audit key). States of an audit: running, then done or failed. A `running` without an end is a process that died. The
ledger of a run that goes on from another one begins with a line about that parent.
"""

import json
import time
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from datamodules.errors import InputError
from datamodules.files import drop_torn_line
from datamodules.storage import writing


@dataclass(slots=True)
class SeenCheckpoint:
    """One set of weights.

    Attributes:
        weights: Digest of the state dict.
        step: Optimiser step of the first sighting.
        epoch: Epoch of the first sighting; None when unknown.
        paths: Files in order of sighting, relative to `checkpoints/`; later ones are aliases.
    """

    weights: str
    step: int
    epoch: float | None
    paths: list[str] = field(default_factory=list)


def append_text(path: Path, text: str) -> None:
    """Append lines to a file, after what may be left there of a line that was not written whole."""
    if path.is_file():
        drop_torn_line(path)
    with path.open("a", encoding="utf-8") as file:
        file.write(text)


class Ledger:
    """The ledger of one run directory. Opening it changes nothing.

    An entry that cannot be written is told by an InputError, counts in this process, and is written with the next
    entry that can be.

    Args:
        path: `ledger.jsonl`; created by the first entry.

    Raises:
        InputError: A file that cannot be read, or a line that is not a ledger entry.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._seen: dict[str, SeenCheckpoint] = {}
        self._sighted: dict[str, float] = {}
        self._states: dict[tuple[str, str], str] = {}
        self._without_end: Counter[tuple[str, str]] = Counter()
        self._done_paths: dict[tuple[str, str], str] = {}
        self._parent_weights: set[str] = set()
        self._parent_done: set[tuple[str, str]] = set()
        self._unwritten: list[str] = []
        if not path.exists():
            return
        try:
            # What follows the last line end was torn off when its process was killed.
            lines = path.read_text(encoding="utf-8").split("\n")[:-1]
        except (OSError, UnicodeDecodeError) as error:
            raise InputError(f"{path}, which cannot be read ({error})", "a readable ledger", "restore it") from error
        for number, line in enumerate(lines, 1):
            try:
                self._apply(json.loads(line))
            except (json.JSONDecodeError, KeyError, TypeError) as error:
                found = f"{path}, line {number}, which is not a ledger entry"
                raise InputError(found, "a ledger as `imprint fit` writes", "restore the file") from error

    def _apply(self, entry: dict[str, Any]) -> None:
        match entry["state"]:
            case "parent":
                self._parent_weights.update(entry["seen"])
                self._parent_done.update((weights, key) for weights, key in entry["done"])
            case "seen":
                self._apply_seen(entry["weights"], entry)
            case state:
                self._apply_audit((entry["weights"], entry["audit_key"]), state, entry)

    def _apply_seen(self, weights: str, entry: dict[str, Any]) -> None:
        path = entry["path"]
        for other in self._seen.values():
            # A file name that is written again, such as last.ckpt, holds the newest weights alone.
            if other.weights != weights and path in other.paths:
                other.paths.remove(path)
        seen = self._seen.setdefault(weights, SeenCheckpoint(weights, entry["step"], entry["epoch"]))
        if path not in seen.paths:
            seen.paths.append(path)
        self._sighted[path] = entry.get("time", 0.0)

    def _apply_audit(self, audit: tuple[str, str], state: str, entry: dict[str, Any]) -> None:
        if state == "running":
            self._without_end[audit] += 1
        elif self._states.get(audit) == "running" and "deaths" not in entry:
            self._without_end[audit] -= 1
        self._states[audit] = state
        if state == "done":
            self._done_paths.pop(audit, None)
            self._done_paths[audit] = entry["path"]

    def _append(self, entry: dict[str, Any], keep: bool = True) -> None:
        """Write an entry and those that could not be written before; `keep` one that cannot be for later."""
        entry = {**entry, "time": round(time.time(), 3)}
        line = json.dumps(entry) + "\n"
        try:
            with writing(self.path, f"imprint audit {self.path.parent} --pending"):
                append_text(self.path, "".join([*self._unwritten, line]))
        except InputError:
            if keep:
                self._unwritten.append(line)
                self._apply(entry)
            raise
        self._unwritten.clear()
        self._apply(entry)

    def record_parent(self, path: Path, weights: str, step: int, parent: "Ledger") -> None:
        """Record that this run goes on from another one: what was audited there is not audited again here.

        Args:
            path: The other run directory.
            weights: Digest of the weights this run starts from.
            step: Their optimiser step.
            parent: The other run's ledger.
        """
        seen = sorted({weights, *parent._seen, *parent._parent_weights})
        done = sorted({*parent._done_paths, *parent._parent_done})
        start = {"path": str(path), "weights": weights, "step": step}
        self._append({"state": "parent", **start, "seen": seen, "done": [list(audit) for audit in done]})

    def record_seen(self, weights: str, step: int, epoch: float | None, path: str) -> None:
        """Record that weights were written to a file; a file name seen for other weights moves to the new ones."""
        self._append({"state": "seen", "weights": weights, "step": step, "epoch": epoch, "path": path})

    def begin_audit(self, weights: str, audit_key: str) -> None:
        """Record that an audit is running. Where that cannot be written the audit must not begin, nor does it here."""
        self._append({"state": "running", "weights": weights, "audit_key": audit_key}, keep=False)

    def end_audit(self, weights: str, audit_key: str, state: str, **details: Any) -> None:
        """Record that an audit is `done` (detail `path`) or `failed` (`error`; `deaths` where nothing was run)."""
        self._append({"state": state, "weights": weights, "audit_key": audit_key, **details})

    def is_done(self, weights: str, audit_key: str) -> bool:
        """Tell whether this audit of these weights is finished, here or in a parent run."""
        audit = weights, audit_key
        return self._states.get(audit) == "done" or audit in self._parent_done

    def is_failed(self, weights: str, audit_key: str) -> bool:
        """Tell whether the last that is known of this audit is that it failed."""
        return self._states.get((weights, audit_key)) == "failed"

    def has_done(self, weights: str) -> bool:
        """Tell whether any audit of these weights is finished, here or in a parent run."""
        return any(owner == weights for owner, _ in [*self._done_paths, *self._parent_done])

    def deaths(self, weights: str, audit_key: str) -> int:
        """How often a process died in the middle of this audit; asked while no other process works on the run."""
        return self._without_end[weights, audit_key]

    def sighted(self, path: str) -> float:
        """When the file was last recorded, in seconds since 1970; 0 for never."""
        return self._sighted.get(path, 0.0)

    def is_of_parent(self, weights: str) -> bool:
        """Tell whether a parent run wrote these weights."""
        return weights in self._parent_weights

    def audit_path(self, weights: str, audit_key: str) -> str | None:
        """Folder of an audit that was finished here, relative to the run directory."""
        return self._done_paths.get((weights, audit_key))

    def make_newest(self, weights: str, audit_key: str) -> None:
        """Record an audit that was finished here again where it is not the newest of its checkpoint."""
        own = [audit for audit in self._done_paths if audit[0] == weights]
        if (weights, audit_key) in own[:-1]:
            self.end_audit(weights, audit_key, "done", path=self._done_paths[weights, audit_key])

    @property
    def finished_audits(self) -> list[tuple[str, str, str]]:
        """Weights, audit key and folder of every audit that was finished here, in order."""
        return [(weights, audit_key, path) for (weights, audit_key), path in self._done_paths.items()]

    def forget(self, weights: str, audit_key: str) -> None:
        """Take an audit that was finished here for not done, as long as this process lasts: its files are lost."""
        self._states.pop((weights, audit_key), None)
        self._done_paths.pop((weights, audit_key), None)

    @property
    def newest_audits(self) -> list[str]:
        """Folder of the newest finished audit of each checkpoint, relative to the run directory, in order."""
        newest = {weights: path for (weights, _), path in self._done_paths.items()}
        return list(newest.values())

    @property
    def n_unwritten(self) -> int:
        """Entries that are not in the file."""
        return len(self._unwritten)

    @property
    def latest(self) -> SeenCheckpoint:
        """The weights of the highest step; the run must have saved any."""
        return max(self._seen.values(), key=lambda seen: seen.step)

    @property
    def checkpoints(self) -> list[SeenCheckpoint]:
        """All weights seen, in order of first sighting."""
        return list(self._seen.values())
