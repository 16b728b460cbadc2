"""What does a reader see of a classifier of signed values? Each average beside what frequencies alone would score."""

import math
import textwrap
from collections.abc import Sequence

from audits.signed_evaluation import N_REDRAWS, SignedRow
from audits.stats.signed_outcomes import signed_slugs
from datamodules.errors import InputError
from experiments.parsing import read_config
from train.signed_test import stored_signed_rows
from train.stored_predictions import StoredPredictions

# Average -> how it is called.
TOLD = {
    "f1_for_macro": "macro-F1 for",
    "f1_against_macro": "macro-F1 against",
    "kappa_macro": "kappa",
    "kappa_linear_macro": "weighted kappa",
    "kappa_linear_pooled": "pooled weighted kappa",
    "accuracy_macro": "accuracy",
}
# An F1 of fewer texts of a sign turns on one or two of them.
FEW_TEXTS = 10
HEADINGS = ("", "test", "95% CI", "values", "random", "majority", "always")


def signed_lines(rows: Sequence[SignedRow]) -> list[str]:
    """Tell the averages over signed values with their baselines, in at most 100 columns."""
    averages = {row.metric: row for row in rows if not row.value}
    of_all = averages["accuracy_macro"]
    lines = [
        f"signed values (for, against, neither), {of_all.n:,} test texts in {of_all.n_groups:,} groups; beside each "
        "average",
        "what training shares alone give (random draws, the majority) and the sign said of every text:",
        _line(HEADINGS),
    ]
    lines += [_line(_cells(averages[metric], title)) for metric, title in TOLD.items()]
    for sign in ("for", "against"):
        names = [row.value for row in rows if row.value and row.metric == f"f1_{sign}" and math.isnan(row.estimate)]
        if names:
            lines.append(f"  no test text is {sign} {', '.join(names)}: no F1, and not in that macro")
    for told in (_rests_on(rows), _untold(rows)):
        lines += [f"  {line}" for line in textwrap.wrap(told, 98, subsequent_indent="  ")]
    lines.append("  accuracy mostly counts texts that say nothing of a value: compare it with the majority's;")
    lines.append("  a text without a label of a value counts as neither, whether annotators looked for it or not")
    return lines


def _rests_on(rows: Sequence[SignedRow]) -> str:
    """Tell on how many redraws the intervals of F1 rest, and which signs have few test texts."""
    averages = {row.metric: row for row in rows if not row.value}
    redraws = (f"{averages[f'f1_{sign}_macro'].n_redraws:,} ({sign})" for sign in ("for", "against"))
    told = (
        f"intervals of macro-F1 rest on the redraws with a text of every value: {', '.join(redraws)} of {N_REDRAWS:,}"
    )
    by_sign = {
        sign: [
            f"{row.value} {row.n_positives}"
            for row in rows
            if row.value and row.metric == f"f1_{sign}" and 0 < row.n_positives < FEW_TEXTS
        ]
        for sign in ("for", "against")
    }
    few = "; ".join(f"{sign} {', '.join(names)}" for sign, names in by_sign.items() if names)
    return f"{told}; fewer than {FEW_TEXTS} test texts: {few}" if few else told


def _untold(rows: Sequence[SignedRow]) -> str:
    """Name the signs that are not told better than by saying them of every text; empty where all are."""
    by_sign = {
        sign: [row.value for row in rows if row.value and row.metric == f"f1_{sign}" and row.ci_low <= row.always]
        for sign in ("for", "against")
    }
    told = "; ".join(f"{sign} {', '.join(names)}" for sign, names in by_sign.items() if names)
    return f"F1 that may be no better than saying it of every text (95% CI): {told}" if told else ""


def signed_notes(stored: StoredPredictions) -> list[str]:
    """Tell what frequencies alone score on the signed values of a run, for beneath a comparison.

    A run of an earlier version did not keep the shares of training; its texts are read again where they are at hand.
    """
    if not signed_slugs(stored.labels):
        return []
    try:
        rows = stored_signed_rows(stored, read_config(stored.run.config_file).data)
    except InputError as error:
        return [f"what frequencies alone would score is not known: {error.found}"]
    averages = {row.metric: row for row in rows if not row.value}
    told = [
        f"{TOLD[name]}: random {_number(row.random)}, majority {_number(row.majority)}, always {_number(row.always)}"
        for name in ("f1_for_macro", "f1_against_macro")
        for row in [averages[name]]
    ]
    return [
        f"what the shares of training give without reading a text, {'; '.join(told)}; kappa 0; accuracy: majority "
        f"{_number(averages['accuracy_macro'].majority)}",
        "signed values: a text without a label of a value counts as neither for nor against it",
    ]


def _cells(row: SignedRow, title: str) -> tuple[str, ...]:
    interval = "-" if math.isnan(row.ci_low) else f"{_number(row.ci_low)} to {_number(row.ci_high)}"
    numbers = (_number(value) for value in (row.random, row.majority, row.always))
    return (title, _number(row.estimate), interval, str(row.n_values), *numbers)


def _line(cells: Sequence[str]) -> str:
    first, *others = cells
    widths = (7, 15, 8, 8, 10, 8)
    return f"  {first:<22}" + "".join(f"{cell:>{width}}" for cell, width in zip(others, widths, strict=True))


def _number(value: float) -> str:
    # Without the sign of a rounded zero.
    return "-" if math.isnan(value) else f"{round(value, 3) + 0.0:.3f}"
