"""Where do the numbers of a run go? Into local files always, and into Weights & Biases as a mirror.

This is the only module that imports wandb. The local files are the record: nothing is ever read back from W&B.
"""

import json
import math
import os
import sys
from argparse import Namespace
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Protocol

from pytorch_lightning.loggers import Logger
from pytorch_lightning.utilities import rank_zero_only

from datamodules.errors import InputError
from datamodules.files import drop_torn_line
from train.config import TrackConfig


class Tracker(Protocol):
    """Takes the numbers of one run."""

    def log(self, metrics: Mapping[str, float], step: int, epoch: float | None = None) -> None:
        """Take metrics of a training step."""

    def log_audit(self, metrics: Mapping[str, float], step: int) -> None:
        """Take audit numbers (`audit/...`) of the checkpoint at a step."""

    def log_table(self, name: str, columns: Sequence[str], rows: Sequence[Sequence[Any]]) -> None:
        """Take a table."""

    def log_artifact(
        self, name: str, kind: str, files: Sequence[Path], metadata: Mapping[str, Any], aliases: Sequence[str]
    ) -> None:
        """Take files under an artifact name."""

    def finish(self, exit_code: int, state: str = "") -> None:
        """End the run; exit code 0 is success, and a state, such as `pruned`, tells more."""


class LocalRecord:
    """Appends metrics to `metrics.jsonl`; undefined values become null.

    Tables and artifacts are files in the run directory already, so nothing is written for them.

    Args:
        path: The file; created when missing, only appended to.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        if path.is_file():
            drop_torn_line(path)

    def log(self, metrics: Mapping[str, float], step: int, epoch: float | None = None) -> None:
        """Append one line."""
        values = {name: value if math.isfinite(value) else None for name, value in metrics.items()}
        with self._path.open("a", encoding="utf-8") as file:
            file.write(json.dumps({"step": step, "epoch": epoch, **values}) + "\n")

    def log_audit(self, metrics: Mapping[str, float], step: int) -> None:
        """Nothing to do: the audit table is on disk."""

    def log_table(self, name: str, columns: Sequence[str], rows: Sequence[Sequence[Any]]) -> None:
        """Nothing to do: the numbers are in metrics.jsonl."""

    def log_artifact(
        self, name: str, kind: str, files: Sequence[Path], metadata: Mapping[str, Any], aliases: Sequence[str]
    ) -> None:
        """Nothing to do: the files are in the run directory."""

    def finish(self, exit_code: int, state: str = "") -> None:
        """Nothing to do: each line was written when it came."""


class WandbMirror:
    """Mirrors a run to W&B, offline unless the user is logged in or asks for online.

    Args:
        settings: The `track` section.
        run_id: Becomes the W&B run id and name; a resumed run continues under it.
        directory: The run directory; W&B's own files go into its `wandb/`.
        config: The resolved config, equal to config.yaml.
        experiment: The default group.
        job_type: `fit` or `audit`.
        mode: `offline` or `online`.
    """

    def __init__(
        self,
        settings: TrackConfig,
        run_id: str,
        directory: Path,
        config: Mapping[str, Any],
        experiment: str,
        job_type: str,
        mode: Any,
    ) -> None:
        import wandb

        self._wandb = wandb
        self._run = wandb.init(
            project=settings.project,
            entity=settings.entity,
            group=settings.group or experiment,
            job_type=job_type,
            tags=settings.tags or None,
            id=run_id,
            name=run_id,
            dir=str(directory),
            config=dict(config),
            mode=mode,
            resume="allow" if mode == "online" else None,
            settings=wandb.Settings(silent=True, console="off", disable_git=True, x_disable_stats=True),
        )
        for prefix in ("train", "val", "test"):
            self._run.define_metric(f"{prefix}/*", step_metric="step")
        self._run.define_metric("audit/*", step_metric="audit/step")

    def log(self, metrics: Mapping[str, float], step: int, epoch: float | None = None) -> None:
        """Send metrics on the training axis `step`."""
        axis = {"step": step} if epoch is None else {"step": step, "epoch": epoch}
        self._run.log({**metrics, **axis})

    def log_audit(self, metrics: Mapping[str, float], step: int) -> None:
        """Send audit numbers on their own axis, so that an old checkpoint can be audited late."""
        self._run.log({**metrics, "audit/step": step})

    def log_table(self, name: str, columns: Sequence[str], rows: Sequence[Sequence[Any]]) -> None:
        """Send a table."""
        self._run.log({name: self._wandb.Table(columns=list(columns), data=[list(row) for row in rows])})

    def log_artifact(
        self, name: str, kind: str, files: Sequence[Path], metadata: Mapping[str, Any], aliases: Sequence[str]
    ) -> None:
        """Send files as an artifact; they are referenced where they lie, not copied into a staging folder."""
        artifact = self._wandb.Artifact(name, type=kind, metadata=dict(metadata))
        for file in files:
            artifact.add_file(str(file), policy="immutable")
        self._run.log_artifact(artifact, aliases=list(aliases))

    def finish(self, exit_code: int, state: str = "") -> None:
        """Close the W&B run; a state becomes a tag, which runs are filtered by."""
        if state:
            self._run.tags = (*(self._run.tags or ()), state)
        self._run.finish(exit_code=exit_code)


def wandb_mode(requested: str) -> str:
    """Resolve `auto`: what WANDB_MODE says, else online when the user is logged in, else offline.

    Raises:
        InputError: `online` without a login.
    """
    mode = os.environ.get("WANDB_MODE", "auto") if requested == "auto" else requested
    if mode not in ("auto", "online"):
        return mode
    import wandb

    if wandb.login(prompt=False, verify=False):
        return "online"
    if mode == "online":
        raise InputError(
            "no W&B login on this machine", "one, to track online", "wandb login, or --track.wandb offline"
        )
    return "offline"


class Trackers:
    """The local record with its mirrors.

    A mirror that fails is told and passed over: the local files are the record, and hours of training must not be lost
    to a tracker.

    Args:
        record: Where everything must arrive.
        mirrors: Where it should.
    """

    def __init__(self, record: Tracker, mirrors: Sequence[Tracker]) -> None:
        self._record = record
        self._mirrors = tuple(mirrors)

    def _pass_on(self, method: str, *arguments: Any) -> None:
        getattr(self._record, method)(*arguments)
        for mirror in self._mirrors:
            try:
                getattr(mirror, method)(*arguments)
            except Exception as error:
                name = type(mirror).__name__
                sys.stderr.write(f"imprint: {name}.{method} failed ({error}); the local files are complete\n")

    def log(self, metrics: Mapping[str, float], step: int, epoch: float | None = None) -> None:
        """See `Tracker`."""
        self._pass_on("log", metrics, step, epoch)

    def log_audit(self, metrics: Mapping[str, float], step: int) -> None:
        """See `Tracker`."""
        self._pass_on("log_audit", metrics, step)

    def log_table(self, name: str, columns: Sequence[str], rows: Sequence[Sequence[Any]]) -> None:
        """See `Tracker`."""
        self._pass_on("log_table", name, columns, rows)

    def log_artifact(
        self, name: str, kind: str, files: Sequence[Path], metadata: Mapping[str, Any], aliases: Sequence[str]
    ) -> None:
        """See `Tracker`."""
        self._pass_on("log_artifact", name, kind, files, metadata, aliases)

    def finish(self, exit_code: int, state: str = "") -> None:
        """See `Tracker`."""
        self._pass_on("finish", exit_code, state)


def open_trackers(
    settings: TrackConfig, run_id: str, directory: Path, config: Mapping[str, Any], experiment: str, job_type: str
) -> Trackers:
    """Open the local record and, unless disabled, the W&B mirror of a run.

    Raises:
        InputError: Online tracking without a login.
    """
    mode = wandb_mode(settings.wandb)
    record = LocalRecord(directory / "metrics.jsonl")
    if mode == "disabled":
        return Trackers(record, [])
    return Trackers(record, [WandbMirror(settings, run_id, directory, config, experiment, job_type, mode)])


class LightningTracker(Logger):
    """Lets Lightning log into a tracker.

    Args:
        tracker: Takes the metrics.
        run_id: Name of the run.
    """

    def __init__(self, tracker: Tracker, run_id: str) -> None:
        super().__init__()
        self._tracker = tracker
        self._run_id = run_id

    @property
    def name(self) -> str:
        """Name of the framework."""
        return "imprint"

    @property
    def version(self) -> str:
        """The run id."""
        return self._run_id

    @rank_zero_only
    def log_metrics(self, metrics: dict[str, float], step: int | None = None) -> None:
        """Pass metrics on; Lightning mixes the epoch in among them."""
        values = dict(metrics)
        epoch = values.pop("epoch", None)
        if values:
            self._tracker.log(values, step or 0, epoch)

    @rank_zero_only
    def log_hyperparams(self, params: dict[str, Any] | Namespace, *args: Any, **kwargs: Any) -> None:
        """Nothing to do: the whole config went to the tracker when it was opened."""
