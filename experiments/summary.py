"""What does a finished run say on the console?"""

import math
from collections.abc import Sequence
from pathlib import Path

import pyarrow as pa
import pyarrow.compute as pc
from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.table import Table

from audits.contrast_findings import contrast_findings
from audits.disparity_findings import disparity_findings
from audits.findings import gold_findings, notable_findings
from audits.reward_findings import reward_findings
from audits.space_findings import space_findings
from datamodules.preferences import SAMPLE_NAMES
from experiments.data_findings import counted, data_finding
from experiments.drift_report import moved_lines
from experiments.signed_report import signed_lines
from models.calibration import Calibration
from train.data_audits import DataAudit
from train.finish import FitResult, per_value_table
from train.inputs import Annotations
from train.predictions import further_file
from train.signed_test import read_signed_rows, signed_file

# Column of the per-value table -> heading; the others are in the W&B table and in the thresholds file.
HEADINGS = {
    "value": "value",
    "positives": "n+",
    "known": "n",
    "threshold": "thr.",
    "f1": "F1",
    "precision": "prec.",
    "recall": "recall",
    "ap": "AP",
    "auroc": "AUROC",
    "ece": "ECE",
    "brier": "Brier",
    "f1_top1": "F1 (top-1)",
    "auroc_vs_unlisted": "AUROC vs unlisted",
}
HEADLINE: tuple[str, ...] = ("f1_macro", "f1_micro", "f1_weighted", "ap_macro", "auroc_macro", "ece_macro")
HEADLINE += ("top1_accuracy", "f1_top1_macro", "f1_top1_weighted")


def number(value: float | int | str) -> str:
    """Format a table cell; undefined numbers are a dash."""
    match value:
        case float():
            # Without the leading zero, so that ten columns fit.
            return "-" if math.isnan(value) else f"{value:.3f}".removeprefix("0")
        case _:
            return str(value)


MOST_FINDINGS = 18
SAMPLE_NOTE = "The embedded sample was written for this project: to learn the tool with, not to conclude from."


def has_sample(rows: pa.Table) -> bool:
    """Tell whether audit rows are about an embedded data set."""
    return not set(rows["dataset"].to_pylist()).isdisjoint(SAMPLE_NAMES)


def value_table(metrics: dict[str, float], calibration: Calibration, annotations: Annotations, title: str) -> Table:
    """One row per value: its test metrics, in at most 100 columns for labels of up to 26 letters."""
    columns, rows = per_value_table(metrics, calibration, annotations)
    shown = [k for k, column in enumerate(columns) if column in HEADINGS]
    table = Table(title=title, title_justify="left", box=SIMPLE_HEAD, pad_edge=False)
    for k in shown:
        table.add_column(HEADINGS[columns[k]], justify="left" if columns[k] == "value" else "right", no_wrap=k > 0)
    for row in rows:
        table.add_row(*(number(row[k]) for k in shown))
    return table


def rows_of(table: pa.Table | None, weights: str) -> pa.Table | None:
    """Audit rows of one checkpoint; None when there are none."""
    if table is None:
        return None
    own = table.filter(pc.equal(table["weights"], weights))
    return own if own.num_rows else None


def print_findings(rows: pa.Table, console: Console) -> None:
    """Print the notable findings of audit rows, with the note where they are about the sample."""
    findings = [*notable_findings(rows), *gold_findings(rows), *contrast_findings(rows)]
    findings += [*disparity_findings(rows), *space_findings(rows), *reward_findings(rows)]
    for finding in findings[:MOST_FINDINGS]:
        console.print(f"* {finding}", highlight=False, markup=False)
    if len(findings) > MOST_FINDINGS:
        console.print(f"({len(findings) - MOST_FINDINGS} more; every number is in the table)", highlight=False)
    if has_sample(rows):
        console.print(SAMPLE_NOTE)


def print_data_audits(made: Sequence[DataAudit], shown: pa.Table | None, console: Console) -> None:
    """Print what audits that need no checkpoint found and where they lie; nothing where there are none.

    Args:
        made: The audits.
        shown: Audit rows that `print_findings` prints beside them, whose note on the sample is not repeated.
        console: Where to print.
    """
    if not made:
        return
    console.print(counted(made), highlight=False)
    for one in made:
        console.print(f"* {data_finding(one)}", highlight=False, markup=False)
        console.print(f"  {one.folder}", highlight=False, markup=False, soft_wrap=True)
    if any(has_sample(one.table) for one in made) and (shown is None or not has_sample(shown)):
        console.print(SAMPLE_NOTE)


def print_test(
    metrics: dict[str, float], calibration: Calibration, annotations: Annotations, title: str, console: Console
) -> None:
    """Print the per-value table of a taxonomy, its averages, and how its numbers came about."""
    console.print(value_table(metrics, calibration, annotations, title))
    headline = [f"{name} {number(metrics[name])}" for name in HEADLINE if name in metrics]
    n_test = len(annotations.splits.test)
    if "n_values_scored" in metrics:
        headline.append(f"{metrics['n_values_scored']:.0f} of {len(calibration.labels)} values scored")
    console.print(f"test, {n_test} texts: {', '.join(headline)}", highlight=False)
    for note in calibration.notes:
        console.print(f"  {note}", highlight=False, markup=False)


def print_signed(path: Path, console: Console) -> None:
    """Print the scores of signed values beside their baselines, where a checkpoint has any."""
    rows = read_signed_rows(path)
    for line in signed_lines(rows) if rows else []:
        console.print(line, highlight=False, markup=False)


def print_fit_summary(result: FitResult, console: Console) -> None:
    """Print the per-value tables, the audit findings and the next commands, in at most 100 columns."""
    title = f"Per-value metrics on test, checkpoint {result.best.weights[:8]} (step {result.best.step})"
    signed = signed_file(result.run, result.best.weights)
    print_test(result.test_metrics, result.calibration, result.annotations, title, console)
    print_signed(signed, console)
    for own in result.further:
        console.print()
        print_test(own.metrics, own.calibration, own.annotations, f"Per-value metrics on test: {own.name}", console)
        print_signed(further_file(signed, own.name), console)
    audited = rows_of(result.audit_table, result.best.weights)
    if audited is not None:
        console.print("\nWhat the audits found with this checkpoint:")
        print_findings(audited, console)
    if audited is not None and result.further:
        names = ", ".join(own.name for own in result.further)
        console.print(f"(by {result.annotations.taxonomy.name}; audits by {names} are in audits/table.parquet)")
    if result.data_audits:
        console.print("\nWhat the data are, without a model:")
        print_data_audits(result.data_audits, audited, console)
    if result.drifts:
        console.print("\nWhat moved between the checkpoints (imprint drift tells more):")
        for line in moved_lines(result.drifts):
            console.print(f"* {line}", highlight=False, markup=False)
    tables = [*([] if audited is None else [audited]), *(made.table for made in result.data_audits)]
    if result.annotations.data.is_sample and not any(map(has_sample, tables)):
        console.print(SAMPLE_NOTE)
    path = result.run.path
    console.print(f"\nResults are in {path}", highlight=False, soft_wrap=True)
    checkpoint = f"{path}/checkpoints/{result.best_path.name}"
    console.print("Next:", highlight=False)
    commands = [
        f"imprint score --checkpoint {checkpoint} --input texts.jsonl --output scores.parquet",
        f"imprint audit {path} --pending",
    ]
    if result.run.last_checkpoint.is_file():
        commands.append(f"imprint fit --resume {path} --trainer.max_epochs N")
    for command in commands:
        console.print(f"  {command}", highlight=False, soft_wrap=True, markup=False)
    if result.failed_audits:
        failed = ", ".join(weights[:8] for weights in result.failed_audits)
        console.print(
            f"Audits failed for {failed}: see ledger.jsonl, then imprint audit {path} --pending", soft_wrap=True
        )
