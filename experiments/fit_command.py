"""`imprint fit`: train, audit every checkpoint, tell what came out."""

import sys
from collections.abc import Sequence
from pathlib import Path

from rich.console import Console

from datamodules.errors import InputError
from experiments.config_files import add_sections, check_file, config_files_first, config_of
from experiments.parsing import command_parser
from experiments.summary import print_fit_summary
from train.config import Config, config_to_dict
from train.ensemble_config import EnsembleRunConfig
from train.fit import fit
from train.resume import changed_settings, require_trained
from train.run_directory import RunDirectory


def run_fit(arguments: Sequence[str]) -> int:
    """Run `imprint fit`; see `imprint fit --help`."""
    parser = command_parser(
        "fit",
        "Train a value classifier and audit preference data with every checkpoint.",
        usage="imprint fit [--config FILE ...] [--SECTION.SETTING VALUE ...] [--resume RUN_DIR [--fork]]",
    )
    add_sections(parser, Config, {})
    parser.add_argument("--resume", type=Path | None, default=None, help="Run directory to go on with, in place")
    parser.add_argument(
        "--fork", action="store_true", help="Resume in a new run directory (see --run.*); the old one stays as it is"
    )
    arguments = config_files_first(arguments, Config)
    settings = parser.parse_args(arguments)
    resume, fork = settings.resume, settings.fork
    if fork and resume is None:
        raise InputError("--fork alone", "a run directory to go on with", "--resume RUN_DIR")
    if resume is not None:
        run = RunDirectory.open(resume)
        check_file(run.config_file, EnsembleRunConfig, "--resume")
        require_trained(run)
        # The run's own settings come first, so that files and flags of this call win.
        arguments = ["--config", str(run.config_file), *arguments]
    config = config_of(parser, parser.parse_args(arguments), Config)
    if resume is not None:
        for line in changed_settings(run, config_to_dict(config)):
            print(f"changed on resume: {line}", file=sys.stderr)
    result = fit(config, resume, fork)
    print_fit_summary(result, Console(width=100))
    return 1 if result.failed_audits or result.n_unwritten else 0
