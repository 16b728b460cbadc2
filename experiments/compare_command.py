"""`imprint compare`: which variant is better on the same test texts, by more than luck, and at what cost?"""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from datamodules.errors import InputError
from datamodules.files import require_output, write_text
from datamodules.storage import writing
from experiments.compare_audits import compare_audits
from experiments.compare_report import format_comparison
from experiments.compare_rows import compare_variants, require_metrics
from experiments.parsing import command_parser
from experiments.signed_report import signed_notes
from experiments.table_formats import FORMATS, require_format
from experiments.variants import group_runs, read_run
from train.progress import Progress

GROUPS = ("seed", "none")


def run_compare(arguments: Sequence[str]) -> int:
    """Run `imprint compare`; see `imprint compare --help`."""
    parser = command_parser(
        "compare",
        "Compare finished runs on their test texts, from what their directories hold. Runs that differ in their seed "
        "alone are one variant, and so are the folds of one protocol.",
        usage="imprint compare RUN_DIR [RUN_DIR ...] [--baseline RUN_DIR] [--metrics NAME,NAME] [--format FORMAT] ...",
    )
    parser.add_argument("run_dirs", type=Path, nargs="+", help="Run directories")
    parser.add_argument(
        "--baseline", type=Path | None, default=None, help="Run that the others are compared with; the first"
    )
    parser.add_argument("--groups", type=str, default="seed", help="seed: runs that differ in seed are one; or none")
    parser.add_argument(
        "--metrics", type=str | None, default=None, help="With commas: f1_macro,ap_macro; by the labels when left out"
    )
    parser.add_argument("--per_value", action="store_true", help="Compare each value too")
    parser.add_argument("--audits", action="store_true", help="Tell on which conclusions the audits disagree")
    parser.add_argument("--format", type=str, default="text", help=", ".join(FORMATS))
    parser.add_argument("--output", type=Path | None, default=None, help="File to write in place of the console")
    settings = parser.parse_args(list(arguments))
    metrics = None if settings.metrics is None else [name.strip() for name in settings.metrics.split(",")]
    _check(settings, metrics)
    paths = _distinct([*([settings.baseline] if settings.baseline is not None else []), *settings.run_dirs])
    runs = [read_run(path) for path in paths]
    variants = group_runs(runs, runs[0], by_seed=settings.groups == "seed")
    found = compare_variants(variants, metrics, settings.per_value, Progress())
    if settings.audits:
        audits = compare_audits(variants)
        found = replace(found, audits=audits.rows, notes=audits.notes)
    found = replace(found, notes=(*found.notes, *signed_notes(found.baseline.runs[0].predictions)))
    report = format_comparison(found, settings.format)
    if settings.output is None:
        print(report, end="")
        return 0
    with writing(settings.output, "start the command again"):
        write_text(settings.output, report)
    return 0


def _check(settings: Any, metrics: Sequence[str] | None) -> None:
    """Raise InputError for flags that cannot be."""
    require_format(settings.format)
    require_metrics(metrics)
    if settings.groups not in GROUPS:
        raise InputError(f"--groups {settings.groups}", " or ".join(GROUPS), "--groups")
    if len({path.resolve() for path in settings.run_dirs}) < len(settings.run_dirs):
        raise InputError("a run directory that is named twice", "each once", "leave one out")
    if settings.output is not None:
        require_output(settings.output, "--output")


def _distinct(paths: Sequence[Path]) -> list[Path]:
    """Keep the first of the paths to each directory."""
    found: dict[Path, Path] = {}
    for path in paths:
        found.setdefault(path.resolve(), path)
    return list(found.values())
