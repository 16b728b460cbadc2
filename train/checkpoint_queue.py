"""What happens to a checkpoint after it was written? It is calibrated and audited, exactly once per weights and key."""

import shutil
import sys
import traceback
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytorch_lightning as pl
import torch

from datamodules.annotation_datamodule import TokenisedSplit
from datamodules.errors import InputError
from datamodules.storage import writing
from models.calibration import Calibration
from models.classifier import ValueClassifier
from models.digest import State, weights_digest
from models.ensemble import Scorer
from train.audit_metrics import audit_scalars
from train.audit_setup import AuditSetup
from train.audit_tables import further_audits, read_finished_audit, write_newest_audits
from train.auditing import CheckpointRecord, audit_checkpoint, calibrate, score_split
from train.checkpoints import load_weights, name_of
from train.held_out import absence_line, held_out_by_taxonomy, joint_digest
from train.ledger import Ledger, SeenCheckpoint
from train.noise_floor import add_noise
from train.predictions import further_file, write_predictions
from train.progress import Progress
from train.run_directory import RunDirectory
from train.stored_audits import open_audit
from train.taxonomies import scored_parts
from train.thresholds import read_thresholds, write_thresholds
from train.tracking import Tracker

# An audit that takes its process down (out of memory, a bug in a driver) is begun this often without being asked.
MAX_DEATHS = 2


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
        digest: `weights_digest`, or what gives the same of the model in training in less time.

    Attributes:
        failures: Weights digests whose audit failed or could not be begun, in order.
        tables: Rows of the audits that were finished in this process, or found finished by it.
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
        digest: Callable[[State], str] = weights_digest,
    ) -> None:
        self.digest = digest
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
        self.n_unwritten_tables = 0
        self._is_without_noise = False
        self.tables: list[pa.Table] = []

    def add(self, record: CheckpointRecord, path: Path) -> None:
        """Take note of a written file; weights that wait already, or whose audit failed just now, are not queued."""
        name = name_of(self._run, path)
        self._note(lambda: self._ledger.record_seen(record.weights, record.step or 0, record.epoch, name))
        if record.weights not in self.failures and all(w.weights != record.weights for w in self._waiting):
            self._waiting.append(record)

    def drain(self, module: pl.LightningModule) -> None:
        """Process every waiting checkpoint, in order; with the weights in memory where they are the file's.

        Whatever fails is told, and training goes on: the weights are worth more than their audit, and
        `imprint audit RUN_DIR --pending` completes it.
        """
        while self._waiting:
            record = self._waiting.pop(0)
            try:
                self.process(record, self._model_with(record.weights, module))
            except Exception as error:
                self._fail(record.weights, error)

    def _model_with(self, weights: str, module: pl.LightningModule) -> Scorer:
        """Return a classifier with these weights: averaging callbacks write others than those in memory."""
        if isinstance(module, ValueClassifier) and self.digest(module.state_dict()) == weights:
            return module
        self._progress.say(f"  checkpoint {weights[:8]} holds other weights than those in training: read from its file")
        seen = next(seen for seen in self._ledger.checkpoints if seen.weights == weights)
        model = load_weights(self._run, seen, module.device)
        if model is None:
            found = f"no file with the weights {weights[:8]}: it was deleted before it was audited"
            raise InputError(found, "the file, until the audit is done", "--trainer.save_top_k -1")
        return model

    def catch_up(
        self, pending_only: bool, device: torch.device, loaded: tuple[str, Scorer] | None = None
    ) -> tuple[list[str], list[str]]:
        """Calibrate and audit the checkpoints of earlier processes that need it.

        Args:
            pending_only: Pass over checkpoints with any finished audit, and over audits in which two processes died;
                else also audit a changed set-up, and try those again.
            device: Where to score.
            loaded: Digest and classifier of a checkpoint that was read already.

        Returns:
            Weights digests that were audited now, and those that wait but have no file any more.
        """
        audited, gone = [], []
        for seen in unfinished(self._ledger, pending_only):
            try:
                at_hand = loaded is not None and loaded[0] == seen.weights
                model = loaded[1] if loaded is not None and at_hand else load_weights(self._run, seen, device)
                if model is None:
                    if not self._ledger.has_done(seen.weights):
                        gone.append(seen.weights)
                elif self.process(CheckpointRecord(seen.weights, seen.step, seen.epoch), model, force=not pending_only):
                    audited.append(seen.weights)
            except InputError as error:
                # A damaged file of one checkpoint does not keep the others from their audits.
                self._fail(seen.weights, error)
        return audited, gone

    def process(self, record: CheckpointRecord, model: Scorer, force: bool = False) -> bool:
        """Calibrate and audit one checkpoint unless that is done.

        Args:
            record: Which checkpoint it is.
            model: The classifier with its weights.
            force: Try an audit again in which processes died, however often they did.

        Returns:
            Whether an audit was run and finished.

        Raises:
            InputError: Thresholds that cannot be read or written.
        """
        weights = record.weights
        calibration = self.calibration(weights, model)
        if self.setup is None:
            return False
        predictions = self._run.predictions_file(weights, "val")
        held_out = held_out_by_taxonomy(predictions, calibration, model)
        key = self.setup.key(calibration, joint_digest(held_out))
        if self._ledger.is_done(weights, key):
            # Done before, perhaps under thresholds that were changed and have been changed back since.
            self._note(lambda: self._ledger.make_newest(weights, key))
            self._refresh_table()
            return False
        output = self._run.audit_dir(weights, key)
        if (finished := read_finished_audit(output, weights, key)) is not None:
            # Its process was stopped, or the disk was full, before the ledger could say so.
            self._finish(record, key, finished)
            return False
        if self._is_given_up(weights, key, force):
            self.failures.append(weights)
            return False
        if not self._note(lambda: self._ledger.begin_audit(weights, key)):
            self._progress.say(f"  the audit of checkpoint {weights[:8]} is left for later: it could not be recorded")
            self.failures.append(weights)
            return False
        self._progress.say(f"  auditing checkpoint {weights[:8]} (step {record.step})")
        if held_out[""] is None:
            self._progress.say(absence_line(predictions))
        try:
            with writing(output, f"imprint audit {self._run.path} --pending"):
                # What is there under this name is not whole.
                shutil.rmtree(output, ignore_errors=True)
                table = audit_checkpoint(
                    model, calibration, self.setup, record, self._run.run_id, output, self._progress, held_out
                )
        except BaseException as error:
            reason = f"{type(error).__name__}: {error}"
            self._note(lambda: self._ledger.end_audit(weights, key, "failed", error=reason))
            if not isinstance(error, Exception):
                raise
            self._fail(weights, error)
            return False
        self._finish(record, key, table)
        self._measure_noise(record, key, model, calibration, self.setup)
        return True

    def _measure_noise(
        self, record: CheckpointRecord, key: str, model: Scorer, calibration: Calibration, setup: AuditSetup
    ) -> None:
        """Measure the numerical noise that is not known yet; a failure is told, and not tried again by this process."""
        if not setup.noise_floor or self._is_without_noise:
            return
        try:
            audit = open_audit(self._run, self._run.audit_dir(record.weights, key))
            add_noise(self._run, model, calibration, setup, audit, self._progress)
        except Exception as error:
            self._is_without_noise = True
            if not isinstance(error, InputError):
                traceback.print_exception(error, file=sys.stderr)
            self._progress.say(f"  numerical noise was not measured, drift is judged without it: {error}")

    def _finish(self, record: CheckpointRecord, key: str, table: pa.Table) -> None:
        """Record a finished audit, refresh the run's table and send the numbers."""
        path = self._run.audit_dir(record.weights, key).relative_to(self._run.path).as_posix()
        self._note(lambda: self._ledger.end_audit(record.weights, key, "done", path=path))
        self._refresh_table()
        self.tables.append(table)
        self._tracker.log_audit(audit_scalars(table), record.step or 0)
        for name, own in further_audits(self._run.path / path).items():
            scalars = {f"audit/{name}{metric.removeprefix('audit')}": v for metric, v in audit_scalars(own).items()}
            self._tracker.log_audit(scalars, record.step or 0)

    def _refresh_table(self) -> None:
        """Write the run's table again; the last attempt tells whether it is up to date."""
        self.n_unwritten_tables = 0 if self._note(lambda: write_newest_audits(self._run, self._ledger)) else 1

    def _is_given_up(self, weights: str, key: str, force: bool) -> bool:
        """Tell whether processes died in this audit so often that only a user should start it again."""
        deaths = self._ledger.deaths(weights, key)
        if deaths and (force or deaths < MAX_DEATHS):
            self._progress.say(f"  a process died in the audit of checkpoint {weights[:8]}; it is run again")
        if force or deaths < MAX_DEATHS:
            return False
        if not self._ledger.is_failed(weights, key):
            reason = f"{deaths} processes died in it"
            self._note(lambda: self._ledger.end_audit(weights, key, "failed", error=reason, deaths=deaths))
        self._progress.say(
            f"  the audit of checkpoint {weights[:8]} failed: {deaths} processes died in the middle of it; "
            f"to try it again: imprint audit {self._run.path}"
        )
        return True

    def _note(self, write: Callable[[], object]) -> bool:
        """Write a record; one that cannot be written is told, and work goes on. Returns whether it was written."""
        try:
            write()
        except InputError as error:
            self._progress.say(f"  {error}")
            return False
        return True

    def _fail(self, weights: str, error: Exception) -> None:
        """Tell what went wrong with a checkpoint; only what nobody foresaw gets a traceback."""
        self.failures.append(weights)
        if not isinstance(error, InputError):
            traceback.print_exception(error, file=sys.stderr)
        reason = f": {error}" if isinstance(error, InputError) else ""
        self._progress.say(f"  the audit of checkpoint {weights[:8]} failed{reason}")

    def calibration(self, weights: str, model: Scorer, logits: np.ndarray | None = None) -> Calibration:
        """Read the thresholds of a checkpoint (a user may have edited them), or fit and write them.

        Args:
            weights: Digest of the checkpoint.
            model: The classifier with its weights.
            logits: What it says of the validation texts, where that is known already.
        """
        path = self._run.thresholds_file(weights)
        if path.is_file():
            return read_thresholds(path, weights, model)
        val = self._val()
        if logits is None:
            logits = score_split(model, val, self.precision, self._token_budget)
        parts = list(scored_parts(model, val, logits))
        main, *further = (calibrate(part.model, part.logits, part.split) for part in parts)
        calibration = replace(main, further={part.name: own for part, own in zip(parts[1:], further, strict=True)})
        then = f"imprint audit {self._run.path} --pending, or {self._run.how_to_go_on}"
        predictions = self._run.predictions_file(weights, "val")
        # The thresholds come last: where they are, everything is.
        with writing(predictions, then):
            for part in parts:
                path_of_part = further_file(predictions, part.name) if part.name else predictions
                write_predictions(path_of_part, part.split, part.logits, part.calibration(calibration))
        with writing(path, then):
            write_thresholds(path, weights, calibration)
        # As the next process will read it: the audit key must not depend on who fitted it.
        return read_thresholds(path, weights, model)


def unfinished(ledger: Ledger, pending_only: bool) -> list[SeenCheckpoint]:
    """Checkpoints without any finished audit; all of them unless `pending_only`."""
    return [seen for seen in ledger.checkpoints if not (pending_only and ledger.has_done(seen.weights))]
