"""`imprint audit`: audit the checkpoints of a run after the fact, or one checkpoint file."""

import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from rich.console import Console

from datamodules.errors import InputError
from datamodules.files import require_output
from datamodules.storage import writing
from experiments.parsing import command_parser, read_config
from experiments.summary import print_findings
from models.digest import weights_digest
from models.ensemble import load_scorer
from train.audit_later import audit_run
from train.audit_setup import AUDITS, build_setup
from train.auditing import CheckpointRecord, audit_checkpoint
from train.config import Config
from train.corpus_files import write_corpus_files
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
    parser = command_parser("audit", "Audit preference data with the checkpoints of a run, or with one checkpoint.")
    parser.add_argument("run_dir", type=Path | None, nargs="?", default=None, help="Run directory")
    parser.add_argument("--pending", action="store_true", help="Only checkpoints that no audit was finished for")
    parser.add_argument("--checkpoint", type=Path | None, default=None, help="One checkpoint file in place of a run")
    parser.add_argument(
        "--thresholds", type=Path | None, default=None, help="Thresholds file in place of the run's own"
    )
    parser.add_argument("--datasets", type=str, nargs="+", default=None, help="Preference data sets to audit")
    parser.add_argument("--audits", type=str, nargs="+", default=None, help=f"Audits to run: {', '.join(AUDITS)}")
    parser.add_argument(
        "--gold", type=Path | None, default=None, help="Labelled file of `imprint gold draw`: corrects for errors"
    )
    parser.add_argument("--root", type=Path | None, default=None, help="Data root; IMPRINT_DATA when left out")
    parser.add_argument("--max_length", type=int | None, default=None, help="Tokens read of each dialogue")
    parser.add_argument("--output", type=Path | None, default=None, help="Folder to write (with --checkpoint)")
    settings = parser.parse_args(list(arguments))
    if (settings.run_dir is None) == (settings.checkpoint is None):
        found = "neither" if settings.run_dir is None else "both"
        raise InputError(f"{found} of a run directory and --checkpoint", "one of them", "imprint audit --help")
    return _audit_run(settings) if settings.run_dir is not None else _audit_file(settings)


def _audit_run(settings: Any) -> int:
    if settings.output is not None or settings.thresholds is not None:
        raise InputError(
            "--output or --thresholds with a run directory", "neither: a run keeps its own", "leave them out"
        )
    run = RunDirectory.open(settings.run_dir)
    config = read_config(run.config_file)
    _override(config, settings)
    if settings.pending and settings.gold is not None:
        needed = "either: --pending leaves finished audits as they are, without these labels"
        raise InputError("--gold with --pending", needed, "leave --pending out")
    result = audit_run(run, config, settings.pending, Progress(config.run.progress))
    print(f"{result.n_audited} audited now, {result.n_done_before} done before, {len(result.gone)} without a file")
    for weights in result.gone:
        print(
            f"  checkpoint {weights[:8]} was deleted before it was audited (see --trainer.save_top_k)", file=sys.stderr
        )
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
    if settings.max_length is not None:
        config.audit.max_length = settings.max_length
    if settings.root is not None:
        config.data.root = settings.root


def _audit_file(settings: Any) -> int:
    if settings.datasets is None or settings.output is None:
        raise InputError("--checkpoint alone", "--datasets and --output too", "imprint audit --help")
    if settings.output.exists():
        raise InputError(f"something at {settings.output} already", "a new folder", "--output")
    if settings.pending:
        raise InputError("--pending with --checkpoint", "a run directory", "leave it out")
    require_output(settings.output, "--output")
    progress = Progress()
    config = Config()
    _override(config, settings)
    preferences = read_audited_data(config.audit, data_root(config.data))
    device = accelerator_device("auto")
    model = load_scorer(settings.checkpoint).to(device)
    weights = weights_digest(model.state_dict())
    calibration = find_thresholds(settings.checkpoint, weights, model, settings.thresholds)
    tokeniser, labels = model.tokeniser, model.labels
    seen_texts = training_texts_beside(settings.checkpoint)
    setup = build_setup(
        config.audit, preferences, tokeniser, labels, config.run.cache_dir, device, progress, seen_texts
    )
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
