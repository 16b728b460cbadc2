"""How are the checkpoints of a run audited after it has stopped?"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from functools import cache

import pyarrow as pa
import torch

from audits.table import concat
from datamodules.annotation_datamodule import TokenisedSplit, tokenise_split
from datamodules.errors import InputError
from datamodules.joint_splits import joined
from datamodules.preference_data import PreferenceData
from datamodules.storage import writing
from models.ensemble import Scorer
from train.audit_setup import build_setup
from train.audit_tables import forget_lost_audits, write_newest_audits
from train.checkpoint_queue import CheckpointQueue, unfinished
from train.checkpoints import load_weights, record_unknown_files
from train.config import Config, config_to_dict
from train.corpus_files import write_corpus_files
from train.data_audits import DataAudit, audit_data_of_run, data_audits_of, needs_checkpoint
from train.frozen import scoring_precision, scoring_setup
from train.inputs import data_root, read_annotations_and_split, read_audited_data
from train.ledger import Ledger, SeenCheckpoint
from train.prepare import accelerator_device
from train.progress import Progress
from train.run_directory import RunDirectory
from train.run_lock import run_lock
from train.tracking import open_trackers
from train.training_texts import read_training_texts


@dataclass(frozen=True, slots=True)
class LaterAudit:
    """What came of it.

    Attributes:
        n_audited: Audits run now.
        n_done_before: Checkpoints that needed none.
        gone: Weights digests whose every file is deleted and whose audit is not done.
        failed: Weights digests whose audit failed.
        rows: Rows of the audits that were run now, or None.
        is_recorded: Whether the ledger and the run's table hold all of it.
        data_audits: Audits that need no checkpoint, those that were there before too.
    """

    n_audited: int
    n_done_before: int
    gone: tuple[str, ...]
    failed: tuple[str, ...]
    rows: pa.Table | None
    is_recorded: bool = True
    data_audits: tuple[DataAudit, ...] = ()


def audit_run(run: RunDirectory, config: Config, pending_only: bool, progress: Progress) -> LaterAudit:
    """Audit the checkpoints of a run, each at most once per audit key.

    Args:
        run: The run directory.
        config: Its settings, perhaps with another audit section.
        pending_only: Only checkpoints without any finished audit; else also those whose audit set-up has changed, and
            audits in which processes died again and again.
        progress: Shows the scoring.

    Raises:
        InputError: No checkpoints, data that cannot be read, a run directory that cannot be written to, or that
            another process works on.
    """
    with run_lock(run, progress.say):
        run.require_writable()
        ledger = Ledger(run.ledger_file)
        record_unknown_files(run, ledger, None, progress.say)
        forget_lost_audits(run, ledger, progress.say)
        if not ledger.checkpoints:
            found = f"no checkpoint in {run.checkpoints}"
            raise InputError(found, "a run that saved one", "name another run directory")
        is_finished = not unfinished(ledger, pending_only)
        if is_finished:
            write_newest_audits(run, ledger)
        result = LaterAudit(0, len(ledger.checkpoints), (), (), None)
        if is_finished and not data_audits_of(config.audit):
            return result
        preferences = read_audited_data(config.audit, data_root(config.data))
        data_audits = audit_data_of_run(run, config.audit, preferences, progress)
        if not is_finished and needs_checkpoint(config.audit):
            result = _audit(run, ledger, config, preferences, pending_only, progress)
        return replace(result, data_audits=data_audits)


def _audit(
    run: RunDirectory,
    ledger: Ledger,
    config: Config,
    preferences: Sequence[PreferenceData],
    pending_only: bool,
    progress: Progress,
) -> LaterAudit:
    """Audit the checkpoints that are unfinished."""
    n_checkpoints = len(ledger.checkpoints)
    device = accelerator_device(config.trainer.accelerator)
    candidates = unfinished(ledger, pending_only)
    weights, first = _first_loadable(run, candidates, device)
    if first is None and len(candidates) < n_checkpoints:
        gone = tuple(seen.weights for seen in candidates)
        return LaterAudit(0, n_checkpoints - len(gone), gone, (), None)
    if first is None:
        found = f"none of {n_checkpoints} checkpoints of {run.path} on disk"
        raise InputError(found, "checkpoint files", "restore them; --trainer.save_top_k decides how many a run keeps")
    seen_texts = read_training_texts(run.path)
    setup = build_setup(
        config.audit,
        preferences,
        first,
        config.run.cache_dir,
        device,
        progress,
        seen_texts,
        [seen.weights for seen in candidates],
    )
    setup = scoring_setup(setup, first, config.audit.precision, config.run.cache_dir)
    with writing(run.corpora, "start the command again"):
        write_corpus_files(run.corpora, setup)
    stamp = datetime.now(UTC).strftime("%Y%m%d-%H%M%S")
    run_id = f"{run.run_id}-audit-{stamp}"
    plain = config_to_dict(config)
    tracker = open_trackers(config.track, run_id, run.path, plain, config.run.experiment, job_type="audit")
    precision = scoring_precision(config.audit.precision, first, device)
    val = cache(lambda: validation_split(run, config, first))
    queue = CheckpointQueue(run, ledger, val, setup, precision, config.audit.token_budget, tracker, progress)
    exit_code = 1
    try:
        audited, without_file = queue.catch_up(pending_only, device, (weights, first))
        exit_code = 1 if queue.failures else 0
    finally:
        tracker.finish(exit_code)
    n_before = n_checkpoints - len(audited) - len(without_file) - len(queue.failures)
    rows = concat(queue.tables) if queue.tables else None
    is_recorded = ledger.n_unwritten == 0 and queue.n_unwritten_tables == 0
    return LaterAudit(len(audited), n_before, tuple(without_file), tuple(queue.failures), rows, is_recorded)


def _first_loadable(
    run: RunDirectory, candidates: list[SeenCheckpoint], device: torch.device
) -> tuple[str, Scorer | None]:
    """Load the first checkpoint that has a readable file; a damaged one is told when its turn comes."""
    damaged: InputError | None = None
    for seen in candidates:
        try:
            model = load_weights(run, seen, device)
        except InputError as error:
            damaged = damaged or error
            continue
        if model is not None:
            return seen.weights, model
    if damaged is not None:
        raise damaged
    return "", None


def validation_split(run: RunDirectory, config: Config, model: Scorer) -> TokenisedSplit:
    """Read the validation texts of a run again, to fit thresholds that are missing.

    Raises:
        InputError: The texts are not those that the run began with.
    """
    annotations = read_annotations_and_split(config.data)
    run.require_same_splits(annotations.splits_to_dict(), ("val",))
    return joined([tokenise_split(own.splits.val, model.tokeniser, model.view) for own in annotations.all])
