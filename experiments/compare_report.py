"""Which variant is better, by how much, and what does it cost? A comparison as tables for readers and programs."""

import math

from audits.conclusions import UNTOLD
from audits.findings import p_text
from experiments.compare_notes import comparison_notes
from experiments.compare_rows import BASELINE, CALIBRATION, COSTS, Comparison, Row
from experiments.table_formats import Column, format_table

HEADINGS = {
    "f1_macro": "macro-F1",
    "f1_micro": "micro-F1",
    "f1_weighted": "weighted F1",
    "ap_macro": "mAP",
    "auroc_macro": "macro-AUROC",
    "brier_macro": "Brier",
    "ece_macro": "ECE",
    "f1_for_macro": "macro-F1 for",
    "f1_against_macro": "macro-F1 against",
    "kappa_macro": "kappa of signed values",
    "kappa_linear_macro": "weighted kappa of signed values",
    "kappa_pooled": "pooled kappa of signed values",
    "kappa_linear_pooled": "pooled weighted kappa of signed values",
    "accuracy_macro": "accuracy of signed values",
    "top1_accuracy": "top-1 accuracy",
    "f1_top1_macro": "macro-F1 (top-1)",
    "f1_top1_weighted": "weighted F1 (top-1)",
    "f1": "F1",
    "ap": "AP",
    "auroc": "AUROC",
    "brier": "Brier",
    "f1_top1": "F1 (top-1)",
    "training_seconds": "training s",
    "audit_seconds": "audits s",
    "texts_per_second": "texts/s",
    "n_parameters": "parameters",
    "n_trainable": "trained",
}
ASKED = {"prevalence_difference": "chosen-rejected, points", "preference_kappa": "preference", "beta": "reward slope"}
# In a terminal; every one is in the other formats.
MOST_SHOWN = 40
# Every number, for programs.
COLUMNS = (
    *("kind", "variant", "metric", "value", "n_seeds", "n_runs", "estimate", "seed_sd", "difference", "std_error"),
    *("ci_low", "ci_high", "p_value", "p_adjusted", "verdict", "n", "n_groups", "n_positives", "run_id", "dataset"),
    *("scorer", "slice", "method", "baseline_estimate", "baseline_p_adjusted", "baseline_conclusion", "conclusion"),
    *("n_agree", "n_disagree", "n_undefined"),
)


def format_comparison(found: Comparison, how: str) -> str:
    """Write a comparison: `text` in at most 100 columns, `md`, `latex`, `csv` (one tidy table) or `json`."""
    notes = comparison_notes(found)
    title = _title(found)
    if how in ("csv", "json"):
        return format_table([Column(name, name) for name in COLUMNS], [*found.rows, *found.audits], how, title, notes)
    tables = _metric_tables(found) if how == "text" else [_wide_table(found, title)]
    tables += [*([_cost_table(found)] if how == "text" else []), *_value_tables(found), *_audit_tables(found, how)]
    written = [format_table(columns, rows, how, heading) for heading, columns, rows in tables[:-1]]
    heading, columns, rows = tables[-1]
    written.append(format_table(columns, rows, how, heading, notes))
    return "\n".join([*([f"{title}\n"] if how == "text" else []), *written])


_Table = tuple[str, list[Column], list[Row]]


def _title(found: Comparison) -> str:
    n, n_groups = len(found.texts.targets), found.texts.n_groups
    n_variants = len(found.variants)
    return f"{n_variants} variant{'s' * (n_variants > 1)} on the same {n:,} test texts in {n_groups:,} groups"


def _number(value: float | None) -> str:
    """Three digits after the point, as metrics are written."""
    return "-" if value is None or math.isnan(value) else f"{value:.3f}"


def _signed(value: float) -> str:
    return f"{value:+.3f}"


def _difference(row: Row) -> str:
    """A difference with its interval and mark; `baseline` in the baseline's row."""
    if row["verdict"] == BASELINE:
        return BASELINE
    if math.isnan(row["difference"]):
        return "-"
    known = not math.isnan(row["ci_low"])
    interval = f" ({_signed(row['ci_low'])} to {_signed(row['ci_high'])})" if known else ""
    return f"{_signed(row['difference'])}{interval} {row['verdict']}".rstrip()


def _p(row: Row) -> str:
    p = row.get("p_adjusted")
    if p is None or math.isnan(p):
        return "-"
    return "< .001" if p < 0.001 else f"{p:.3f}".removeprefix("0")


def _cost(name: str, value: float) -> str:
    if math.isnan(value):
        return "-"
    if name.startswith("n_"):
        return f"{value / 1e6:.1f} M" if value >= 1e6 else f"{value:,.0f}"
    return f"{value:,.0f}" if value >= 10 else f"{value:.2g}"


def _metric_tables(found: Comparison) -> list[_Table]:
    """One narrow table per metric."""
    columns = [
        Column("variant", "variant"),
        Column("n_seeds", "seeds", numeric=True),
        Column("estimate", "mean", _number, numeric=True),
        Column("seed_sd", "sd", _number, numeric=True),
        Column("difference", "difference (95% CI)", str, numeric=True),
        Column("p_adjusted", "p adj.", str, numeric=True),
    ]
    tables = []
    for metric in found.metrics:
        own = found.of("metric", metric)
        cells = [row | {"difference": _difference(row), "p_adjusted": _p(row)} for row in own]
        tables.append((HEADINGS.get(metric, metric), columns, cells))
    return tables


def _cost_cells(found: Comparison) -> list[Row]:
    cells: list[Row] = []
    for variant in found.variants:
        own = {
            row["metric"]: row["estimate"]
            for row in found.rows
            if row["variant"] == variant.name and row["kind"] in ("calibration", "cost")
        }
        written = {name: _number(own[name]) for name in CALIBRATION} | {name: _cost(name, own[name]) for name in COSTS}
        cells.append({"variant": variant.name} | written)
    return cells


def _cost_columns() -> list[Column]:
    return [Column(name, HEADINGS[name], str, numeric=True) for name in (*CALIBRATION, *COSTS)]


def _cost_table(found: Comparison) -> _Table:
    return "Calibration and cost of a run", [Column("variant", "variant"), *_cost_columns()], _cost_cells(found)


def _wide_table(found: Comparison, title: str) -> _Table:
    """One row per variant with everything, for a paper."""
    columns = [Column("variant", "variant"), Column("n_seeds", "seeds", numeric=True)]
    cells = _cost_cells(found)
    for metric in found.metrics:
        heading = HEADINGS.get(metric, metric)
        columns += [Column(metric, heading, str, numeric=True)]
        columns += [Column(f"{metric}_difference", "difference (95% CI)", str, numeric=True)]
        for cell, row in zip(cells, found.of("metric", metric), strict=True):
            sd = "" if math.isnan(row["seed_sd"]) else f" ± {_number(row['seed_sd'])}"
            cell |= {"n_seeds": row["n_seeds"], metric: f"{_number(row['estimate'])}{sd}"}
            cell[f"{metric}_difference"] = _difference(row)
    return title, [*columns, *_cost_columns()], cells


def _value_tables(found: Comparison) -> list[_Table]:
    """Per metric and variant one row per value, beside the baseline's."""
    columns = [
        Column("value", "value"),
        Column("n_positives", "n+", numeric=True),
        Column("baseline", "baseline", _number, numeric=True),
        Column("estimate", "variant", _number, numeric=True),
        Column("difference", "difference (95% CI)", str, numeric=True),
        Column("p_adjusted", "p adj.", str, numeric=True),
    ]
    tables = []
    for metric in dict.fromkeys(row["metric"] for row in found.rows if row["kind"] == "metric" and row["value"]):
        own = found.of("metric", metric)
        base = {row["value"]: row["estimate"] for row in own if row["variant"] == found.baseline.name}
        for variant in found.variants[1:] or found.variants:
            cells = [
                row | {"baseline": base[row["value"]], "difference": _difference(row), "p_adjusted": _p(row)}
                for row in own
                if row["variant"] == variant.name
            ]
            against = f" against {found.baseline.name}" if len(found.variants) > 1 else ""
            tables.append((f"{HEADINGS.get(metric, metric)} of each value: {variant.name}{against}", columns, cells))
    return tables


def _audit_tables(found: Comparison, how: str) -> list[_Table]:
    """How often conclusions agree, and where they do not."""
    if not found.audits:
        return []
    counts = [row | {"asked": ASKED[row["metric"]]} for row in found.audits if row["verdict"] == "agreement"]
    apart = [row for row in found.audits if row["verdict"] == "disagreement"]
    shown = apart[:MOST_SHOWN] if how == "text" else apart
    left = f" ({len(apart) - len(shown)} more: --format csv)" if len(shown) < len(apart) else ""
    head = [Column("variant", "variant"), Column("dataset", "data set"), Column("asked", "asked")]
    numbers = {"n_agree": "agree", "n_disagree": "disagree", "n_undefined": "undefined"}
    tables = [
        (
            "Conclusions of the audits: agreement with the baseline's",
            [head[0], Column("run_id", "run"), *head[1:], *(Column(k, v, numeric=True) for k, v in numbers.items())],
            counts,
        )
    ]
    if apart:
        columns = [*head, Column("value", "value"), Column("first", "baseline", str), Column("other", "variant", str)]
        tables.append((f"Conclusions that differ{left}", columns, [_disagreement(row) for row in shown]))
    return tables


def _disagreement(row: Row) -> Row:
    extra = " ".join(part for part in (row["scorer"], row["slice"] if row["metric"] == "beta" else "") if part)
    gold = " (gold)" if row["method"] not in ("cc", "ols") else ""
    return row | {
        "asked": f"{ASKED[row['metric']]}{f' {extra}' * bool(extra)}{gold}",
        "first": _answer(
            row["metric"], row["baseline_conclusion"], row["baseline_estimate"], row["baseline_p_adjusted"]
        ),
        "other": _answer(row["metric"], row["conclusion"], row["estimate"], row["p_adjusted"]),
    }


def _answer(metric: str, conclusion: str, estimate: float, p: float) -> str:
    number = f"{100 * estimate:+.1f}" if metric == "prevalence_difference" else f"{estimate:+.3g}"
    return f"{'0: ' * (conclusion == UNTOLD)}{number}, p {p_text(p)}"
