"""Fixtures of the checkpoint tests: what was written and audited, and a trainer of one's own on the tiny world."""

import json
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from types import SimpleNamespace

import pytest
import pytorch_lightning as pl
import torch

import train.checkpoint_queue
from models.digest import weights_digest
from train.audit_config import AuditConfig
from train.auditing import CheckpointRecord
from train.callbacks.audit_on_checkpoint import AuditOnCheckpoint
from train.callbacks.recording_checkpoint_io import RecordingCheckpointIO
from train.checkpoint_queue import CheckpointQueue
from train.config import Config, DataConfig, ModelConfig, RunConfig, TrackConfig, TrainerConfig
from train.fit import write_run_files
from train.ledger import Ledger
from train.prepare import prepare
from train.progress import Progress
from train.run_directory import RunDirectory
from train.tracking import LightningTracker, LocalRecord
from train.trainer import quiet_lightning


@dataclass
class Counts:
    """What has happened since the test began, or since `reset`.

    Attributes:
        writes: Names of the checkpoint files, in order of writing.
        audits: Weights digests of the audits that were run to their end, in order.
    """

    writes: list[str] = field(default_factory=list)
    audits: list[str] = field(default_factory=list)

    def reset(self) -> None:
        self.writes.clear()
        self.audits.clear()


def traces(model: torch.nn.Module) -> tuple[list[int], list[bool]]:
    """What an audit must leave as it was: the random state and the mode of every module."""
    return torch.random.get_rng_state().tolist(), [module.training for module in model.modules()]


@pytest.fixture
def counts(monkeypatch) -> Counts:
    """Count writes and audits; an audit with other weights than its record says, or with traces, is an error."""
    counts = Counts()
    save, audit = RecordingCheckpointIO.save_checkpoint, train.checkpoint_queue.audit_checkpoint

    def counted_save(self, checkpoint, path, storage_options=None):
        save(self, checkpoint, path, storage_options)
        counts.writes.append(Path(path).name)

    def counted_audit(model, calibration, setup, record, *rest):
        assert weights_digest(model.state_dict()) == record.weights
        before = traces(model)
        table = audit(model, calibration, setup, record, *rest)
        assert traces(model) == before
        counts.audits.append(record.weights)
        return table

    monkeypatch.setattr(RecordingCheckpointIO, "save_checkpoint", counted_save)
    monkeypatch.setattr(train.checkpoint_queue, "audit_checkpoint", counted_audit)
    return counts


@pytest.fixture
def entries() -> Callable[..., list[dict]]:
    """Give the ledger entries of a run directory, or those of some states."""

    def read(run: Path, *states: str) -> list[dict]:
        lines = [json.loads(line) for line in (run / "ledger.jsonl").read_text().splitlines()]
        return [line for line in lines if not states or line["state"] in states]

    return read


@pytest.fixture
def audit_folders() -> Callable[[Path], list[Path]]:
    """Give the audit folders of a run directory."""

    def find(run: Path) -> list[Path]:
        return sorted((run / "audits").glob("*-*"))

    return find


@pytest.fixture
def own_trainer(tiny_encoder, tiny_root, tmp_path):
    """Make a run directory and train in it with callbacks of one's own, as somebody who writes a loop would.

    The function takes what makes the callbacks from the checkpoint folder and the `AuditOnCheckpoint`, and options of
    `pl.Trainer`; it gives the run directory.
    """

    def fit(make_callbacks, **options) -> Path:
        config = Config(
            data=DataConfig(name="value-imprint", root=tiny_root, max_length=48, val_fraction=0.2),
            model=ModelConfig(encoder=str(tiny_encoder), loss="wan"),
            trainer=TrainerConfig(max_epochs=3, batch_size=16, precision="float32"),
            audit=AuditConfig(datasets=["webgpt"], max_length=64, precision="float32"),
            track=TrackConfig(wandb="disabled"),
            run=RunConfig(root=tmp_path / "runs", cache_dir=tmp_path / "cache"),
        )
        progress = Progress(config.run.progress)
        prepared = prepare(config, progress)
        prepared.model.optimisation = prepared.optimisation
        run = RunDirectory.create(config.run.root, "own", 0)
        write_run_files(run, config, prepared, None)
        record = LocalRecord(run.metrics_file)
        ledger = Ledger(run.ledger_file)
        queue = CheckpointQueue(
            run, ledger, lambda: prepared.datamodule.val, prepared.setup, "float32", 2048, record, progress
        )

        def on_written(weights, step, path):
            queue.add(CheckpointRecord(weights, step, step / 6), path)

        options = {"max_epochs": 1, "num_sanity_val_steps": 0, **options}
        with quiet_lightning():
            trainer = pl.Trainer(
                accelerator="cpu",
                devices=1,
                logger=LightningTracker(record, run.run_id),
                log_every_n_steps=1,
                callbacks=make_callbacks(SimpleNamespace(path=run.checkpoints, audit=AuditOnCheckpoint(queue))),
                plugins=[RecordingCheckpointIO(on_written, lambda: run.how_to_go_on)],
                enable_progress_bar=False,
                enable_model_summary=False,
                use_distributed_sampler=False,
                default_root_dir=run.path,
                **options,
            )
            trainer.fit(prepared.model, datamodule=prepared.datamodule)
        return run.path

    return fit
