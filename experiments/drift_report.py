"""What moved, when, by how much, and is it more than noise? Drift in words and tables."""

import math
import textwrap
from collections.abc import Sequence

from audits.findings import p_text
from experiments.drift_verdicts import CHANGES, CONTRAST, MOVED, SAME, Row, drift_summary
from experiments.table_formats import WIDTH, Column, format_table
from train.drift import Drift

# So that a table is not wider than a terminal.
SHORT = {SAME: "not apart"}
READING = (
    "not apart: not told apart from no change at all; within noise: apart, but no further than the arithmetic "
    "moves it; first: the first step at which it had moved; churn: % of decisions that changed",
    "intervals speak of the population of prompts that a data set was drawn from, with these very weights and "
    "thresholds; each checkpoint has thresholds of its own",
)
NO_SEEDS = "seed noise unknown: no sibling run (the same settings with another --run.seed)"


def _points(value: float) -> str:
    return "-" if math.isnan(value) else f"{100 * value:+.1f}"


def _percent(value: float | None) -> str:
    return "-" if value is None or math.isnan(value) else f"{100 * value:.1f}"


def _change(row: Row) -> str:
    """The change with its interval: in points, of a slope in points of reward."""
    write = _points if row["measure"] == "prevalence" else (lambda value: f"{value:+.3g}")
    if math.isnan(row["change"]):
        return "-"
    interval = "" if math.isnan(row["ci_low"]) else f" ({write(row['ci_low'])} to {write(row['ci_high'])})"
    return f"{write(row['change'])}{interval}"


def _level(row: Row, name: str) -> str:
    if row["measure"] == "prevalence":
        return _percent(row[name]) if row["slice"] != CONTRAST else _points(row[name])
    return "-" if math.isnan(row[name]) else f"{row[name]:.3g}"


def _p(value: float) -> str:
    if math.isnan(value):
        return "-"
    return "< .001" if value < 0.001 else f"{value:.3f}".removeprefix("0")


def _cells(row: Row) -> Row:
    """Cells of one row for readers, as texts."""
    seeds = {None: "-", True: "beyond", False: "within"}[row.get("beyond_seeds")]
    return row | {
        "verdict": SHORT.get(row["verdict"], row["verdict"]),
        "before": _level(row, "before"),
        "after": _level(row, "after"),
        "change": _change(row),
        "p_adjusted": _p(row["p_adjusted"]),
        "first_moved": "-" if row["first_moved"] is None else str(row["first_moved"]),
        "churn": _percent(row.get("churn")),
        "beyond_seeds": seeds,
    }


READ = {
    "dataset": Column("dataset", "data set"),
    "slice": Column("slice", "slice"),
    "scorer": Column("scorer", "reward"),
    "value": Column("value", "value"),
    "before": Column("before", "before", str, numeric=True),
    "after": Column("after", "after", str, numeric=True),
    "change": Column("change", "change (95% CI)", str, numeric=True),
    "p_adjusted": Column("p_adjusted", "p adj.", str, numeric=True),
    "first_moved": Column("first_moved", "first", str, numeric=True),
    "churn": Column("churn", "churn", str, numeric=True),
    "verdict": Column("verdict", "verdict"),
    "beyond_seeds": Column("beyond_seeds", "seeds"),
}
# Every number, for programs.
COLUMNS = (
    *("dataset", "view", "compared_with", "run_id", "step", "measure", "slice", "scorer", "value"),
    *("before", "after", "change", "ci_low", "ci_high", "p_adjusted", "method", "first_moved", "churn", "kappa"),
    *("psi", "numerical_churn", "seed_range", "beyond_seeds", "verdict", "n", "n_clusters"),
)


def format_drift(drifts: Sequence[Drift], how: str) -> str:
    """Write a drift report: `text` in at most 100 columns, `md`, `latex`, `csv` or `json`."""
    shared = list(dict.fromkeys((*READING, *map(_seed_note, drifts))))
    notes = [*(line for drift in drifts for line in drift_notes(drift)), *shared]
    if how in ("csv", "json"):
        rows = [row for drift in drifts for row in drift_summary(drift)]
        return format_table([Column(name, name) for name in COLUMNS], rows, how, "imprint drift", notes)
    if how == "text":
        return "\n".join([*map(_text, drifts), _wrapped(shared)])
    rows = [_cells(row) for drift in drifts for row in drift_summary(drift)]
    shown = [column for name, column in READ.items() if any(row.get(name) not in ("", "-", None) for row in rows)]
    return format_table(shown, rows, how, f"Drift: {', '.join(map(_title, drifts))}", notes)


def _text(drift: Drift) -> str:
    """The report of one data set: chosen, chosen minus rejected, slopes, and what stands behind the numbers."""
    rows = drift_summary(drift)
    values = ("value", "before", "after", "change", "p_adjusted", "first_moved", "churn", "verdict")
    more = ("beyond_seeds",) if drift.seeds is not None else ()
    titles = {
        "chosen": (f"{_title(drift)}: % of chosen responses that carry each value", values + more),
        CONTRAST: ("chosen minus rejected, points", tuple(name for name in values if name != "churn") + more),
    }
    parts = []
    for part, (title, names) in titles.items():
        own = [_cells(row) for row in rows if row["measure"] == "prevalence" and row["slice"] == part]
        parts.append(format_table([READ[name] for name in names], own, "text", title) if own else "")
    slopes = [row for row in rows if row["measure"] == "slope"]
    for scorer, part in dict.fromkeys((row["scorer"], row["slice"]) for row in slopes):
        every = [row for row in slopes if (row["scorer"], row["slice"]) == (scorer, part)]
        own = [_cells(row) for row in every if not (math.isnan(row["before"]) and math.isnan(row["change"]))]
        title = f"imprint of {scorer}{f' ({part})' * bool(part)}, points of reward per value, within pairs"
        names = tuple(name for name in values if name != "churn")
        parts.append(format_table([READ[name] for name in names], own, "text", title))
        if without := [row["value"] for row in every if math.isnan(row["before"]) and math.isnan(row["change"])]:
            parts.append(_wrapped([f"no slope at the first look: {', '.join(without)}"]))
    return "".join([*parts, _wrapped([*_distances(drift), *drift_notes(drift)])])


def _wrapped(lines: Sequence[str]) -> str:
    """Fill lines up to a terminal's width."""
    return "".join(f"{textwrap.fill(line, WIDTH, subsequent_indent='  ', break_long_words=False)}\n" for line in lines)


def _title(drift: Drift) -> str:
    before, last = drift.compared_with, drift.last
    after = f"step {last.step}" if before.startswith("step-") else last.run.run_id
    return f"{drift.series.dataset}, {before.replace('step-', 'step ', 1)} to {after}"


def _distances(drift: Drift) -> list[str]:
    """The order of the values and the top-1 shares, at the last look."""
    rows = [row for row in drift.table.to_pylist() if row["step"] == drift.last.step and not row["subset"]]
    distance = {row["slice"]: row["estimate"] for row in rows if row["metric"] == "js_distance"}
    order = {
        row["method"].split("-")[0]: row["estimate"]
        for row in rows
        if row["metric"] == "rank_correlation" and row["slice"] == "chosen"
    }
    sides = ", ".join(f"{_three(value)} {side}" for side, value in distance.items())
    ranks = ", ".join(f"{name.capitalize()} {_three(value)}" for name, value in order.items())
    lines = [f"Jensen-Shannon distance of top-1 shares: {sides}; order of the values (chosen): {ranks}"]
    psi = [row for row in rows if row["metric"] == "psi" and row["slice"] == "chosen"]
    largest = max((row for row in psi if math.isfinite(row["estimate"])), key=lambda row: row["estimate"], default=None)
    if largest is not None:
        lines[0] += f"; largest PSI {_three(largest['estimate'])}, {largest['feature']} (descriptive, without error)"
    return lines


def _three(value: float | None) -> str:
    return "-" if value is None or math.isnan(value) else f"{value:.3f}"


def drift_notes(drift: Drift) -> list[str]:
    """Say what stands behind the numbers of a data set: denominators, family and method, numerical noise."""
    changes = [row for row in drift.table.to_pylist() if row["metric"] in CHANGES.values() and not row["subset"]]
    last = next((row for row in changes if row["slice"] == "chosen" and row["step"] == drift.last.step), None)
    name = drift.series.dataset
    n_left = drift.n_trained_on
    left = f", {n_left:,} left out: the classifier was trained on a text of theirs" if n_left else ""
    pairs = f"{last['n']:,} pairs with a preferred side in {last['n_clusters']:,} prompts" if last else "no such pairs"
    n_looks = len({row["step"] for row in changes})
    family = f"{len(changes):,} tests (values, slices and {n_looks} look{'s' if n_looks > 1 else ''})"
    if drift.planned_looks is None:
        how = f"max-T over all {family} together, multiplier bootstrap over prompts"
    else:
        how = f"{family}; Bonferroni over {drift.planned_looks} planned looks, max-T within each"
    return [
        f"{name}: {pairs} of {drift.n_pairs:,} pairs{left}; view {drift.series.view}",
        f"{name}: p and intervals are simultaneous: {how}",
        _numerical_note(drift),
        *(f"{name}: {note}" for note in drift.notes),
    ]


def _numerical_note(drift: Drift) -> str:
    if not drift.numerical:
        return f"{drift.series.dataset}: numerical noise not measured (--audit.noise_floor), taken to be 0"
    worst = max(drift.numerical, key=lambda label: drift.numerical[label])
    share = drift.numerical[worst]
    most = f"at most {100 * share:.2f}% of decisions ({worst})" if share else "no decision"
    return f"{drift.series.dataset}: another batch size or precision flips {most}"


def _seed_note(drift: Drift) -> str:
    if drift.seeds is None:
        return NO_SEEDS
    ids = drift.seeds.run_ids
    return f"seeds: {len(ids)} runs that differ in their seed alone, largest difference of their best checkpoints"


def moved_lines(drifts: Sequence[Drift], most: int = 6) -> list[str]:
    """Put what moved into a few sentences, for the end of a run: a line or two per data set."""
    lines = []
    for drift in drifts:
        rows = [row for row in drift_summary(drift) if row["measure"] == "prevalence"]
        lines.append(
            f"{_title(drift)}: {_moved([row for row in rows if row['slice'] == 'chosen'], 'chosen responses')}"
        )
        contrast = [row for row in rows if row["slice"] == CONTRAST]
        if any(row["verdict"] == MOVED for row in contrast):
            lines.append(f"{_title(drift)}: {_moved(contrast, 'chosen minus rejected')}")
    told = lines[:most]
    if len(lines) > most:
        told[-1] = f"({len(lines) - most + 1} more: imprint drift)"
    return told


def _moved(rows: list[Row], what: str) -> str:
    moved = [row for row in rows if row["verdict"] == MOVED]
    # A net of a signed value is no value of its own.
    values = "labels and nets" if any(row["value"].endswith("-net") for row in rows) else "values"
    if moved:
        top = moved[0]
        return (
            f"{len(moved)} of {len(rows)} {values} moved in {what}, most {top['value']} {_change(top)} points "
            f"(adjusted p {p_text(top['p_adjusted'])}, {top['n']:,} pairs)"
        )
    tested = [row for row in rows if math.isfinite(row["p_adjusted"])]
    if not tested:
        return f"no change of {len(rows)} {values} in {what} could be tested"
    top = min(tested, key=lambda row: row["p_adjusted"])
    return (
        f"none of {len(rows)} {values} moved beyond noise in {what}, closest {top['value']} {_change(top)} points "
        f"(adjusted p {p_text(top['p_adjusted'])}, {top['n']:,} pairs)"
    )
