"""How do checkpoints become one finished run? As an ensemble that is calibrated, tested and audited like any other."""

import shutil
from collections.abc import Sequence
from dataclasses import replace

import torch

from datamodules.files import whole_file
from datamodules.storage import writing
from models.digest import weights_digest
from models.precision import resolve_precision
from models.tasks import joint_metrics
from train.auditing import CheckpointRecord, score_split
from train.checkpoint_queue import CheckpointQueue
from train.config import config_to_dict
from train.cost import read_cost, record_members
from train.data_audits import audit_data_of_run
from train.ensemble_config import EnsembleRunConfig
from train.ensemble_members import Member
from train.finish import FitResult, finish
from train.fit import write_run_files
from train.ledger import Ledger
from train.patient_tracker import PatientTracker
from train.prepare_ensemble import PreparedEnsemble, prepare_ensemble
from train.progress import Progress
from train.run_directory import RunDirectory
from train.run_lock import run_lock
from train.tracking import open_trackers, wandb_mode

FILE = "ensemble.ckpt"
# It has no training step of its own.
STEP = 0


def make_ensemble(members: Sequence[Member], config: EnsembleRunConfig, progress: Progress) -> FitResult:
    """Average members; write the result as a finished run: thresholds, validation, test, audits.

    Args:
        members: The members.
        config: Settings of the ensemble.
        progress: Shows the work.

    Raises:
        InputError: As `prepare_ensemble`, or a disk that cannot be written to. Whatever is raised, no run directory is
            left; an audit that fails is told in the result, and the run stays.
    """
    prepared = prepare_ensemble(members, config, progress)
    # Asked before anything is written, and not again.
    track = replace(config.track, wandb=wandb_mode(config.track.wandb))  # type: ignore[arg-type]
    run = RunDirectory.create(config.run.root, config.run.experiment, config.run.seed)
    try:
        with run_lock(run, progress.say), writing(run.path, "start the command again"):
            write_run_files(run, config, prepared, None)
            data_audits = audit_data_of_run(run, config.audit, prepared.preferences, progress)
            record_members(run, [read_cost(own) for own in {m.run.path: m.run for m in members}.values()])
            plain = config_to_dict(config)
            opened = open_trackers(track, run.run_id, run.path, plain, config.run.experiment, job_type="ensemble")
            tracker = PatientTracker(opened, run.metrics_file, progress.say)
            exit_code = 1
            try:
                result = _score_and_audit(config, run, prepared, tracker, progress)
                exit_code = 0
            finally:
                tracker.finish(exit_code)
    except BaseException:
        shutil.rmtree(run.path, ignore_errors=True)
        raise
    return replace(result, data_audits=data_audits)


def _score_and_audit(
    config: EnsembleRunConfig,
    run: RunDirectory,
    prepared: PreparedEnsemble,
    tracker: PatientTracker,
    progress: Progress,
) -> FitResult:
    model = prepared.model
    weights, path = weights_digest(model.state_dict()), run.checkpoints / FILE
    counts = model.parameter_counts()
    progress.say(f"ensemble of {len(model.classifiers)} checkpoints, {counts['total']:,} parameters in all")
    with whole_file(path) as part:
        torch.save(model.checkpoint(), part)
    ledger = Ledger(run.ledger_file)
    ledger.record_seen(weights, STEP, None, path.name)
    precision = resolve_precision(config.audit.precision, prepared.device)
    val, budget = prepared.datamodule.val, config.audit.token_budget
    queue = CheckpointQueue(run, ledger, lambda: val, prepared.setup, precision, budget, tracker, progress)
    logits = score_split(model, val, precision, budget)
    queue.calibration(weights, model, logits)
    metrics = joint_metrics(model.tasks, logits, val.targets, val.groups)
    tracker.log({f"val/{name}": value for name, value in metrics.items()}, STEP)
    queue.process(CheckpointRecord(weights, STEP, None), model)
    return finish(config, run, prepared, ledger, queue, tracker)
