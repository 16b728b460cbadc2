"""What does one training run do, from settings to a finished run directory?"""

import shutil
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from datamodules.errors import InputError
from datamodules.files import write_json
from datamodules.storage import writing
from train.audit_tables import forget_lost_audits
from train.auditing import CheckpointRecord
from train.checkpoint_queue import CheckpointQueue
from train.checkpoints import record_unknown_files
from train.config import Config, config_to_dict
from train.corpus_files import write_corpus_files
from train.cost import recorded_training
from train.data_audits import audit_data_of_run
from train.finish import FitResult, finish
from train.fork import begin_fork
from train.frozen import run_digest, scoring_precision, with_cached_features
from train.ledger import Ledger
from train.patient_tracker import PatientTracker
from train.prepare import Prepared, prepare
from train.prepare_ensemble import PreparedEnsemble
from train.progress import Progress
from train.resume import check_same_run
from train.run_directory import RunDirectory
from train.run_lock import run_lock
from train.shared import Shared
from train.tracking import open_trackers, wandb_mode
from train.trainer import build_trainer, quiet_lightning
from train.training_texts import write_training_texts

if TYPE_CHECKING:
    from train.pruning import Pruning  # Optuna is imported by a search alone


def fit(
    config: Config,
    resume: Path | None = None,
    fork: bool = False,
    shared: Shared | None = None,
    progress: Progress | None = None,
    pruning: "Pruning | None" = None,
) -> FitResult:
    """Train a classifier, calibrate and audit every checkpoint, evaluate the best one on test.

    Args:
        config: The settings.
        resume: A run directory to go on with; its last checkpoint decides architecture and labels.
        fork: Go on in a new run directory and leave that one as it is.
        shared: What other runs of this process have read and built already; see `prepare`.
        progress: Shows the work; as the settings say when left out.
        pruning: May stop the run early, when it is a trial of a search.

    Raises:
        InputError: A user's mistake, and nothing was written; or a disk that could not be written to, and what was
            written is whole and can be gone on with.
        optuna.TrialPruned: It was stopped early: its checkpoints are calibrated, and test was not read.
    """
    progress = Progress(config.run.progress) if progress is None else progress
    old = None if resume is None else RunDirectory.open(resume)
    with ExitStack() as stack:
        if old is not None and not fork:
            stack.enter_context(run_lock(old, progress.say))
            old.require_writable()
        prepared = prepare(config, progress, shared)
        # Asked before anything is written, and not again.
        track = replace(config.track, wandb=wandb_mode(config.track.wandb))  # type: ignore[arg-type]
        if old is not None:
            averages = config.trainer.average_weights == "ema"
            splits = prepared.annotations.splits_to_dict()
            check_same_run(old, prepared.model, splits, config.trainer.max_epochs, fork, averages)
        prepared = with_cached_features(prepared, config, progress, old.last_checkpoint if old is not None else None)
        if old is not None and not fork:
            run = old
            with writing(run.path, run.how_to_go_on):
                write_run_files(run, config, prepared, run.parent)
        else:
            run = _new_run(config, prepared, old)
            stack.enter_context(run_lock(run, progress.say))
        data_audits = audit_data_of_run(run, config.audit, prepared.preferences, progress)
        plain = config_to_dict(config)
        job_type = "fit" if pruning is None else "trial"
        opened = open_trackers(track, run.run_id, run.path, plain, config.run.experiment, job_type)
        tracker = PatientTracker(opened, run.metrics_file, progress.say)
        exit_code = 1
        try:
            result = _train_and_evaluate(config, run, prepared, tracker, progress, old is not None, pruning)
            exit_code = 0
            return replace(result, data_audits=data_audits)
        finally:
            is_pruned = pruning is not None and pruning.pruned_at is not None
            tracker.finish(0 if is_pruned else exit_code, "pruned" if is_pruned else "")


def _new_run(config: Config, prepared: Prepared, parent: RunDirectory | None) -> RunDirectory:
    """Make a run directory with everything in it that training starts from, or none."""
    run = RunDirectory.create(config.run.root, config.run.experiment, config.run.seed)
    try:
        with writing(run.path, "start the run again"):
            origin = None if parent is None else begin_fork(parent, run)
            write_run_files(run, config, prepared, origin)
    except BaseException:
        shutil.rmtree(run.path, ignore_errors=True)
        raise
    return run


def write_run_files(
    run: RunDirectory, config: Config, prepared: Prepared | PreparedEnsemble, parent: dict[str, Any] | None
) -> None:
    """Write environment, splits, training texts, corpora and, at last, the config, without which it is no run."""
    annotated = prepared.annotations.data
    audited = {own.name: {"digest": own.digest, **own.report.to_dict()} for own in prepared.preferences}
    data: dict[str, Any] = {"annotations": annotated.report.to_dict(), "audited": audited}
    if annotated.test_report is not None:
        data["test_annotations"] = annotated.test_report.to_dict()
    if prepared.annotations.further:
        data["further_annotations"] = {
            own.taxonomy.name: [report.to_dict() for report in (own.data.report, own.data.test_report) if report]
            for own in prepared.annotations.further
        }
    run.write_environment(prepared.device, data, parent, prepared.model.parameter_counts())
    write_json(run.path / "splits.json", prepared.annotations.splits_to_dict())
    write_training_texts(run.path, prepared.training_texts)
    if prepared.setup is not None:
        write_corpus_files(run.corpora, prepared.setup)
    run.write_config(config_to_dict(config))


def _train_and_evaluate(
    config: Config,
    run: RunDirectory,
    prepared: Prepared,
    tracker: PatientTracker,
    progress: Progress,
    resumed: bool,
    pruning: "Pruning | None",
) -> FitResult:
    model, datamodule = prepared.model, prepared.datamodule
    model.optimisation = prepared.optimisation
    counts = model.parameter_counts()
    how = f"encoder_training {model.encoder_training}"
    progress.say(f"training {counts['trainable']:,} of {counts['total']:,} parameters ({how})")
    ledger = Ledger(run.ledger_file)
    precision = scoring_precision(config.audit.precision, model, prepared.device)
    budget, digest = config.audit.token_budget, run_digest(model)
    queue = CheckpointQueue(
        run, ledger, lambda: datamodule.val, prepared.setup, precision, budget, tracker, progress, digest
    )
    steps_per_epoch = prepared.optimisation.total_steps / config.trainer.max_epochs

    def on_written(weights: str, step: int, path: Path) -> None:
        queue.add(CheckpointRecord(weights, step, step / steps_per_epoch), path)

    with quiet_lightning():
        trainer = build_trainer(config, prepared, run, queue, on_written, tracker, progress, pruning)
        if resumed:
            record_unknown_files(run, ledger, steps_per_epoch, progress.say)
            forget_lost_audits(run, ledger, progress.say)
            _, gone = queue.catch_up(pending_only=True, device=prepared.device)
            for weights in gone:
                progress.say(f"  checkpoint {weights[:8]} was deleted before it was audited")
        ckpt_path = str(run.last_checkpoint) if resumed else None
        try:
            with recorded_training(run):
                trainer.fit(model, datamodule=datamodule, ckpt_path=ckpt_path, weights_only=True)
        except SystemExit as error:
            # Lightning turns an interrupt into an exit of its own.
            progress.say(f"interrupted; go on with: {run.how_to_go_on}")
            raise KeyboardInterrupt from error
        except Exception as error:
            if not isinstance(error, InputError):
                progress.say(f"stopped by an error; when it is mended: {run.how_to_go_on}")
            raise
        # What was saved after the last hook.
        queue.drain(model)
    if pruning is not None:
        pruning.raise_if_pruned()
    with writing(run.path, run.how_to_go_on):
        return finish(config, run, prepared, ledger, queue, tracker)
