"""`imprint audit`: audit the checkpoints of a run after the fact, or one checkpoint file."""

import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from rich.console import Console

from datamodules.errors import InputError
from datamodules.files import require_output
from datamodules.storage import writing
from experiments.data_audit import audit_files, require_checkpoint_audits
from experiments.parsing import command_parser, read_config, read_flags, split_flags
from experiments.refusal_audits import audit_completions
from experiments.root_flag import naming_root_flag
from experiments.summary import print_data_audits, print_findings
from experiments.vectors_audit import audit_vectors
from models.digest import weights_digest
from models.ensemble import load_scorer
from train.audit_later import audit_run
from train.audit_setup import AUDITS, build_setup
from train.auditing import CheckpointRecord, audit_checkpoint
from train.config import Config
from train.corpus_files import write_corpus_files
from train.data_audits import DATA_AUDITS, needs_checkpoint
from train.frozen import scoring_setup
from train.held_out import absence_line, held_out_by_taxonomy, predictions_beside
from train.inputs import data_root, read_audited_data
from train.prepare import accelerator_device
from train.progress import Progress
from train.run_directory import RunDirectory
from train.thresholds import find_thresholds
from train.training_texts import training_texts_beside


def run_audit(arguments: Sequence[str]) -> int:
    """Run `imprint audit`; see `imprint audit --help`."""
    audit_flags, arguments = split_flags(arguments, "--audit.")
    what = "Audit preference data with the checkpoints of a run, or with one checkpoint."
    parser = command_parser("audit", f"{what} Every --audit.* setting of imprint fit can be given, over the run's own.")
    parser.add_argument("run_dir", type=Path | None, nargs="?", default=None, help="Run directory")
    parser.add_argument("--pending", action="store_true", help="Only checkpoints that no audit was finished for")
    parser.add_argument("--checkpoint", type=Path | None, default=None, help="One checkpoint file in place of a run")
    parser.add_argument(
        "--thresholds", type=Path | None, default=None, help="Thresholds file in place of the run's own"
    )
    parser.add_argument("--datasets", type=str, nargs="+", default=None, help="Preference data sets to audit")
    names = f"{', '.join(AUDITS)}; without a checkpoint {', '.join(DATA_AUDITS)}"
    parser.add_argument("--audits", type=str, nargs="+", default=None, help=f"Audits to run: {names}")
    parser.add_argument(
        "--gold", type=Path | None, default=None, help="Labelled file of `imprint gold draw`: corrects for errors"
    )
    parser.add_argument("--root", type=Path | None, default=None, help="Data root; IMPRINT_DATA when left out")
    parser.add_argument("--max_length", type=int | None, default=None, help="Tokens read of each dialogue")
    parser.add_argument("--output", type=Path | None, default=None, help="Folder to write (without a run)")
    completions = "Model outputs to audit for refusals (csv, jsonl, parquet); --output is then a .parquet file"
    parser.add_argument("--completions", type=Path | None, default=None, help=completions)
    vectors = "Files of value vectors of model outputs, to audit as value-space; --output is then a .parquet file"
    parser.add_argument("--vectors", type=Path, nargs="+", default=None, help=vectors)
    targets = "YAML file of targets of your own (value-space, --vectors)"
    parser.add_argument("--target_vectors", type=Path | None, default=None, help=targets)
    settings = parser.parse_args(list(arguments))
    if audit_flags and settings.run_dir is None and settings.checkpoint is None:
        found = f"{audit_flags[0].partition('=')[0]} without a checkpoint"
        raise InputError(found, "a run directory, or --checkpoint", "imprint audit --help")
    if settings.vectors is not None:
        return audit_vectors(settings)
    if settings.completions is not None:
        return audit_completions(settings)
    if settings.run_dir is None and settings.checkpoint is None and settings.audits is not None:
        return audit_files(settings)
    if (settings.run_dir is None) == (settings.checkpoint is None):
        found = "neither" if settings.run_dir is None else "both"
        needed = f"one of them, or --audits that need neither: {', '.join(DATA_AUDITS)}"
        raise InputError(f"{found} of a run directory and --checkpoint", needed, "imprint audit --help")
    return _audit_run(settings, audit_flags) if settings.run_dir is not None else _audit_file(settings, audit_flags)


def _audit_run(settings: Any, audit_flags: Sequence[str]) -> int:
    if settings.output is not None or settings.thresholds is not None:
        raise InputError(
            "--output or --thresholds with a run directory", "neither: a run keeps its own", "leave them out"
        )
    run = RunDirectory.open(settings.run_dir)
    config = read_config(run.config_file, audit_flags)
    _override(config, settings)
    if settings.pending and settings.gold is not None:
        needed = "either: --pending leaves finished audits as they are, without these labels"
        raise InputError("--gold with --pending", needed, "leave --pending out")
    result = audit_run(run, config, settings.pending, Progress(config.run.progress))
    if needs_checkpoint(config.audit):
        print(f"{result.n_audited} audited now, {result.n_done_before} done before, {len(result.gone)} without a file")
    for weights in result.gone:
        print(
            f"  checkpoint {weights[:8]} was deleted before it was audited (see --trainer.save_top_k)", file=sys.stderr
        )
    print_data_audits(result.data_audits, result.rows, Console(width=100))
    if result.rows is not None:
        print_findings(result.rows, Console(width=100))
    return 0 if result.is_recorded and not result.failed else 1


def _override(config: Config, settings: Any) -> None:
    if settings.datasets is not None:
        config.audit.datasets = list(settings.datasets)
    if settings.audits is not None:
        config.audit.audits = list(settings.audits)
    if settings.gold is not None:
        config.audit.gold = settings.gold
    if settings.target_vectors is not None:
        config.audit.target_vectors = settings.target_vectors
    if settings.max_length is not None:
        config.audit.max_length = settings.max_length
    if settings.root is not None:
        config.data.root = settings.root


def _audit_file(settings: Any, audit_flags: Sequence[str]) -> int:
    if settings.datasets is None or settings.output is None:
        raise InputError("--checkpoint alone", "--datasets and --output too", "imprint audit --help")
    if settings.output.exists():
        raise InputError(f"something at {settings.output} already", "a new folder", "--output")
    if settings.pending:
        raise InputError("--pending with --checkpoint", "a run directory", "leave it out")
    require_checkpoint_audits(settings.audits)
    require_output(settings.output, "--output")
    progress = Progress()
    config = read_flags(audit_flags)
    _override(config, settings)
    with naming_root_flag():
        preferences = read_audited_data(config.audit, data_root(config.data))
    device = accelerator_device("auto")
    model = load_scorer(settings.checkpoint).to(device)
    weights = weights_digest(model.state_dict())
    calibration = find_thresholds(settings.checkpoint, weights, model, settings.thresholds)
    seen_texts = training_texts_beside(settings.checkpoint)
    setup = build_setup(config.audit, preferences, model, config.run.cache_dir, device, progress, seen_texts, [weights])
    setup = scoring_setup(setup, model, config.audit.precision, config.run.cache_dir)
    predictions = predictions_beside(settings.checkpoint, weights)
    held_out = held_out_by_taxonomy(predictions, calibration, model)
    if held_out[""] is None:
        progress.say(absence_line(predictions))
    record = CheckpointRecord(weights, None, None)
    with writing(settings.output, "start the command again"):
        table = audit_checkpoint(
            model, calibration, setup, record, settings.checkpoint.stem, settings.output, progress, held_out
        )
        write_corpus_files(settings.output / "corpus", setup)
    for note in calibration.notes:
        print(note)
    print(f"{table.num_rows} rows written to {settings.output / 'table.parquet'}")
    print_findings(table, Console(width=100))
    return 0
