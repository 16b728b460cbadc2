"""`imprint drift`: what moved from checkpoint to checkpoint, or from run to run, and is it more than noise?"""

import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from datamodules.errors import InputError
from datamodules.files import require_output, write_text
from datamodules.storage import writing
from experiments.drift_report import format_drift
from experiments.parsing import command_parser
from experiments.table_formats import FORMATS, require_format
from train.drift import DriftRequest, drift_between, drift_within, looks_to_come, write_drift
from train.run_directory import RunDirectory
from train.run_lock import is_worked_on


def run_drift(arguments: Sequence[str]) -> int:
    """Run `imprint drift`; see `imprint drift --help`."""
    parser = command_parser(
        "drift",
        "Compare the checkpoints of a run with the first one, or the best of two runs, from what their audits stored.",
        usage="imprint drift RUN_DIR [RUN_DIR] [--baseline STEP] [--datasets NAME ...] [--format FORMAT] ...",
    )
    parser.add_argument(
        "run_dirs", type=Path, nargs="+", help="A run directory, or two to compare their best checkpoints"
    )
    parser.add_argument("--baseline", type=int | None, default=None, help="Step to compare with; the first audited one")
    parser.add_argument(
        "--against", type=str, default="baseline", help="baseline, or previous: each with the one before"
    )
    parser.add_argument("--datasets", type=str, nargs="+", default=None, help="Audited data sets; all when left out")
    parser.add_argument("--view", type=str | None, default=None, help="View, e.g. exchange-head-256; the audits' own")
    parser.add_argument(
        "--siblings",
        type=Path,
        nargs="+",
        default=None,
        help="Runs with other seeds; found beside the run when left out",
    )
    parser.add_argument(
        "--planned_looks", type=int | None, default=None, help="Checkpoints to come in all, for a run that goes on"
    )
    parser.add_argument("--format", type=str, default="text", help=", ".join(FORMATS))
    parser.add_argument("--output", type=Path | None, default=None, help="File to write in place of the console")
    settings = parser.parse_args(list(arguments))
    _check(settings)
    runs = [RunDirectory.open(path) for path in settings.run_dirs]
    request = DriftRequest(
        baseline=settings.baseline,
        against_previous=settings.against == "previous",
        datasets=settings.datasets,
        view=settings.view,
        siblings=None if settings.siblings is None else [RunDirectory.open(path) for path in settings.siblings],
        planned_looks=_planned(settings, runs),
    )
    drifts = drift_within(runs[0], request) if len(runs) == 1 else drift_between(runs[0], runs[1], request)
    report = format_drift(drifts, settings.format)
    if settings.output is None:
        print(report, end="")
    else:
        with writing(settings.output, "start the command again"):
            write_text(settings.output, report)
    where = "" if settings.output is None else f"; report in {settings.output}"
    # Standard output holds the table alone, to be piped.
    try:
        path, n_rows = write_drift(runs[-1], drifts, runs[0] if len(runs) == 2 else None)
        print(f"{n_rows:,} rows written to {path}{where}", file=sys.stderr)
    except InputError as error:
        # The report is what was asked for; a run of somebody else's may be read-only.
        print(f"warning: the rows are not written: {error}{where}", file=sys.stderr)
    return 0


def _check(settings: Any) -> None:
    """Raise InputError for flags that do not go together."""
    require_format(settings.format)
    if len(settings.run_dirs) > 2:
        found = f"{len(settings.run_dirs)} run directories"
        raise InputError(found, "one, or two to compare", "call it once for each pair")
    if settings.against not in ("baseline", "previous"):
        raise InputError(f"--against {settings.against}", "baseline or previous", "--against")
    if settings.against == "previous" and len(settings.run_dirs) == 2:
        raise InputError("--against previous with two runs", "one run", "leave it out")
    if settings.planned_looks is not None and settings.planned_looks < 1:
        raise InputError(f"--planned_looks {settings.planned_looks}", "a whole number from 1", "--planned_looks")
    if settings.output is not None:
        require_output(settings.output, "--output")


def _planned(settings: Any, runs: Sequence[RunDirectory]) -> int | None:
    """How many looks error control is for: those asked for, or those to come where a process works on the run."""
    if settings.planned_looks is not None or len(runs) == 2 or not is_worked_on(runs[0]):
        planned: int | None = settings.planned_looks
        return planned
    n = looks_to_come(runs[0], settings.baseline)
    print(f"a process works on {runs[0].path}: error control is for the {n} looks that it plans", file=sys.stderr)
    return n
