"""What happens to a checkpoint after it was written? It is calibrated and audited, exactly once per weights and key."""

import shutil
import sys
import traceback
from collections.abc import Callable
from pathlib import Path

import pyarrow as pa
import pytorch_lightning as pl
import torch

from datamodules.annotation_datamodule import TokenisedSplit
from models.calibration import Calibration
from models.classifier import ValueClassifier
from models.digest import weights_digest
from train.audit_metrics import audit_scalars
from train.audit_tables import write_newest_audits
from train.auditing import AuditSetup, CheckpointRecord, audit_checkpoint, calibrate, score_split
from train.checkpoints import load_weights
from train.ledger import Ledger
from train.predictions import write_predictions
from train.progress import Progress
from train.run_directory import RunDirectory
from train.thresholds import read_thresholds, write_thresholds
from train.tracking import Tracker


class CheckpointQueue:
    """Checkpoints of one run that wait for calibration and audits.

    Args:
        run: The run directory.
        ledger: Its ledger.
        val: Gives the tokenised validation split; called only when thresholds must be fitted.
        setup: What to audit; None when audits are off.
        precision: Number format of scoring.
        token_budget: Padded tokens per scoring batch.
        tracker: Takes the audit numbers.
        progress: Shows the scoring.

    Attributes:
        failures: Weights digests whose audit failed, in order.
        tables: Rows of the audits that were finished in this process.
    """

    def __init__(
        self,
        run: RunDirectory,
        ledger: Ledger,
        val: Callable[[], TokenisedSplit],
        setup: AuditSetup | None,
        precision: str,
        token_budget: int,
        tracker: Tracker,
        progress: Progress,
    ) -> None:
        self._run = run
        self._ledger = ledger
        self._val = val
        self.setup = setup
        self.precision = precision
        self._token_budget = token_budget
        self._tracker = tracker
        self._progress = progress
        self._waiting: list[CheckpointRecord] = []
        self.failures: list[str] = []
        self.tables: list[pa.Table] = []

    def add(self, record: CheckpointRecord, path: Path) -> None:
        """Take note of a written file; weights that wait already are not queued twice."""
        self._ledger.record_seen(record.weights, record.step or 0, record.epoch or 0.0, path.name)
        if all(waiting.weights != record.weights for waiting in self._waiting):
            self._waiting.append(record)

    def drain(self, module: pl.LightningModule) -> None:
        """Process every waiting checkpoint, in order; with the weights in memory where they are the file's."""
        while self._waiting:
            record = self._waiting.pop(0)
            self.process(record, self._model_with(record.weights, module))

    def _model_with(self, weights: str, module: pl.LightningModule) -> ValueClassifier:
        """Return a classifier with these weights: averaging callbacks write others than those in memory."""
        if isinstance(module, ValueClassifier) and weights_digest(module.state_dict()) == weights:
            return module
        seen = next(seen for seen in self._ledger.checkpoints if seen.weights == weights)
        model = load_weights(self._run, seen, module.device)
        if model is None:
            raise RuntimeError(f"the checkpoint {weights[:8]} was deleted before it was audited")
        return model

    def catch_up(self, pending_only: bool, device: torch.device) -> tuple[list[str], list[str]]:
        """Calibrate and audit the checkpoints of earlier processes that need it.

        Args:
            pending_only: Pass over checkpoints with any finished audit; else also audit a changed set-up.
            device: Where to score.

        Returns:
            Weights digests that were audited now, and those that wait but have no file any more.
        """
        audited, gone = [], []
        for seen in self._ledger.checkpoints:
            if pending_only and self._ledger.has_done(seen.weights):
                continue
            model = load_weights(self._run, seen, device)
            if model is None:
                if not self._ledger.has_done(seen.weights):
                    gone.append(seen.weights)
            elif self.process(CheckpointRecord(seen.weights, seen.step, seen.epoch), model):
                audited.append(seen.weights)
        return audited, gone

    def process(self, record: CheckpointRecord, model: ValueClassifier) -> bool:
        """Calibrate and audit one checkpoint unless that is done.

        A failing audit is recorded and told, and training goes on: the weights are worth more than the audit, and
        `imprint audit RUN_DIR --pending` completes it.

        Returns:
            Whether an audit was run and finished.
        """
        calibration = self.calibration(record.weights, model)
        if self.setup is None:
            return False
        key = self.setup.key(calibration)
        if self._ledger.is_done(record.weights, key):
            # Done before, perhaps under thresholds that were changed and have been changed back since.
            self._ledger.make_newest(record.weights, key)
            write_newest_audits(self._run, self._ledger)
            return False
        self._ledger.record_audit(record.weights, key, "running")
        self._progress.say(f"  auditing checkpoint {record.weights[:8]} (step {record.step})")
        output = self._run.audit_dir(record.weights, key)
        # What is there under this name was written by a process that was killed before it could record it.
        shutil.rmtree(output, ignore_errors=True)
        try:
            table = audit_checkpoint(model, calibration, self.setup, record, self._run.run_id, output, self._progress)
        except Exception as error:
            self._ledger.record_audit(record.weights, key, "failed", error=f"{type(error).__name__}: {error}")
            self.failures.append(record.weights)
            traceback.print_exc(file=sys.stderr)
            self._progress.say(f"  the audit of checkpoint {record.weights[:8]} failed; training goes on")
            return False
        self._ledger.record_audit(record.weights, key, "done", path=output.relative_to(self._run.path).as_posix())
        write_newest_audits(self._run, self._ledger)
        self.tables.append(table)
        self._tracker.log_audit(audit_scalars(table), record.step or 0)
        return True

    def calibration(self, weights: str, model: ValueClassifier) -> Calibration:
        """Read the thresholds of a checkpoint (a user may have edited them), or fit and write them."""
        path = self._run.thresholds_file(weights)
        if path.is_file():
            return read_thresholds(path, weights, model.labels)
        val = self._val()
        logits = score_split(model, val, self.precision, self._token_budget)
        calibration = calibrate(model, logits, val.targets)
        write_thresholds(path, weights, calibration)
        write_predictions(self._run.predictions_file(weights, "val"), val, logits, calibration)
        return calibration
