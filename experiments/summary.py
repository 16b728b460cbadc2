"""What does a finished run say on the console?"""

import math

from rich.console import Console
from rich.table import Table

from audits.findings import notable_findings
from train.finish import FitResult, per_value_table

HEADINGS = {
    "positives": "n+",
    "known": "n",
    "threshold": "thresh.",
    "temperature": "temp.",
    "precision": "prec.",
    "auroc": "AUROC",
    "f1": "F1",
    "ap": "AP",
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
            return "-" if math.isnan(value) else f"{value:.3f}"
        case _:
            return str(value)


def print_fit_summary(result: FitResult, console: Console) -> None:
    """Print the per-value table, the audit findings and the next commands, in at most 100 columns."""
    is_sample = result.annotations.data.is_sample
    columns, rows = per_value_table(result.test_metrics, result.calibration, result.annotations)
    table = Table(title=f"Per-value metrics on test, checkpoint {result.best.weights[:8]} (step {result.best.step})")
    for column in columns:
        table.add_column(HEADINGS.get(column, column), justify="left" if column == "value" else "right", no_wrap=True)
    for row in rows:
        table.add_row(*(number(cell) for cell in row))
    console.print(table)
    metrics = result.test_metrics
    headline = [f"{name} {number(metrics[name])}" for name in HEADLINE if name in metrics]
    n_test = len(result.annotations.splits.test)
    console.print(f"test, {n_test} texts: {', '.join(headline)}", highlight=False)
    if is_sample:
        console.print("These texts are the embedded sample: made to learn the tool with, not to draw conclusions from.")
    if result.audit_table is not None:
        console.print("\nWhat the audits found (at the last audited checkpoint):")
        for finding in notable_findings(result.audit_table):
            console.print(f"* {finding}", highlight=False, markup=False)
    path = result.run.path
    console.print(f"\nResults are in {path}", highlight=False, soft_wrap=True)
    checkpoint = f"{path}/checkpoints/{result.best_path.name}"
    console.print("Next:", highlight=False)
    for command in (
        f"imprint score --checkpoint {checkpoint} --input texts.jsonl --output scores.parquet",
        f"imprint audit {path} --pending",
        f"imprint fit --resume {path} --trainer.max_epochs N",
    ):
        console.print(f"  {command}", highlight=False, soft_wrap=True, markup=False)
    if result.failed_audits:
        failed = ", ".join(weights[:8] for weights in result.failed_audits)
        console.print(
            f"Audits failed for {failed}: see ledger.jsonl, then imprint audit {path} --pending", soft_wrap=True
        )
