"""What lies where in a run directory?"""

import platform
import shutil
import subprocess
import sys
import tempfile
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import cache
from importlib.metadata import distributions
from pathlib import Path
from typing import Any

import torch
import yaml

from datamodules.errors import InputError
from datamodules.files import read_json, require_file, write_json, write_text
from datamodules.storage import writing

# Version of the layout below; env.json carries it.
FORMAT = 1
FOLDERS = ("checkpoints", "thresholds", "predictions", "corpus", "audits", "audits/drift")


@dataclass(frozen=True, slots=True)
class RunDirectory:
    """Paths of one run.

    Attributes:
        path: The folder; its name is the run id.
    """

    path: Path

    @classmethod
    def create(cls, root: Path, experiment: str, seed: int) -> "RunDirectory":
        """Make a new folder `<experiment>-s<seed>-<UTC stamp>`; an existing one is never reused.

        Raises:
            InputError: The root is not writable.
        """
        stamp = datetime.now(UTC).strftime("%Y%m%d-%H%M%S")
        for attempt in range(100):
            suffix = f"-{attempt}" if attempt else ""
            path = root / f"{experiment}-s{seed}-{stamp}{suffix}"
            try:
                path.mkdir(parents=True)
            except FileExistsError:
                continue
            except OSError as error:
                raise InputError(
                    f"{root}, which takes no new folder ({error.strerror})", "a writable folder", "--run.root"
                ) from error
            return cls(path)
        raise InputError(f"a hundred runs named {experiment}-s{seed}-{stamp}", "a free name", "--run.experiment")

    @classmethod
    def open(cls, path: Path) -> "RunDirectory":
        """Open an existing run; changes nothing.

        Raises:
            InputError: Not a run directory, or one of another layout.
        """
        require_file(path / "config.yaml", "name a run directory: a folder that `imprint fit` wrote")
        run = cls(path)
        environment = read_json(run.environment_file, "name a run directory with its env.json")
        found = environment.get("format") if isinstance(environment, dict) else None
        if found is None:
            fix = f'add "format": {FORMAT} to that file if the run is of the time before there were formats'
            raise InputError(f"no format of the run directory in {run.environment_file}", f"format {FORMAT}", fix)
        if found != FORMAT:
            newer = isinstance(found, int) and found > FORMAT
            fix = "the newer imprint that wrote it" if newer else "the imprint that wrote it"
            raise InputError(f"run directory {path} of format {found!r}", f"format {FORMAT}", f"use {fix}")
        return run

    @property
    def run_id(self) -> str:
        """Name of the run."""
        return self.path.resolve().name

    @property
    def checkpoints(self) -> Path:
        """Folder of the checkpoints."""
        return self.path / "checkpoints"

    @property
    def last_checkpoint(self) -> Path:
        """The checkpoint with the optimiser state."""
        return self.checkpoints / "last.ckpt"

    @property
    def config_file(self) -> Path:
        """The resolved config."""
        return self.path / "config.yaml"

    @property
    def environment_file(self) -> Path:
        """Versions, device, data digests and the format of the run directory."""
        return self.path / "env.json"

    @property
    def parent(self) -> dict[str, Any] | None:
        """The run that this one goes on from, as env.json tells it."""
        parent: dict[str, Any] | None = read_json(self.environment_file, "name a run directory").get("parent")
        return parent

    @property
    def ledger_file(self) -> Path:
        """The ledger."""
        return self.path / "ledger.jsonl"

    @property
    def metrics_file(self) -> Path:
        """Metrics, one step a line."""
        return self.path / "metrics.jsonl"

    @property
    def lock_file(self) -> Path:
        """Locked by the process that writes to this run, which removes it in the end."""
        return self.path / ".lock"

    @property
    def how_to_go_on(self) -> str:
        """The command that goes on with this run after it has stopped."""
        if self.last_checkpoint.is_file():
            return f"imprint fit --resume {self.path}"
        return "start the run again (it has saved nothing to go on from)"

    def thresholds_file(self, weights: str) -> Path:
        """Temperatures and thresholds of a checkpoint."""
        return self.path / "thresholds" / f"{weights[:8]}.json"

    def predictions_file(self, weights: str, split: str) -> Path:
        """Predictions of a checkpoint on `val` or `test`."""
        return self.path / "predictions" / f"{weights[:8]}-{split}.parquet"

    @property
    def corpora(self) -> Path:
        """Folder that tells which pair reads which text."""
        return self.path / "corpus"

    def audit_dir(self, weights: str, audit_key: str) -> Path:
        """Folder of one audit of one checkpoint."""
        return self.path / "audits" / f"{weights[:8]}-{audit_key[:8]}"

    def require_same_splits(self, splits: dict[str, Any], names: tuple[str, ...] = ("train", "val", "test")) -> None:
        """Raise InputError unless these splits hold the texts that the run began with.

        Args:
            splits: `Annotations.splits_to_dict()` of the texts as they are now.
            names: Splits that matter.
        """
        path = self.path / "splits.json"
        recorded = read_json(path, "name a run directory with its splits.json")
        ids = {name: (recorded.get(name), splits[name]) for name in names}
        old, new = (each.get("further", {}) for each in (recorded, splits))
        for further in dict.fromkeys([*old, *new]):
            own = {f"{further} {name}": [each.get(further, {}).get(name) for each in (old, new)] for name in names}
            ids |= {name: (pair[0], pair[1]) for name, pair in own.items()}
        for name, (before, now) in ids.items():
            if before != now:
                raise InputError(
                    f"another {name} split than in {path}",
                    "the texts that the run began with",
                    "restore the data file and the --data.* settings, or start a new run",
                )

    @property
    def audit_table_file(self) -> Path:
        """Rows of the newest audit of every checkpoint."""
        return self.path / "audits" / "table.parquet"

    @property
    def drift_table_file(self) -> Path:
        """What moved between checkpoints, as it was last asked for."""
        return self.path / "audits" / "drift" / "table.parquet"

    @property
    def noise_file(self) -> Path:
        """What the arithmetic alone moves."""
        return self.path / "audits" / "drift" / "noise.parquet"

    def write_config(self, config: dict[str, Any]) -> None:
        """Write config.yaml."""
        write_text(self.config_file, yaml.safe_dump(config, sort_keys=False, allow_unicode=True))

    def require_writable(self) -> None:
        """Raise InputError unless files can be made in the folders of the run that are there already."""
        for folder in (self.path, *(self.path / name for name in FOLDERS)):
            if folder.exists():
                with writing(folder, "start the command again"):
                    tempfile.TemporaryFile(dir=folder).close()

    def remove_leftovers(self) -> None:
        """Remove what processes that were killed left half-written; asked while no other process works on the run."""
        for name in FOLDERS:
            for part in (self.path / name).glob(".*.part*"):
                if part.is_dir():
                    shutil.rmtree(part, ignore_errors=True)
                else:
                    part.unlink(missing_ok=True)

    def write_environment(
        self,
        device: torch.device,
        data: dict[str, Any],
        parent: dict[str, Any] | None,
        parameters: dict[str, int] | None = None,
    ) -> None:
        """Write env.json.

        Args:
            device: Where the run computes.
            data: Digests and read reports.
            parent: The run that it goes on from, if any.
            parameters: Numbers of `trainable` and `total` parameters.
        """
        write_json(
            self.environment_file,
            {
                "format": FORMAT,
                "parent": parent,
                "python": sys.version.split()[0],
                "platform": platform.platform(),
                "processor": torch.backends.cpu.get_cpu_capability(),
                "device": torch.cuda.get_device_name(device) if device.type == "cuda" else device.type,
                "threads": torch.get_num_threads(),
                "git": git_state(Path(__file__).parent),
                "packages": installed_versions(),
                "parameters": parameters,
                "data": data,
            },
        )


@cache
def installed_versions() -> dict[str, str]:
    """Return the version of every installed distribution, by name, as when this process first asked."""
    return dict(sorted((d.name, d.version) for d in distributions()))


@cache
def git_state(folder: Path) -> dict[str, Any] | None:
    """Return the commit and whether tracked files are changed; None outside a checkout.

    As when this process first asked: what it runs is the code of that time.
    """

    def git(*arguments: str) -> str:
        return subprocess.run(
            ["git", *arguments], cwd=folder, capture_output=True, text=True, check=True, timeout=20
        ).stdout.strip()

    try:
        return {"commit": git("rev-parse", "HEAD"), "dirty": bool(git("status", "--porcelain", "-uno"))}
    except (OSError, subprocess.SubprocessError):
        return None
