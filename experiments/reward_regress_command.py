"""`imprint reward regress`: which features does a reward model pay for?"""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.table import Table
from rich.text import Text

from audits.findings import SIGNIFICANT
from audits.item_table import HEADLINE_SPEC, LENGTH, PUBLISHED_SPEC, ItemTable, make_design, usable_rows
from audits.misclassification import fit_gold_specs
from audits.reward_regression import GOLD, SpecFit, fit_specs, regression_rows
from audits.stats.ols import CollinearError, collinear_columns
from audits.table import make_table, write_table
from datamodules.errors import InputError
from datamodules.files import require_output
from experiments.parsing import command_parser
from experiments.reward_items import read_gold, read_items


def run_reward_regress(arguments: Sequence[str]) -> int:
    """Run `imprint reward regress`; see `imprint reward regress --help`."""
    parser = command_parser("reward regress", "Regress rewards on features, in every specification.")
    parser.add_argument(
        "--scores", type=Path, required=True, help="csv, jsonl or parquet: group_id, item_id, reward (and reward_pre)"
    )
    parser.add_argument("--features", type=Path, required=True, help="The same ids, and columns of numbers")
    parser.add_argument("--output", type=Path, required=True, help="Parquet file to write")
    parser.add_argument("--length_column", type=str | None, default=None, help="Feature that is the text's length")
    parser.add_argument("--gold", type=Path | None, default=None, help="True features of a random sample of items")
    parser.add_argument("--drop", type=str, nargs="+", default=[], help="Columns that are no features")
    parser.add_argument("--dataset", type=str, default="", help="Name for the table's column dataset")
    parser.add_argument("--scorer", type=str, default="", help="Name for the table's column scorer")
    settings = parser.parse_args(list(arguments))
    _check_output(settings)
    console = Console(width=100, highlight=False)
    items = read_items(settings.scores, settings.features, settings.length_column, settings.drop)
    gold = None if settings.gold is None else read_gold(settings.gold, items)
    _check_columns(items.table)
    for line in items.report:
        console.print(line, markup=False)
    fits = fit_specs(items.table)
    corrected = [] if gold is None else fit_gold_specs(items.table, gold)
    rows = regression_rows([*fits, *corrected], dataset=settings.dataset, scorer=settings.scorer)
    table = make_table(rows)
    write_table(table, settings.output)
    print_regressions(items.table, fits, corrected, console)
    console.print(f"{table.num_rows:,} rows written to {settings.output}", markup=False, soft_wrap=True)
    return 0


def _check_output(settings: Any) -> None:
    """Raise InputError unless the output can be written and is no input."""
    if settings.output.suffix != ".parquet":
        raise InputError(f"--output {settings.output}", "a name that ends in .parquet", "--output")
    inputs = [path for path in (settings.scores, settings.features, settings.gold) if path is not None]
    if settings.output.resolve() in [path.resolve() for path in inputs]:
        raise InputError(f"{settings.output} as input and as output", "another file", "--output")
    require_output(settings.output, "--output")


def _check_columns(table: ItemTable) -> None:
    """Raise InputError when no regression can be fitted: no usable item, nothing varies, columns are collinear."""
    for slice_name in table.slices:
        spec = PUBLISHED_SPEC + LENGTH * (table.length_name is not None)
        used, counted = usable_rows(table, slice_name, spec)
        if not len(used):
            why = ", ".join(f"{reason} {count:,}" for reason, count in counted.items() if count)
            raise InputError(f"no usable item ({why})", "items with rewards and all features", "--scores, --features")
        design = make_design(table, slice_name, spec, used)
        names = [name for name, varies in zip(design.names, design.varying, strict=True) if varies]
        if not set(names) - {table.length_name}:
            raise InputError("features that are all constant", "a feature that varies", "--features")
        if len(used) <= len(names):
            found = f"{len(used)} usable items for {len(names)} features"
            raise InputError(found, "more items than features", "--features, --drop")
        if dependent := collinear_columns(design.x[:, design.varying], names, intercept=True):
            found = f"collinear features: {CollinearError(dependent)}"
            raise InputError(found, "features that do not determine each other", f"--drop {' '.join(dependent)}")


def print_regressions(
    table: ItemTable, fits: Sequence[SpecFit], corrected: Sequence[SpecFit], console: Console
) -> None:
    """Print the headline beside the published procedure, and which conclusions change; at most 100 columns."""
    by = {(fit.slice_name, fit.spec): fit for fit in fits}
    for slice_name in table.slices:
        published, within = by[slice_name, PUBLISHED_SPEC], by[slice_name, HEADLINE_SPEC]
        console.print(_comparison(published, within, table))
        told = [_denominators(published, "as published"), _denominators(within, "within")]
        for line in [*told, *_changes(published, within)]:
            console.print(line, markup=False)
    for fit in _shown_corrections(corrected):
        console.print(_corrected(by[fit.slice_name, fit.spec], fit, table))
        console.print(f"{fit.counted[GOLD]:,} of {fit.fit.n:,} items have gold labels", markup=False)
    for line in _notes([*fits, *corrected]):
        console.print(f"note: {line}", markup=False)


def _comparison(published: SpecFit, within: SpecFit, table: ItemTable) -> Table:
    """One row per feature: its slope as published and within groups."""
    which = f", {within.slice_name}," * bool(within.slice_name)
    title = f"Points of reward{which} per unit of a feature"
    shown = Table(title=title, title_justify="left", box=SIMPLE_HEAD, pad_edge=False)
    shown.add_column("feature", overflow="fold")
    for heading in ("as published", "p (Bonf.)", "within", "95% CI", "p (Holm)"):
        shown.add_column(heading, justify="right", no_wrap=True)
    shown.add_column("changes", no_wrap=True)
    for name in table.feature_names:
        if name == table.length_name:
            continue
        old, new = _numbers(published, name), _numbers(within, name)
        cells = [_short(old["beta"]), _p(old["p"]), _short(new["beta"]), _interval(new), _p(new["p"])]
        shown.add_row(Text(name), *cells, ", ".join(_verdict(old, new)))
    return shown


def _shown_corrections(corrected: Sequence[SpecFit]) -> list[SpecFit]:
    """Pick the corrected headline of every slice, or the pooled one where gold labels do not cover whole groups."""
    shown = {}
    for fit in corrected:
        if fit.spec == HEADLINE_SPEC and (not fit.fit.reason or fit.slice_name not in shown):
            shown[fit.slice_name] = fit
        elif not fit.spec.endswith(LENGTH):
            shown.setdefault(fit.slice_name, fit)
    return list(shown.values())


def _corrected(plain: SpecFit, corrected: SpecFit, table: ItemTable) -> Table:
    """One row per feature: its slope without and with correction for errors in the features."""
    which = f", {plain.slice_name}" * bool(plain.slice_name)
    title = f"Points of reward{which}, corrected for errors in the features ({plain.spec})"
    shown = Table(title=title, title_justify="left", box=SIMPLE_HEAD, pad_edge=False)
    shown.add_column("feature", overflow="fold")
    for heading in ("as predicted", "95% CI", "corrected", "95% CI", "p (Holm)"):
        shown.add_column(heading, justify="right", no_wrap=True)
    for name in table.feature_names:
        if name != table.length_name:
            old, new = _numbers(plain, name), _numbers(corrected, name)
            cells = [_short(old["beta"]), _interval(old), _short(new["beta"]), _interval(new), _p(new["p"])]
            shown.add_row(Text(name), *cells)
    return shown


def _numbers(fit: SpecFit, name: str) -> dict[str, float]:
    """Slope, interval and adjusted p-value of one feature."""
    k = fit.fit.names.index(name)
    return {
        "beta": float(fit.fit.beta[k]),
        "low": float(fit.fit.ci_low[k]),
        "high": float(fit.fit.ci_high[k]),
        "p": float(fit.p_adjusted[k]),
    }


def _verdict(old: dict[str, float], new: dict[str, float]) -> list[str]:
    """Say which conclusions of the published procedure change: the sign, or significance (lost or gained)."""
    if np.isnan(new["beta"]) or np.isnan(old["beta"]):
        return ["undefined"]
    verdict = ["sign"] if np.sign(old["beta"]) != np.sign(new["beta"]) else []
    was, now = old["p"] < SIGNIFICANT, new["p"] < SIGNIFICANT
    if np.isnan(new["p"]):
        return [*verdict, "untestable"]
    if was != now:
        verdict.append("gained" if now else "lost")
    return verdict


def _changes(published: SpecFit, within: SpecFit) -> list[str]:
    """Count the conclusions that change, over the features that both have."""
    names = [name for name in published.fit.names if not name.startswith("(")]
    verdicts = {name: _verdict(_numbers(published, name), _numbers(within, name)) for name in names}
    groups = {
        "change their sign": "sign",
        "lose significance": "lost",
        "gain significance": "gained",
        "cannot be compared": "undefined",
        "cannot be tested within groups": "untestable",
    }
    lines = []
    for words, key in groups.items():
        found = [name for name, verdict in verdicts.items() if key in verdict]
        if found:
            lines.append(f"{len(found)} of {len(names)} features {words}: {', '.join(found)}")
    return lines or [f"no conclusion changes for any of {len(names)} features"]


def _denominators(spec_fit: SpecFit, title: str) -> str:
    """Say how many items, clusters and tests stand behind a column, and what was left out."""
    fit, tested = spec_fit.fit, int(np.isfinite(spec_fit.p_adjusted).sum())
    if spec_fit.spec == PUBLISHED_SPEC:
        how = f"classical errors, Bonferroni over {tested} terms with the intercept"
    else:
        how = f"errors clustered by {spec_fit.used_clusters:,} clusters, Holm over {tested} terms"
    left = ", ".join(f"{count:,} {reason}" for reason, count in spec_fit.counted.items() if count) or "none"
    return f"{title}: {fit.n:,} of {spec_fit.n_items:,} items (left out: {left}); {how}; R2 {_short(fit.r_squared)}"


def _notes(fits: Sequence[SpecFit]) -> list[str]:
    """Gather the notes, each with the specs that it holds for."""
    found: dict[str, list[str]] = {}
    for fit in fits:
        corrected = " with gold" if GOLD in fit.counted else ""
        for note in fit.notes:
            found.setdefault(note, []).append(f"{fit.spec}{corrected}{f' ({fit.slice_name})' * bool(fit.slice_name)}")
    return [f"{', '.join(specs)}: {note}" for note, specs in found.items()]


def _short(value: float) -> str:
    return "-" if np.isnan(value) else f"{value:.3g}"


def _interval(numbers: dict[str, float]) -> str:
    return "-" if np.isnan(numbers["low"]) else f"{numbers['low']:.3g} to {numbers['high']:.3g}"


def _p(value: float) -> str:
    if np.isnan(value):
        return "-"
    return "< .001" if value < 0.001 else f"{value:.3f}".removeprefix("0")
