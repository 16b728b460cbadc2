"""What does one training run do, from settings to a finished run directory?"""

from pathlib import Path
from typing import Any

import pyarrow.parquet as pq

from datamodules.files import whole_file, write_json
from models.precision import resolve_precision
from train.auditing import CheckpointRecord
from train.checkpoint_queue import CheckpointQueue
from train.config import Config, config_to_dict
from train.finish import FitResult, finish
from train.ledger import Ledger
from train.prepare import Prepared, prepare
from train.progress import Progress
from train.resume import check_same_run
from train.run_directory import RunDirectory
from train.tracking import Trackers, open_trackers, wandb_mode
from train.trainer import build_trainer, quiet_lightning


def fit(config: Config, resume: Path | None = None) -> FitResult:
    """Train a classifier, calibrate and audit every checkpoint, evaluate the best one on test.

    Args:
        config: The settings.
        resume: A run directory to go on with; its last checkpoint decides architecture and labels.

    Raises:
        InputError: A user's mistake; nothing was written.
    """
    progress = Progress(config.run.progress)
    run = None if resume is None else RunDirectory.open(resume)
    prepared = prepare(config, progress)
    wandb_mode(config.track.wandb)
    if run is None:
        run = RunDirectory.create(config.run.root, config.run.experiment, config.run.seed)
    else:
        check_same_run(run, prepared.model, prepared.annotations.splits, config.trainer.max_epochs)
    write_run_files(run, config, prepared)
    plain = config_to_dict(config)
    tracker = open_trackers(config.track, run.run_id, run.path, plain, config.run.experiment, job_type="fit")
    exit_code = 1
    try:
        result = _train_and_evaluate(config, run, prepared, tracker, progress, resume is not None)
        exit_code = 0
        return result
    finally:
        tracker.finish(exit_code)


def write_run_files(run: RunDirectory, config: Config, prepared: Prepared) -> None:
    """Write config, environment, splits and corpus indexes."""
    corpora = prepared.setup.corpora if prepared.setup is not None else ()
    run.write_config(config_to_dict(config))
    annotated = prepared.annotations.data
    audited = {c.data.name: {"digest": c.data.digest, **c.data.report.to_dict()} for c in corpora}
    data: dict[str, Any] = {"annotations": annotated.report.to_dict(), "audited": audited}
    if annotated.test_report is not None:
        data["test_annotations"] = annotated.test_report.to_dict()
    run.write_environment(prepared.device, data)
    write_json(run.path / "splits.json", prepared.annotations.splits.to_dict())
    for corpus in corpora:
        with whole_file(run.corpus_file(corpus.data.name)) as path:
            pq.write_table(corpus.index(), path, compression="zstd")


def _train_and_evaluate(
    config: Config, run: RunDirectory, prepared: Prepared, tracker: Trackers, progress: Progress, resumed: bool
) -> FitResult:
    model, datamodule = prepared.model, prepared.datamodule
    model.optimisation = prepared.optimisation
    ledger = Ledger(run.ledger_file)
    precision = resolve_precision(config.audit.precision, prepared.device)
    queue = CheckpointQueue(
        run, ledger, lambda: datamodule.val, prepared.setup, precision, config.audit.token_budget, tracker, progress
    )
    steps_per_epoch = prepared.optimisation.total_steps / config.trainer.max_epochs

    def on_written(weights: str, step: int, path: Path) -> None:
        queue.add(CheckpointRecord(weights, step, step / steps_per_epoch), path)

    with quiet_lightning():
        trainer = build_trainer(config, prepared, run, queue, on_written, tracker, progress)
        if resumed:
            _, gone = queue.catch_up(pending_only=True, device=prepared.device)
            for weights in gone:
                progress.say(f"  checkpoint {weights[:8]} was deleted before it was audited")
        ckpt_path = str(run.last_checkpoint) if resumed else None
        try:
            trainer.fit(model, datamodule=datamodule, ckpt_path=ckpt_path, weights_only=True)
        except SystemExit as error:
            # Lightning turns an interrupt into an exit of its own.
            progress.say(f"interrupted; go on with: imprint fit --resume {run.path}")
            raise KeyboardInterrupt from error
    return finish(config, run, prepared, ledger, queue, tracker)
