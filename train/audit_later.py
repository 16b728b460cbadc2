"""How are the checkpoints of a run audited after it has stopped?"""

import json
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import cache
from pathlib import Path

from datamodules.annotation_datamodule import TokenisedSplit, tokenise_split
from datamodules.errors import InputError
from models.classifier import ValueClassifier, load_classifier
from models.precision import resolve_precision
from train.auditing import CheckpointRecord, build_setup
from train.checkpoint_queue import CheckpointQueue
from train.config import Config, config_to_dict
from train.inputs import data_root, read_annotations_and_split, read_audited_data
from train.ledger import Ledger, SeenCheckpoint
from train.prepare import accelerator_device
from train.progress import Progress
from train.run_directory import RunDirectory
from train.tracking import open_trackers


@dataclass(frozen=True, slots=True)
class LaterAudit:
    """What came of it.

    Attributes:
        n_audited: Audits run now.
        n_done_before: Checkpoints that needed none.
        gone: Weights digests whose every file is deleted and whose audit is not done.
        failed: Weights digests whose audit failed.
    """

    n_audited: int
    n_done_before: int
    gone: tuple[str, ...]
    failed: tuple[str, ...]


def audit_run(run: RunDirectory, config: Config, pending_only: bool, progress: Progress) -> LaterAudit:
    """Audit the checkpoints of a run, each at most once per audit key.

    Args:
        run: The run directory.
        config: Its settings, perhaps with another audit section.
        pending_only: Only checkpoints without any finished audit; else also those whose audit set-up has changed.
        progress: Shows the scoring.

    Raises:
        InputError: No checkpoints, or data that cannot be read.
    """
    ledger = Ledger(run.ledger_file)
    if not ledger.checkpoints:
        raise InputError(
            f"no checkpoint in the ledger of {run.path}", "a run that saved one", "name another run directory"
        )
    waiting = [seen for seen in ledger.checkpoints if not (pending_only and ledger.has_done(seen.weights))]
    if not waiting:
        return LaterAudit(0, len(ledger.checkpoints), (), ())
    device = accelerator_device(config.trainer.accelerator)
    preferences = read_audited_data(config.audit, data_root(config.data))
    present = [(seen, _file_of(run, seen)) for seen in waiting]
    gone = tuple(seen.weights for seen, file in present if file is None)
    models = [(seen, file) for seen, file in present if file is not None]
    if not models:
        return LaterAudit(0, len(ledger.checkpoints) - len(waiting), gone, ())
    first = load_classifier(models[0][1])
    setup = build_setup(config.audit, preferences, first.tokeniser, config.run.cache_dir, device)
    stamp = datetime.now(UTC).strftime("%Y%m%d-%H%M%S")
    tracker = open_trackers(
        config.track,
        f"{run.run_id}-audit-{stamp}",
        run.path,
        config_to_dict(config),
        config.run.experiment,
        job_type="audit",
    )
    queue = CheckpointQueue(
        run,
        ledger,
        cache(lambda: validation_split(run, config, first)),
        setup,
        resolve_precision(config.audit.precision, device),
        config.audit.token_budget,
        tracker,
        progress,
    )
    exit_code = 1
    try:
        n_audited = 0
        for seen, file in models:
            record = CheckpointRecord(seen.weights, seen.step, seen.epoch)
            n_audited += queue.process(record, load_classifier(file).to(device))
        exit_code = 1 if queue.failures else 0
    finally:
        tracker.finish(exit_code)
    n_before = len(ledger.checkpoints) - n_audited - len(gone) - len(queue.failures)
    return LaterAudit(n_audited, n_before, gone, tuple(queue.failures))


def _file_of(run: RunDirectory, seen: SeenCheckpoint) -> Path | None:
    files = [run.checkpoints / name for name in seen.paths]
    return next((file for file in files if file.is_file()), None)


def validation_split(run: RunDirectory, config: Config, model: ValueClassifier) -> TokenisedSplit:
    """Read the validation texts of a run again, to fit thresholds that are missing.

    Raises:
        InputError: The texts are not those that the run began with.
    """
    val = read_annotations_and_split(config.data).splits.val
    recorded = json.loads((run.path / "splits.json").read_text(encoding="utf-8"))["val"]
    if [text.text_id for text in val] != recorded:
        found = f"another validation split than in {run.path / 'splits.json'}"
        raise InputError(
            found, "the annotated texts that the run began with", "restore them, see data.* in config.yaml"
        )
    return tokenise_split(val, model.tokeniser, model.view)
