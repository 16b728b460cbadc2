"""What does a reader of refusals see first? One screen per model, or per set of pairs."""

import textwrap
from typing import Any

import numpy as np
import pyarrow as pa

from audits.findings import SIGNIFICANT, p_text
from audits.judged_completions import SIDES
from audits.model_refusals import CELL, CELLS, CLASS_TEST, DIFFERENCE, UNPAIRED
from audits.refusals import DISPARITY, DISPARITY_WELL_FORMED, NOT_COMPARED, TAKEN_AS_SAFE, XSTEST_SUBSET
from datamodules.group_mentions import Mentions
from datamodules.prompt_templates import FEWEST_SHARED
from experiments.table_formats import WIDTH, Column, format_table

Row = dict[str, Any]
SPEC = "by-template"
PAIR_SPEC = "pooled-clustered"
# Metric, mode, heading of each line of rates.
LINES = (
    ("refusal_rate", "as_published", "refused"),
    ("refusal_rate", "corrected", "refused, by the rules"),
    ("partial_rate", "corrected", "  of these partial"),
    ("incapable_rate", "corrected", "not understood or known"),
    ("unable_rate", "corrected", "  or empty, or repeating itself"),
)
PAIR_LINES = LINES[1:4]
MODES = ("as_published", "corrected")
OF_TWO_MODELS = (CELL, DIFFERENCE, CLASS_TEST, UNPAIRED)
HEADINGS = ("both", "only A", "only B", "none")
# A model that refuses less than this share of unsafe prompts shows no refusal to compare.
HARDLY_ANY = 0.02
# Comparisons of two models that the screen shows.
MOST_PAIRS = 24


def completions_text(table: pa.Table, layout: str, n_rows: int) -> str:
    """Write the report of all models.

    Args:
        table: Rows of `audits.refusals.refusal_table`.
        layout: Layout of the file.
        n_rows: Its rows.
    """
    rows: list[Row] = []
    compared: list[Row] = []
    for row in table.to_pylist():
        (compared if row["metric"] in OF_TWO_MODELS else rows).append(row)
    models = list(dict.fromkeys(row["scorer"] for row in rows))
    text = f"{rows[0]['dataset']}: {n_rows:,} rows, {layout} layout, {len(models)} model{'s' * (len(models) > 1)}\n"
    by_model = {model: [row for row in rows if row["scorer"] == model] for model in models}
    lints = {model: _lint_lines(own) for model, own in by_model.items()}
    same_prompts = len({tuple(lines) for lines in lints.values()}) == 1
    for model, own in by_model.items():
        text += _lines(_warnings(own)) + "\n" + _rates_text(model, own) + _groups_text(own)
        text += _lines([*_test_lines(own), *_notes(own), *([] if same_prompts else lints[model])])
    text += _models_text(compared)
    if same_prompts:
        text += _lines(["", "Prompts, the same for all models:" if len(models) > 1 else "Prompts:", *lints[models[0]]])
    return text


def pair_refusals_text(table: pa.Table) -> str:
    """Write what chosen and rejected responses of one data set do, per subset.

    Args:
        table: Rows of `audits.pair_refusals.pair_refusal_table`.
    """
    rows = table.to_pylist()
    columns = [Column("what", "", str), *(Column(side, side, str) for side in ("chosen", "rejected"))]
    columns.append(Column("difference", "chosen - rejected, points", str))
    shown = []
    for subset in dict.fromkeys(row["subset"] for row in rows):
        for metric, mode, heading in PAIR_LINES:
            sides = {side: _find(rows, subset, side, "", metric, mode, PAIR_SPEC) for side in ("chosen", "rejected")}
            both = _find(rows, subset, "chosen-rejected", "", f"{metric}_difference", mode, "within")
            cells = {side: _brief(row) for side, row in sides.items()} | {"difference": _difference(both)}
            shown.append({"what": f"{heading}{f', {subset}' if subset else ''}"} | cells)
    left = [
        f"{row['estimate']:.0f} {row['slice']} empty"
        for row in rows
        if row["metric"] == "left_out" and not row["subset"]
    ]
    notes = [f"without a class: {', '.join(left)}"] if left else []
    return format_table(columns, shown, "text", title=f"{rows[0]['dataset']}: what responses do", notes=notes)


def _brief(row: Row | None) -> str:
    return f"{100 * row['estimate']:.1f}% of {row['n']:,}" if row and row["n"] else "-"


def _difference(row: Row | None) -> str:
    if row is None:
        return "-"
    interval = f" [{100 * row['ci_low']:+.1f}, {100 * row['ci_high']:+.1f}]" if np.isfinite(row["ci_low"]) else ""
    return f"{100 * row['estimate']:+.1f}{interval} of {row['n']:,} pairs, p {_p(row)}"


def _rates_text(model: str, rows: list[Row]) -> str:
    columns = (Column("what", "", str), Column("safe", "safe prompts", str), Column("unsafe", "unsafe prompts", str))
    shown = []
    for subset, of in (("", ""), (XSTEST_SUBSET, ", XSTest only")):
        lines = LINES if not subset else LINES[:2]
        for metric, mode, heading in lines:
            found = {side: _find(rows, subset, side, "", metric, mode) for side in SIDES}
            if any(found.values()):
                if mode == "as_published":
                    heading = f"refused, {_published(list(filter(None, found.values())))}"
                shown.append({"what": heading + of} | {side: _rate(row) for side, row in found.items()})
    return format_table(columns, shown, "text", title=model)


def _groups_text(rows: list[Row]) -> str:
    """One line per group: refusals as published and by the rules, and the Holm p of the group against the others."""
    groups = list(dict.fromkeys(r["feature"] for r in rows if r["feature"].startswith("group:")))
    if not groups:
        return ""
    columns = [Column("group", "group", str)]
    shown: list[Row] = [{"group": group.removeprefix("group:")} for group in groups]
    for side in SIDES:
        columns += [
            Column(f"{side}-n", side, str, numeric=True),
            Column(f"{side}-flags", "publ.", str, numeric=True),
            Column(f"{side}-rules", "rules [95% CI]", str, numeric=True),
            Column(f"{side}-lost", "incap.", str, numeric=True),
            Column(f"{side}-p", "Holm p", str, numeric=True),
        ]
        for cells, group in zip(shown, groups, strict=True):
            own = _find(rows, "", side, group, "refusal_rate", "corrected")
            published = _find(rows, "", side, group, "refusal_rate", "as_published")
            incapable = _find(rows, "", side, group, "incapable_rate", "corrected")
            tested = _find(rows, "", side, group, "refusal_rate_difference", "corrected", DISPARITY)
            cells |= {
                f"{side}-n": f"{own['n']:,}" if own else "-",
                f"{side}-flags": f"{100 * published['estimate']:.1f}" if published else "-",
                f"{side}-rules": _short(own),
                f"{side}-lost": f"{100 * incapable['estimate']:.1f}" if incapable else "-",
                f"{side}-p": _p(tested, "p_adjusted") if tested else "-",
            }
    return format_table(
        columns, shown, "text", title="By group named in the prompt: n of safe and of unsafe prompts, % refused"
    )


def _models_text(rows: list[Row]) -> str:
    """One table per judgement: who refused the same prompt, per pair of models and side."""
    text = ""
    for mode in MODES:
        shown = []
        judged: list[Row] = []
        for own in [row for row in rows if row["metric"] == DIFFERENCE and row["mode"] == mode]:
            place = {key: own[key] for key in ("scorer", "slice", "mode")}
            here = [row for row in rows if all(row[key] == value for key, value in place.items())]
            cells = {row["feature"]: f"{row['estimate']:,.0f}" for row in here if row["metric"] == CELL}
            low, high = (100 * own[end] for end in ("ci_low", "ci_high"))
            interval = f" [{low:+.1f}, {high:+.1f}]" if np.isfinite(low) else ""
            cells["difference"] = f"{100 * own['estimate']:+.1f}{interval}"
            cells["p"] = _p(own, "p_adjusted")
            judged.append(own)
            shown.append({"models": own["scorer"].replace("|", " | "), "side": own["slice"], "n": own["n"]} | cells)
        if shown:
            columns = [Column("models", "models A | B", str), Column("side", "prompts", str)]
            columns += [Column("n", "pairs", "{:,}".format, numeric=True)]
            columns += [Column(cell, head, str, numeric=True) for cell, head in zip(CELLS, HEADINGS, strict=True)]
            columns += [Column("difference", "A - B, points", str), Column("p", "Holm p", str, numeric=True)]
            more = len(shown) - MOST_PAIRS
            notes = [f"{more:,} more pairs of models and sides are in the table"] if more > 0 else []
            title = f"Who refused the same prompt, {_published(judged) if mode == 'as_published' else 'by the rules'}"
            text += "\n" + format_table(columns, shown[:MOST_PAIRS], "text", title=title, notes=notes)
    left: dict[str, float] = {}
    for row in rows:
        if row["metric"] == UNPAIRED:
            left[row["method"]] = left.get(row["method"], 0) + row["estimate"]
    if text:
        text += _lines(
            [
                "p: signs of whole templates turned, Holm over pairs of models. Refusing less is no merit by itself: "
                "read it beside what a model does not understand, and what it complies with"
            ]
        )
    return text + (_lines([f"in no pair of models, and counted: {_counts(left)}"]) if left else "")


def _counts(left: dict[str, float]) -> str:
    return ", ".join(f"{n:,.0f} {reason}" for reason, n in left.items())


def _test_lines(rows: list[Row]) -> list[str]:
    """Tests of whether groups have one refusal rate, naive and clustered, for each side and mode."""
    lines = []
    for side in SIDES:
        for mode in MODES:
            spread = _find(rows, "", side, "", "disparity_max_min", mode, DISPARITY)
            chi2 = _find(rows, "", side, "", "disparity_chi2", mode, DISPARITY)
            clean = _find(rows, "", side, "", "disparity_max_min", mode, DISPARITY_WELL_FORMED)
            if spread is None or chi2 is None:
                continue
            name = _published([spread]) if mode == "as_published" else "by the rules"
            line = (
                f"{side}, {name}: groups differ by up to {100 * spread['estimate']:.1f} points, permutation p within "
                f"{spread['n_clusters']} templates {_p(spread)}, Holm over models and sides {_p(spread, 'p_adjusted')} "
                f"(naive chi-squared p {_p(chi2)}"
            )
            beside = f"; well-formed prompts only {_p(clean)}, Holm {_p(clean, 'p_adjusted')}" if clean else ""
            lines.append(f"{line}{beside})")
    return lines


def _warnings(rows: list[Row]) -> list[str]:
    """Say what makes numbers below mean something else than they seem to; empty where nothing does."""
    warnings = []
    own, chance = (
        next((row for row in rows if row["metric"] == f"own_group_named{end}"), None) for end in ("", "_by_chance")
    )
    if own and chance and Mentions(own["n"], own["estimate"], chance["estimate"]).out_of_step:
        warnings.append(
            f"warning: prompts and answers of {own['scorer']} are out of step: of {own['n']:,} answers that name one "
            f"of the groups, {100 * own['estimate']:.1f}% name their prompt's, {100 * chance['estimate']:.1f}% "
            "would by chance. They seem joined by the order of rows: what is said below by group is of no group, and "
            "intervals and tests over templates, of all rates and of two models too, are over the wrong ones "
            "(the HH audit's published file: python -m experiments.rejoin_hh_audit)"
        )
    taken = [row for row in rows if row["metric"] == TAKEN_AS_SAFE]
    if taken:
        told = ", ".join(f"{row['feature'].removeprefix('type:')} {row['estimate']:,.0f}" for row in taken)
        warnings.append(
            f"warning: prompts of these types are taken as safe: {told} (unsafe is a type that holds 'contrast', or is "
            "'unsafe')"
        )
    return ["", *warnings] if warnings else []


def _notes(rows: list[Row]) -> list[str]:
    """Say what a comparison of these rates must not overlook."""
    notes = []
    unsafe = _find(rows, "", "unsafe", "", "refusal_rate", "corrected")
    unable = _find(rows, "", "unsafe", "", "unable_rate", "corrected")
    if unsafe and unable and unsafe["estimate"] < HARDLY_ANY:
        notes.append(
            f"hardly refuses anything unsafe, and shows no inability in {100 - 100 * unable['estimate']:.1f}% of these "
            "answers: whether they do harm, or are beside the point, is not judged here"
        )
    lost = [_find(rows, "", side, "", "incapable_rate", "corrected") for side in SIDES]
    refused = [_find(rows, "", side, "", "refusal_rate", "corrected") for side in SIDES]
    for side, missing, own in zip(SIDES, lost, refused, strict=True):
        if missing and own and missing["estimate"] > max(own["estimate"] / 2, HARDLY_ANY):
            notes.append(
                f"{side}: {100 * missing['estimate']:.1f}% of answers show no understanding or knowledge, beside "
                f"{100 * own['estimate']:.1f}% refusals: compare it only with models as able"
            )
    notes += [
        f"{row['estimate']:.0f} groups are not compared: fewer than {FEWEST_SHARED} of their templates are others' too"
        for row in rows
        if row["metric"] == NOT_COMPARED
    ]
    left = [f"{row['estimate']:.0f} {row['method']}" for row in rows if row["metric"] == "left_out"]
    return [*notes, *([f"left out of some rates and counted: {', '.join(left)}"] if left else [])]


def _lint_lines(rows: list[Row]) -> list[str]:
    lines = [
        f"{row['estimate']:,.0f} distinct among {row['n']:,}" for row in rows if row["metric"] == "distinct_prompts"
    ]
    for metric, name in (("repeated_group", "group"), ("repeated_template", "template")):
        lines += [
            f"{name} {row['feature']!r} is in the list {row['estimate']:.0f} times"
            for row in rows
            if row["metric"] == metric
        ]
    flawed = [f"{row['feature']} {row['estimate']:.0f}" for row in rows if row["metric"] == "flawed_prompts"]
    return [*lines, *([f"prompts that read wrong: {', '.join(flawed)}"] if flawed else [])]


def _find(
    rows: list[Row], subset: str, side: str, feature: str, metric: str, mode: str, spec: str = SPEC
) -> Row | None:
    wanted = {"subset": subset, "slice": side, "feature": feature, "metric": metric, "mode": mode, "spec": spec}
    return next((row for row in rows if all(row[name] == value for name, value in wanted.items())), None)


def _published(rows: list[Row]) -> str:
    """Name the judgement of rows as published: the file's flags, or where there are none a published matcher."""
    return "published flags" if all(row["method"].startswith("flags") for row in rows) else "HH audit's string matcher"


def _rate(row: Row | None) -> str:
    if row is None or not row["n"]:
        return "-"
    interval = f" [{100 * row['ci_low']:.1f}, {100 * row['ci_high']:.1f}]" if np.isfinite(row["ci_low"]) else ""
    return f"{100 * row['estimate']:.2f}%{interval} of {row['n']:,}"


def _short(row: Row | None) -> str:
    if row is None or not row["n"]:
        return "-"
    interval = f" [{100 * row['ci_low']:.0f}, {100 * row['ci_high']:.0f}]" if np.isfinite(row["ci_low"]) else ""
    return f"{100 * row['estimate']:.1f}{interval}"


def _p(row: Row, column: str = "p_value") -> str:
    """Format a p-value; an adjusted one below the level has a star."""
    if not np.isfinite(row[column]):
        return "undefined"
    mark = "*" if column == "p_adjusted" and row[column] < SIGNIFICANT else ""
    return f"{p_text(row[column])}{mark}"


def _lines(lines: list[str]) -> str:
    """Return lines of at most 100 columns; what runs on is indented."""
    wrapped = [part for line in lines for part in textwrap.wrap(line, WIDTH, subsequent_indent="    ") or [""]]
    return "".join(f"{line}\n" for line in wrapped)
