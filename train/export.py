"""How does a checkpoint become a folder that others can load without this project?

The folder is written beside its place and moved there when all of it is written and found to give the same
probabilities: nothing half-written remains.
"""

import os
import shutil
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from audits.table import read_table
from datamodules.errors import InputError
from datamodules.files import read_json, require_output, write_json, write_text
from datamodules.storage import writing
from models.calibration import Calibration
from models.classifier import ValueClassifier, load_classifier
from models.digest import weights_digest
from models.export import check_exportable, write_model
from models.export_check import Comparison, compare_with_export
from train.audit_card import AuditFacts
from train.checkpoints import best_checkpoint, files_of
from train.drift_series import monitored_metric, run_settings
from train.ledger import Ledger
from train.model_card import CardFacts, RunFacts, model_card
from train.run_directory import RunDirectory
from train.stored_audits import open_audit, views_of
from train.stored_scores import stored_scores
from train.thresholds import find_thresholds

# Probabilities further apart than this are told as another function.
TOLERANCE = 1e-5


@dataclass(frozen=True, slots=True)
class Export:
    """What was written.

    Attributes:
        folder: The folder.
        checkpoint: The checkpoint file.
        stock_class: The class of transformers that loads it; None where `modeling_imprint.py` does.
        comparison: What its probabilities were compared on.
        run: What the model card tells of its run; None where none was found.
        left_out: Further taxonomies of the classifier, which the folder does not score.
        notes: How temperatures and thresholds came about where it was not the label's own data.
    """

    folder: Path
    checkpoint: Path
    stock_class: str | None
    comparison: Comparison
    run: RunFacts | None
    left_out: tuple[str, ...]
    notes: tuple[str, ...]


def export_checkpoint(checkpoint: Path, output: Path, run_dir: Path | None, thresholds: Path | None) -> Export:
    """Write a checkpoint in Hugging Face layout, with thresholds and a model card.

    Args:
        checkpoint: Checkpoint file of a classifier, or a run directory, of which the best one is taken.
        output: Folder to write; must not be there.
        run_dir: The run that wrote the checkpoint; the one that the file lies in when None, if it lies in one.
        thresholds: Thresholds file in place of the run's own.

    Raises:
        InputError: Something at `output`, a checkpoint that is none or cannot be exported, no thresholds, a run that
            did not write it, or a disk that cannot be written to; `output` is not there then.
    """
    if output.exists() or output.is_symlink():
        raise InputError(f"something at {output} already", "a new folder", "--output")
    if checkpoint.is_dir():
        checkpoint = _best_file(RunDirectory.open(checkpoint))
    run = _find_run(checkpoint, run_dir)
    model = load_classifier(checkpoint)
    check_exportable(model)
    weights = weights_digest(model.state_dict())
    if run is not None and thresholds is None:
        thresholds = run.thresholds_file(weights)
    # Of several taxonomies the main one is exported: a class of transformers has one head.
    calibration = replace(find_thresholds(checkpoint, weights, model, thresholds), further={})
    facts = None if run is None else run_facts(run, weights, calibration)
    require_output(output, "--output")
    part = output.with_name(f".{output.name}.part{os.getpid()}")
    try:
        with writing(output, "start the command again"):
            shutil.rmtree(part, ignore_errors=True)
            part.mkdir()
            stock_class = write_model(model, calibration, _settings(model, calibration, weights, facts), part)
            write_json(part / "thresholds.json", thresholds_content(weights, calibration))
            comparison = compare_with_export(model, calibration, part)
            _require_same(comparison, checkpoint)
            card = CardFacts(output.name, model, calibration, weights, stock_class, comparison, facts)
            write_text(part / "README.md", model_card(card))
            part.rename(output)
    finally:
        shutil.rmtree(part, ignore_errors=True)
    left_out = tuple(task.name for task in model.further)
    return Export(output, checkpoint, stock_class, comparison, facts, left_out, calibration.notes)


def thresholds_content(weights: str, calibration: Calibration) -> dict[str, Any]:
    """Return what thresholds.json holds: the run's own file, and that its temperatures are spent."""
    told = "already in the exported weights: not to be applied again"
    return {"weights": weights, "temperatures": told, **calibration.to_json()}


def _best_file(run: RunDirectory) -> Path:
    """Find the checkpoint that a run tests: the one with the best value of the metric that it monitors."""
    return files_of(run, best_checkpoint(run, Ledger(run.ledger_file), monitored_metric(run)))[0]


def _find_run(checkpoint: Path, given: Path | None) -> RunDirectory | None:
    """Open the run directory of a checkpoint file; None where it does not lie in one."""
    if given is not None:
        return RunDirectory.open(given)
    beside = RunDirectory(checkpoint.resolve().parent.parent)
    is_run = beside.config_file.is_file() and beside.environment_file.is_file()
    return RunDirectory.open(beside.path) if is_run else None


def run_facts(run: RunDirectory, weights: str, calibration: Calibration) -> RunFacts:
    """Gather what a run directory knows of one of its checkpoints.

    Raises:
        InputError: The run has not seen these weights, or a file of it cannot be read.
    """
    ledger = Ledger(run.ledger_file)
    seen = next((seen for seen in ledger.checkpoints if seen.weights == weights), None)
    if seen is None:
        found = f"weights {weights[:8]}, which are none that {run.path} has recorded"
        raise InputError(found, "the run that wrote the checkpoint", f"--run, or imprint audit {run.path} --pending")
    splits = read_json(run.path / "splits.json", "restore that file")
    return RunFacts(
        run_id=run.run_id,
        step=seen.step,
        epoch=seen.epoch,
        settings=run_settings(run),
        environment=read_json(run.environment_file, "restore that file"),
        n_texts={name: len(splits[name]) for name in ("train", "val", "test")},
        tested=stored_scores(run.predictions_file(weights, "test"), calibration),
        audit=_newest_audit(run, ledger, weights),
    )


def _newest_audit(run: RunDirectory, ledger: Ledger, weights: str) -> AuditFacts | None:
    folders = [run.path / path for path in ledger.newest_audits]
    own = [audit for audit in (open_audit(run, folder) for folder in folders) if audit.weights == weights]
    if not own:
        return None
    try:
        rows = read_table(own[0].folder / "table.parquet")
    except InputError as error:
        raise InputError(error.found, "the rows of that audit", f"imprint audit {run.path}") from error
    datasets = {name: str(data["digest"]) for name, data in own[0].datasets.items()}
    view = views_of(own[0], next(iter(datasets)))[0]
    return AuditFacts(rows, view, datasets)


def _settings(model: ValueClassifier, calibration: Calibration, weights: str, facts: RunFacts | None) -> dict[str, Any]:
    """Fields of config.json that transformers passes over and keeps."""
    taxonomy = model.taxonomy
    return {
        "thresholds": dict(zip(calibration.labels, calibration.thresholds, strict=True)),
        "temperatures": dict(zip(calibration.labels, calibration.temperatures, strict=True)),
        "signed_labels": calibration.signed,
        "imprint": {
            "weights": weights,
            "run_id": None if facts is None else facts.run_id,
            "taxonomy": {"name": taxonomy.name, "version": taxonomy.version, "digest": taxonomy.digest},
            "view": asdict(model.view),
        },
    }


def _require_same(comparison: Comparison, checkpoint: Path) -> None:
    """Raise InputError when transformers makes something else of the folder: then it must not be given away."""
    if comparison.other_tokens is not None:
        what = f"other tokens for {comparison.other_tokens[:60]!r}"
    # An undefined difference is not small.
    elif not comparison.difference <= TOLERANCE:
        what = f"probabilities that differ by {comparison.difference:.1g}"
    else:
        return
    found = f"{what} when transformers loads what was written of {checkpoint}"
    needed = "an encoder and a tokenizer that transformers writes and reads back as they are"
    raise InputError(found, needed, "report it")
