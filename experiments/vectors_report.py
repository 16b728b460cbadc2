"""What does a reader of value vectors see first? One screen on models, mask, circle, tags and reward."""

import re
import textwrap
from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np
import pyarrow as pa

from audits.findings import SIGNIFICANT, p_text
from audits.item_table import HEADLINE_SPEC, PUBLISHED_SPEC
from audits.reward_regression import SpecFit
from datamodules.circumplex import READINGS
from datamodules.target_vectors import TargetVector
from datamodules.taxonomy import Taxonomy
from datamodules.value_vectors import ValueVectors
from experiments.table_formats import WIDTH, Column, format_table

Row = dict[str, Any]
# Distances that the first screen shows, with their headings.
SHOWN = {"l2": "L2", "l1": "L1", "basealign": "BaseAlign", "basealign_unmasked": "unmasked", "smooth": "smooth"}
MOST_TAGS = 12
TAG_WIDTH = 22


def vectors_text(data: ValueVectors, taxonomy: Taxonomy, targets: Sequence[TargetVector], table: pa.Table) -> str:
    """Write the report of a file of value vectors.

    Args:
        data: The vectors.
        taxonomy: Their values.
        targets: What they were measured against.
        table: Rows of `audits.value_panel.panel_rows`.
    """
    rows = [row for row in table.to_pylist() if row["audit"] == "value-space"]
    prompts = len(np.unique(data.prompts))
    n = f"{len(data.models):,} value vectors of {len(data.model_names)} models for {prompts:,} prompts"
    left = f"; {data.n_left_out:,} of {data.n_read:,} rows left out, without a vector" if data.n_left_out else ""
    lines = [f"{data.name}: {n}{left}", *(f"target {t.name}: {t.title}" for t in targets)]
    lines += _stored_lines(rows) + _reward_lines(rows, data)
    parts = ["\n".join(_wrapped(lines)) + "\n", _values_text(rows, data, taxonomy)]
    parts.append(_distances_text(rows, data, targets))
    parts.append("\n".join(_wrapped([*_mask_lines(rows, targets), "", *_circle_lines(rows, taxonomy)])) + "\n")
    return "\n".join([*parts, *([_tags_text(rows, data)] if data.tag_names else [])])


def regression_lines(fits: Sequence[SpecFit]) -> list[str]:
    """Say in how many values the conclusions on reward change from the pooled to the within regression."""
    by = {fit.spec: fit for fit in fits}
    if not by:
        return ["no column reward: nothing to regress"]
    published, clustered, within = (by[spec] for spec in (PUBLISHED_SPEC, "pooled-clustered", HEADLINE_SPEC))
    names = [name for name in within.fit.names if not name.startswith("(")]
    beta = {fit.spec: dict(zip(fit.fit.names, fit.fit.beta.tolist(), strict=True)) for fit in (published, within)}
    known = [name for name in names if np.isfinite(beta[PUBLISHED_SPEC].get(name, np.nan) + beta[HEADLINE_SPEC][name])]
    flipped = [name for name in known if beta[PUBLISHED_SPEC][name] * beta[HEADLINE_SPEC][name] < 0]
    counts = [f"{_significant(fit)} {told}" for fit, told in ((published, "as published (classical, Bonferroni)"),)]
    counts += [f"{_significant(clustered)} clustered by prompt (Holm)", f"{_significant(within)} within prompts (Holm)"]
    lines = [
        f"reward on {len(names)} values, {published.fit.n:,} answers; significant: {', '.join(counts)}",
        f"signs that change from pooled to within prompts: {len(flipped)} of {len(known)}"
        + (f" ({', '.join(flipped)})" if flipped else ""),
        *(f"note: {spec}: {note}" for spec, fit in by.items() for note in fit.notes if not spec.endswith("-length")),
    ]
    return _wrapped(lines)


def _wrapped(lines: Sequence[str]) -> list[str]:
    """Return lines of at most 100 columns; what runs on is indented further than its beginning."""
    found: list[str] = []
    for line in lines:
        indent = " " * (len(line) - len(line.lstrip()) + 4)
        kept = textwrap.wrap(line, WIDTH, subsequent_indent=indent, break_long_words=False, break_on_hyphens=False)
        found += kept or [""]
    return found


def _broken(tag: str) -> str:
    """Break a tag behind commas and underscores, into lines as wide as its column."""
    lines = [""]
    for piece in re.findall(r"[^,_]*[,_]*", tag):
        if lines[-1] and len(lines[-1]) + len(piece) > TAG_WIDTH:
            lines.append("")
        lines[-1] += piece
    return "\n".join(lines)


def _significant(fit: SpecFit) -> int:
    terms = [k for k, name in enumerate(fit.fit.names) if not name.startswith("(")]
    return int((fit.p_adjusted[terms] < SIGNIFICANT).sum())


def _slices(data: ValueVectors) -> list[str]:
    return list(data.model_names) if len(data.model_names) > 1 else [""]


def _headings(data: ValueVectors) -> list[Column]:
    return [Column(name, name or data.model_names[0], str, numeric=True) for name in _slices(data)]


def _find(rows: list[Row], **columns: str) -> Row | None:
    subset = columns.pop("subset", "")
    found = (row for row in rows if row["subset"] == subset and all(row[k] == v for k, v in columns.items()))
    return next(found, None)


def _values_text(rows: list[Row], data: ValueVectors, taxonomy: Taxonomy) -> str:
    """One line per value and group of values: its mean in each model, and whether two models differ."""
    compared = f"{' - '.join(data.model_names)}" if len(data.model_names) == 2 else ""
    columns = [Column("feature", "mean, 95% CI", str), *_headings(data)]
    columns += [Column("difference", "difference (Holm p)", str, numeric=True)] if compared else []
    shown: list[Row] = []
    for metric, names in (
        ("mean_value", [f"{slug}-net" for slug in taxonomy.slugs]),
        ("mean_group_value", list(taxonomy.groups)),
    ):
        for feature in names:
            cells = {name: _cell(_find(rows, metric=metric, feature=feature, slice=name)) for name in _slices(data)}
            row = _find(rows, metric=f"{metric}_difference", feature=feature, slice=compared) if compared else None
            difference = "-" if row is None else f"{row['estimate']:+.3f} ({p_text(row['p_adjusted'])})"
            shown.append({"feature": feature, **cells, "difference": difference})
    own = [row for row in rows if row["metric"] == "mean_value" and not row["subset"]]
    counts = {name or data.model_names[0]: _n(row for row in own if row["slice"] == name) for name in _slices(data)}
    note = ", ".join(f"{name} {n}" for name, n in counts.items())
    return format_table(columns, shown, "text", notes=[f"answers: {note}"])


def _n(rows: Iterable[Row]) -> str:
    """Say how many answers numbers rest on; the fewest and the most where they differ."""
    counts = sorted({row["n"] for row in rows})
    return " to ".join(f"{n:,}" for n in dict.fromkeys((counts[0], counts[-1]))) if counts else "0"


def _distances_text(rows: list[Row], data: ValueVectors, targets: Sequence[TargetVector]) -> str:
    columns = [Column("target", "mean distance to", str), Column("model", "model", str)]
    columns += [Column("n", "n", str, numeric=True)]
    columns += [Column(method, heading, _digits, numeric=True) for method, heading in SHOWN.items()]
    shown = []
    for target in targets:
        for name in _slices(data):
            found = {m: _find(rows, metric=f"{m}_distance", feature=target.name, slice=name) for m in SHOWN}
            cells = {method: None if row is None else float(row["estimate"]) for method, row in found.items()}
            n = _n(row for row in found.values() if row is not None)
            shown.append({"target": target.name, "model": name or data.model_names[0], "n": n, **cells})
    return format_table(columns, shown, "text")


def _mask_lines(rows: list[Row], targets: Sequence[TargetVector]) -> list[str]:
    lines = ["Does BaseAlign's masked distance order answers as without its mask? Spearman, 95% CI over prompts:"]
    for target in targets:
        for row in rows:
            same = row["metric"] == "mask_rank_correlation" and row["method"] == "unmasked"
            if same and row["feature"] == target.name:
                model = row["slice"] or "all answers"
                lines.append(
                    f"  {target.name}, {model}: {_cell(row)}, {row['n']:,} answers, {row['n_clusters']:,} prompts"
                )
    return lines


def _circle_lines(rows: list[Row], taxonomy: Taxonomy) -> list[str]:
    """Structural validity: the index of every slice, and the values that could not count."""
    lines = [
        "Do the values lie on Schwartz's circle? Correspondence index (1 perfect, 0 none), 95% CI over prompts, "
        "one-sided p over orders of the circle, which asks whether any order fits as well:",
    ]
    for row in rows:
        if row["metric"] == "correspondence_index" and row["spec"] == READINGS[0]:
            pearson = _find(rows, metric="circle_correlation", method="pearson", spec=row["spec"], slice=row["slice"])
            other = "" if pearson is None else f"; correlation with distance {_cell(pearson)}"
            index = f"{_cell(row)}, p {p_text(row['p_value'])}" if np.isfinite(row["estimate"]) else "undefined"
            lines.append(f"  {row['slice'] or 'all answers'}: {index}{other}")
    left = [row for row in rows if row["metric"] == "left_out" and row["method"] == "no-variance"]
    lines += [f"  left out in {row['slice'] or 'all answers'}: {row['feature']} never varies" for row in left]
    return lines


def _tags_text(rows: list[Row], data: ValueVectors) -> str:
    """The tags whose prompts draw other values, the strongest contrasts first."""
    own = [row for row in rows if row["metric"] == "value_contrast" and (row["slice"] or len(_slices(data)) == 1)]
    tested = [row for row in own if np.isfinite(row["p_adjusted"])]
    found = [row for row in tested if row["p_adjusted"] < SIGNIFICANT]
    found.sort(key=lambda row: -abs(row["estimate"]))
    columns = [Column(name, heading, str) for name, heading in (("tag", "prompts tagged"), ("model", "model"))]
    columns += [Column("feature", "value", str), Column("n", "n", numeric=True)]
    columns += [Column("mean", "mean", str, numeric=True), Column("contrast", "minus other prompts", str, numeric=True)]
    columns.append(Column("p", "Holm p", str, numeric=True))
    shown = []
    for row in found[:MOST_TAGS]:
        mean = _find(rows, metric="mean_value", subset=row["subset"], feature=row["feature"], slice=row["slice"])
        cells = {"tag": _broken(row["subset"]), "model": row["slice"] or data.model_names[0], "feature": row["feature"]}
        cells |= {"n": 0 if mean is None else mean["n"], "mean": "-" if mean is None else f"{mean['estimate']:.3f}"}
        shown.append(cells | {"contrast": _cell(row), "p": p_text(row["p_adjusted"])})
    counted = f"{len(found)} of {len(tested)} contrasts of a value under a tag are significant"
    if untested := len(own) - len(tested):
        counted += f" ({untested} more, of tags of few answers or prompts, are not tested)"
    note = f"{counted}; the largest {len(shown)} are shown" if len(found) > len(shown) else counted
    return format_table(columns, shown, "text", notes=[note]) if shown else f"{counted}\n"


def _reward_lines(rows: list[Row], data: ValueVectors) -> list[str]:
    found = [row for row in rows if row["metric"] == "mean_reward" and row["slice"] in _slices(data)]
    return [
        f"mean reward of {row['slice'] or data.model_names[0]}: {_cell(row)}, {row['n']:,} answers" for row in found
    ]


def _digits(value: float | None) -> str:
    return "-" if value is None or not np.isfinite(value) else f"{value:.4f}"


def _stored_lines(rows: list[Row]) -> list[str]:
    found = [row for row in rows if row["metric"] == "stored_distance_error" and not row["slice"]]
    return [
        f"stored {row['method'].upper()} distances reproduce: largest absolute error {row['estimate']:.1e} "
        f"over {row['n']:,} answers"
        for row in found
    ]


def _cell(row: Row | None) -> str:
    """Format an estimate with its interval."""
    if row is None or not np.isfinite(row["estimate"]):
        return "-"
    if not np.isfinite(row["ci_low"]):
        return f"{row['estimate']:.3f}"
    return f"{row['estimate']:.3f} [{row['ci_low']:.3f}, {row['ci_high']:.3f}]"
