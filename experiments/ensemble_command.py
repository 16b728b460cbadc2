"""`imprint ensemble`: average the probabilities of checkpoints, and audit with the mean."""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from rich.console import Console

from experiments.parsing import command_parser, read_config
from experiments.summary import number, print_fit_summary
from train.checkpoints import logged_values
from train.drift_series import monitored_metric
from train.ensemble import make_ensemble
from train.ensemble_config import EnsembleRunConfig
from train.ensemble_members import Member, choose_members, ensemble_config
from train.finish import FitResult
from train.progress import Progress
from train.run_directory import RunDirectory


def run_ensemble(arguments: Sequence[str]) -> int:
    """Run `imprint ensemble`; see `imprint ensemble --help`."""
    parser = command_parser(
        "ensemble",
        "Average the probabilities of checkpoints: a run directory of its own, with thresholds fitted anew, tested and "
        "audited as the first run is set. All members have learnt the same texts.",
        usage="imprint ensemble RUN_DIR [RUN_DIR ...] [--checkpoint best|last|all|STEP] ...",
    )
    parser.add_argument("run_dirs", type=Path, nargs="+", help="Run directories, such as seeds of one experiment")
    parser.add_argument(
        "--checkpoint",
        type=str,
        default="best",
        help="Of each run: best (by its own monitored metric), last, all, or a step; several with commas",
    )
    parser.add_argument("--data.root", type=Path | None, default=None, help="Data root; the first run's when left out")
    parser.add_argument(
        "--run.root", type=Path | None, default=None, help="Folder of the new run directory; the first run's"
    )
    parser.add_argument(
        "--run.experiment", type=str | None, default=None, help="Name; the first run's with -ensemble when left out"
    )
    settings = parser.parse_args(list(arguments))
    runs = [RunDirectory.open(path) for path in {path.resolve(): path for path in settings.run_dirs}.values()]
    members = choose_members(runs, settings.checkpoint)
    config = _config(members, settings)
    result = make_ensemble(members, config, Progress(config.run.progress))
    console = Console(width=100)
    print_fit_summary(result, console)
    for line in member_lines(members, result):
        console.print(line, highlight=False, markup=False, soft_wrap=True)
    return 1 if result.failed_audits or result.n_unwritten else 0


def _config(members: Sequence[Member], settings: Any) -> EnsembleRunConfig:
    configs = [read_config(member.run.config_file) for member in members]
    config = ensemble_config(members, configs, settings.checkpoint)
    own, data = settings.run, settings.data
    root = own.root if own.root is not None else members[0].run.path.parent
    config.run = replace(config.run, root=root, experiment=own.experiment or config.run.experiment)
    config.data = replace(config.data, root=data.root or config.data.root)
    return config


def member_lines(members: Sequence[Member], result: FitResult) -> list[str]:
    """Name the members, with the metric on validation that the ensemble would be chosen by, where they logged it."""
    monitor = monitored_metric(result.run)
    own = logged_values(result.run, monitor).get(result.best.step or 0, float("nan"))
    lines = [f"Ensemble of {len(members)} checkpoints, {monitor} {number(own)}:"]
    for member in members:
        value = logged_values(member.run, monitor).get(member.seen.step, float("nan"))
        lines.append(f"  {member.run.run_id} step {member.seen.step} ({member.seen.weights[:8]}) {number(value)}")
    return lines
