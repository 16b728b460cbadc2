"""What is done after the last epoch? The best checkpoint is tested once, and tables and artifacts are sent."""

import time
from dataclasses import astuple, dataclass
from pathlib import Path
from typing import Any

import pyarrow as pa

from audits.signed_evaluation import COLUMNS as SIGNED_COLUMNS
from audits.signed_evaluation import headline, signed_rows
from models.calibration import Calibration
from models.evaluation import evaluate
from models.reliability import reliability_table
from train.audit_tables import newest_audits
from train.auditing import CheckpointRecord, score_split
from train.checkpoint_queue import CheckpointQueue
from train.checkpoints import best_checkpoint, files_of, load_weights
from train.config import Config
from train.cost import record_scoring
from train.data_audits import DataAudit
from train.drift import Drift
from train.drift_at_end import drift_at_end
from train.frozen import uses_features
from train.held_out import held_out_by_taxonomy, joint_digest
from train.inputs import Annotations
from train.ledger import Ledger, SeenCheckpoint
from train.patient_tracker import PatientTracker
from train.predictions import BIN_COLUMNS, further_file, write_predictions, write_reliability
from train.prepare import Prepared
from train.prepare_ensemble import PreparedEnsemble
from train.progress import Progress
from train.run_directory import RunDirectory
from train.signed_test import signed_file, training_shares, write_signed_rows
from train.taxonomies import ScoredPart, scored_parts
from train.tracking import Tracker

PER_VALUE_METRICS = (
    ("f1", "precision", "recall", "ap", "auroc", "ece", "brier"),
    ("f1_top1", "auroc_vs_unlisted"),
)


@dataclass(frozen=True, slots=True)
class TaxonomyResult:
    """What the best checkpoint did on the test texts of one taxonomy.

    Attributes:
        name: Empty for the main taxonomy, else its name.
        metrics: Flat metrics, undefined ones NaN.
        calibration: Its temperatures and thresholds.
        annotations: Its texts.
    """

    name: str
    metrics: dict[str, float]
    calibration: Calibration
    annotations: Annotations


@dataclass(frozen=True, slots=True)
class FitResult:
    """What a finished run gives back.

    Attributes:
        run: The run directory.
        best: The chosen checkpoint.
        best_path: Its file.
        test_metrics: Flat metrics on test, undefined ones NaN.
        calibration: Temperatures and thresholds of the chosen checkpoint.
        audit_table: Rows of the newest audit of every checkpoint, or None when there are none.
        drifts: What moved between the audited checkpoints, per data set; none with fewer than two.
        failed_audits: Weights digests whose audit failed.
        n_unwritten: Entries of the ledger and rows of metrics that could not be written.
        annotations: The texts it was trained on.
        further: What came of the further taxonomies.
        data_audits: Audits that need no checkpoint, those that were there before too.
    """

    run: RunDirectory
    best: CheckpointRecord
    best_path: Path
    test_metrics: dict[str, float]
    calibration: Calibration
    audit_table: pa.Table | None
    drifts: tuple[Drift, ...]
    failed_audits: tuple[str, ...]
    n_unwritten: int
    annotations: Annotations
    further: tuple[TaxonomyResult, ...] = ()
    data_audits: tuple[DataAudit, ...] = ()


def finish(
    config: Config,
    run: RunDirectory,
    prepared: Prepared | PreparedEnsemble,
    ledger: Ledger,
    queue: CheckpointQueue,
    tracker: PatientTracker,
) -> FitResult:
    """Evaluate the best checkpoint on test and send tables and artifacts.

    Raises:
        InputError: The monitored metric has no defined value at any checkpoint.
    """
    seen = best_checkpoint(run, ledger, prepared.monitor)
    model = load_weights(run, seen, prepared.device)
    if model is None:
        raise RuntimeError(f"no file of {run.path} holds the weights {seen.weights[:8]} that were written to it")
    weights = seen.weights
    best = CheckpointRecord(weights, seen.step, seen.epoch)
    calibration = queue.calibration(weights, model)
    precision = queue.precision
    test = prepared.datamodule.test
    start = time.perf_counter()
    logits = score_split(model, test, precision, config.audit.token_budget)
    # Where features come from the cache, the encoder was not run.
    record_scoring(run, len(test.texts), None if uses_features(model) else time.perf_counter() - start)
    main, *further = (
        _test(run, best, part, part.calibration(calibration), own, tracker)
        for part, own in zip(scored_parts(model, test, logits), prepared.annotations.all, strict=True)
    )
    metrics = main.metrics
    _log_checkpoints(config, run, ledger, weights, metrics, prepared, tracker)
    if queue.setup is not None and weights not in queue.failures:
        held_out = held_out_by_taxonomy(run.predictions_file(weights, "val"), calibration, model)
        key = queue.setup.key(calibration, joint_digest(held_out))
        _log_audit(run, ledger, key, weights, tracker)
    audit_table = newest_audits(run, ledger)
    drifts = drift_at_end(run, tracker, Progress(config.run.progress).say)
    best_path = files_of(run, seen)[0]
    return FitResult(
        run=run,
        best=best,
        best_path=best_path,
        test_metrics=metrics,
        calibration=calibration,
        audit_table=audit_table,
        drifts=drifts,
        failed_audits=tuple(queue.failures),
        n_unwritten=ledger.n_unwritten + tracker.n_unwritten,
        annotations=prepared.annotations,
        further=tuple(further),
    )


def _test(
    run: RunDirectory,
    best: CheckpointRecord,
    part: ScoredPart,
    calibration: Calibration,
    annotations: Annotations,
    tracker: PatientTracker,
) -> TaxonomyResult:
    """Evaluate one taxonomy on its test texts, write predictions and reliability, and send the numbers."""
    test = part.split
    metrics = evaluate(part.logits, test.targets, calibration, test.groups)
    if calibration.signed:
        metrics |= _signed(run, best, part, calibration, annotations, tracker)
    files = [run.predictions_file(best.weights, name) for name in ("test", "test-reliability")]
    if part.name:
        files = [further_file(path, part.name) for path in files]
    write_predictions(files[0], test, part.logits, calibration)
    bins = reliability_table(calibration.probabilities(part.logits), test.targets, test.groups, calibration.labels)
    write_reliability(files[1], bins)
    prefix = f"test/{part.name}/" if part.name else "test/"
    tracker.log({f"{prefix}{name}": value for name, value in metrics.items()}, best.step or 0, best.epoch)
    columns, rows = per_value_table(metrics, calibration, annotations)
    tracker.log_table(f"{prefix}per_value", columns, rows)
    if bins:
        tracker.log_table(f"{prefix}reliability", BIN_COLUMNS, [list(astuple(row)) for row in bins])
    return TaxonomyResult(part.name, metrics, calibration, annotations)


def _signed(
    run: RunDirectory,
    best: CheckpointRecord,
    part: ScoredPart,
    calibration: Calibration,
    annotations: Annotations,
    tracker: Tracker,
) -> dict[str, float]:
    """Score signed values beside their baselines, write the scores, and return the averages."""
    decisions = calibration.decide(calibration.probabilities(part.logits))
    shares = training_shares(annotations.splits.train, calibration.labels)
    rows = signed_rows(decisions, part.split.targets, calibration.labels, part.split.groups, shares)
    path = signed_file(run, best.weights)
    write_signed_rows(further_file(path, part.name) if part.name else path, rows)
    name = f"test/{part.name}/signed" if part.name else "test/signed"
    tracker.log_table(name, SIGNED_COLUMNS, [list(astuple(row)) for row in rows])
    return headline(rows)


def per_value_table(
    metrics: dict[str, float], calibration: Calibration, annotations: Annotations
) -> tuple[list[str], list[list[Any]]]:
    """One row per label: positives and known in test, threshold, temperature and the test metrics at hand."""
    names = next(group for group in PER_VALUE_METRICS if f"{group[0]}/{calibration.labels[0]}" in metrics)
    columns = ["value", "positives", "known", "threshold", "temperature", *names]
    rows: list[list[Any]] = []
    for k, label in enumerate(calibration.labels):
        states = [text.labels[k] for text in annotations.splits.test]
        counts = [states.count(1), len(states) - states.count(-1)]
        numbers = [calibration.thresholds[k], calibration.temperatures[k]]
        rows.append([label, *counts, *numbers, *(metrics[f"{name}/{label}"] for name in names)])
    return columns, rows


def _log_checkpoints(
    config: Config,
    run: RunDirectory,
    ledger: Ledger,
    best: str,
    metrics: dict[str, float],
    prepared: Prepared | PreparedEnsemble,
    tracker: Tracker,
) -> None:
    """Send checkpoints as versions of the artifact `ckpt-<run>`, in order, per the upload policy."""
    last = ledger.latest.weights
    chosen = {"none": set(), "best": {best}, "best+last": {best, last}, "all": None}[config.track.upload]
    for seen in ledger.checkpoints:
        path = _weights_only_file(run, seen)
        thresholds = run.thresholds_file(seen.weights)
        if (chosen is not None and seen.weights not in chosen) or path is None or not thresholds.is_file():
            continue
        aliases = [f"step-{seen.step:06d}"]
        aliases += ["best"] if seen.weights == best else []
        aliases += ["last"] if seen.weights == last else []
        metadata = {
            "weights": seen.weights,
            "step": seen.step,
            "epoch": seen.epoch,
            "taxonomy": prepared.annotations.taxonomy.name,
            "labels": list(prepared.annotations.taxonomy.labels),
            "test": _defined(metrics) if seen.weights == best else None,
        }
        files = [path, thresholds]
        tracker.log_artifact(f"ckpt-{run.run_id}", "model", files, metadata, aliases)


def _weights_only_file(run: RunDirectory, seen: SeenCheckpoint) -> Path | None:
    """The checkpoint file without optimiser state, if it is still there."""
    return next((file for file in files_of(run, seen) if file != run.last_checkpoint), None)


def _log_audit(run: RunDirectory, ledger: Ledger, key: str, best: str, tracker: Tracker) -> None:
    """Send the best checkpoint's audit as artifact `audit-<run>`, if it was done in this run."""
    if path := ledger.audit_path(best, key):
        folder = run.path / path
        metadata = {"weights": best, "audit_key": key}
        files = [folder / "table.parquet", folder / "meta.json"]
        tracker.log_artifact(f"audit-{run.run_id}", "audit-report", files, metadata, ["best"])


def _defined(metrics: dict[str, float]) -> dict[str, float]:
    """Leave undefined metrics out: W&B metadata is JSON, which has no NaN."""
    return {name: value for name, value in metrics.items() if value == value}
