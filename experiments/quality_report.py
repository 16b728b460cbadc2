"""What does the audit `dataset-quality` say of one data set, on one screen?"""

import math
from collections.abc import Iterator, Sequence
from typing import Any

import pyarrow as pa

from audits.dataset_quality import CONTRAST, PROMPT
from audits.findings import SIGNIFICANT, p_text
from audits.value_distribution import SIDES as SIDES_OF
from datamodules.pair_quality import PERSONAL_DATA
from experiments.table_formats import Column, format_table

Row = dict[str, Any]

# With more subsets than this the columns do not fit.
MOST_SUBSETS = 4
MOST_LANGUAGES = 3
MOST_DIFFERENCES = 5
UNDEFINED = "-"
SIDES = ("chosen", "rejected")
NOTHING: Row = {"estimate": math.nan, "ci_low": math.nan, "ci_high": math.nan, "n": 0, "n_clusters": 0}
# Finding of pairs -> what readers see.
PAIRS = {
    "identical": "identical sides",
    "near-identical": "near-identical sides",
    "duplicate": "repeat an earlier pair",
    "swapped": "another pair with sides swapped",
    "opposite-preference": "opposite preference elsewhere",
    "repeated-prompt": "repeat an earlier prompt",
    "prompts-differ": "prompts differ inside the pair",
    "repeated-role": "a role twice in a row",
    "languages-differ": "sides in two languages",
}
RESPONSES = {
    "empty": "empty",
    "cut-off": "seem cut off in mid-sentence",
    "damaged": "look mis-decoded",
    "repairable": "mis-decoded and repairable",
    "chosen-and-rejected": "chosen here but rejected elsewhere",
    "other-language": "in another language than asked",
}
CLASSES = {"refuse": "refuse", "partial": "comply in part", "incapable": "do not understand"}
# Metrics whose differences between the sides are told, and what they are of.
COMPARED = ("finding_rate", "response_class_rate", "identity_group_rate", "identity_term_rate")
METHODS = (
    "cut off, classes of responses, languages, patterns and terms are told by rules on the text, which err; "
    "meta.json defines each",
    "not looked for: near-repeats across pairs, names and street addresses, what is false or harmful",
)


class _Rows:
    """Rows of one audit table by what they are about."""

    def __init__(self, table: pa.Table) -> None:
        self._rows = {(r["subset"], r["slice"], r["metric"], r["feature"]): r for r in table.to_pylist()}
        self.subsets = list(dict.fromkeys(subset for subset, *_ in self._rows))

    def get(self, subset: str, slice_name: str, metric: str, feature: str = "") -> Row:
        """Return one row; where there is none, as of data without a preference, one of nothing."""
        row: Row = self._rows.get((subset, slice_name, metric, feature), NOTHING)
        return row

    def of(self, subset: str, slice_name: str, metric: str) -> list[Row]:
        """Return the rows of all features, in order."""
        return [row for key, row in self._rows.items() if key[:3] == (subset, slice_name, metric)]


def quality_report(table: pa.Table) -> str:
    """Describe the rows of one data set for a terminal of 100 columns; what does not occur is named in one line.

    Args:
        table: All rows of `dataset-quality` on one data set.
    """
    rows = _Rows(table)
    shown = rows.subsets if len(rows.subsets) <= MOST_SUBSETS + 1 else [""]
    lines, absent = [], []
    for label, cells in _lines(rows, shown):
        if any(cell not in ("", UNDEFINED) for cell in cells):
            lines.append({"what": label} | {name: cell or "0" for name, cell in zip(shown, cells, strict=True)})
        else:
            absent.append(label.strip().split(" (")[0])
    columns = [Column("what", ""), *(Column(name, name or "all", numeric=True) for name in shown)]
    notes = [f"none: {'; '.join(absent)}"] if absent else []
    notes += [*_languages(rows), *_differences(rows, shown), *METHODS]
    if shown != rows.subsets:
        notes.append(f"{len(rows.subsets) - 1} subsets, each with rows of its own in the table")
    return format_table(columns, lines, "text", _title(rows, table["dataset"][0].as_py()), notes)


def quality_finding(table: pa.Table) -> str:
    """Say in one sentence what is in a data set: what is the same twice, empty, longer, and differs most.

    Args:
        table: As `quality_report`.
    """
    rows = _Rows(table)
    pairs = rows.get("", "", "count", "identical")
    empty = [rows.get("", side, "count", "empty") for sides in SIDES_OF.values() for side in sides]
    empty = [row for row in empty if row["n"]]
    longer = rows.get("", CONTRAST, "longer_rate", "n_words")
    said = [
        f"{pairs['estimate']:,.0f} of {pairs['n']:,} pairs with identical sides",
        f"{sum(row['estimate'] for row in empty):,.0f} of {sum(row['n'] for row in empty):,} responses empty",
    ]
    if not rows.get("", SIDES[0], "count", "empty")["n"]:
        return "; ".join([*said, "no pair states a preference"])
    if longer["n"]:
        said.append(f"chosen has more words in {_longer(rows, '')} of {longer['n']:,} pairs of unequal length")
    found = _significant(rows, "")
    if not found:
        return "; ".join([*said, "no finding, class or term is more frequent on one side (Holm p < 0.05)"])
    # To comply is what is left beside the other classes, which tell more.
    top = next((row for row in found if row["feature"] != "comply"), found[0])
    more = f" ({len(found) - 1} more differ)" if len(found) > 1 else ""
    differs = f"{top['feature']}, chosen minus rejected {_points(top)} points of {top['n']:,} pairs"
    return "; ".join([*said, f"most different: {differs}, Holm p {p_text(top['p_adjusted'])}{more}"])


def _title(rows: _Rows, name: str) -> str:
    pairs, read = rows.get("", "", "count", "tie"), rows.get("", "", "rows_left_out")
    said = [f"{name}: {pairs['n']:,} pairs in {pairs['n_clusters']:,} clusters of prompts"]
    if pairs["estimate"]:
        said.append(f"{pairs['estimate']:,.0f} ties, whose sides are in the table alone")
    return "; ".join([*said, f"{read['estimate']:,.0f} of {read['n']:,} rows left out"])


def _lines(rows: _Rows, shown: Sequence[str]) -> Iterator[tuple[str, list[str]]]:
    """Label and cells of every line; where all cells are empty, there is nothing of the kind."""
    yield "pairs", [f"{rows.get(subset, '', 'count', 'tie')['n']:,}" for subset in shown]
    for finding, label in PAIRS.items():
        yield f"  {label}", [_count(rows.get(subset, "", "count", finding)) for subset in shown]
    yield (
        "pairs with a preference (chosen / rejected)",
        [f"{rows.get(subset, SIDES[0], 'count', 'empty')['n']:,}" for subset in shown],
    )
    for finding, label in RESPONSES.items():
        yield f"  {label}", [_counts(rows, subset, finding, SIDES) for subset in shown]
    for name, label in CLASSES.items():
        yield f"  {label}", [_rates(rows, subset, "response_class_rate", name) for subset in shown]
    yield "  chosen has more words (of unequal; 95% CI)", [_longer(rows, subset) for subset in shown]
    yield "  mean log ratio of words", [_ratio(rows, subset) for subset in shown]
    for group in rows.of("", SIDES[0], "identity_group_rate"):
        cells = [_rates(rows, subset, "identity_group_rate", group["feature"]) for subset in shown]
        yield f"  terms of {group['feature']}", cells
    for finding in PERSONAL_DATA:
        cells = [_counts(rows, subset, finding, (PROMPT, *SIDES)) for subset in shown]
        yield f"  {finding.removeprefix('pii-')} (prompt / chosen / rejected)", cells


def _count(row: Row) -> str:
    """Write a count with its share; nothing for none."""
    return f"{row['estimate']:,.0f} ({row['estimate'] / row['n']:.1%})" if row["n"] and row["estimate"] else ""


def _counts(rows: _Rows, subset: str, finding: str, slices: Sequence[str]) -> str:
    counts = [rows.get(subset, name, "count", finding)["estimate"] for name in slices]
    return " / ".join(f"{count:,.0f}" for count in counts) if any(count > 0 for count in counts) else ""


def _rates(rows: _Rows, subset: str, metric: str, feature: str) -> str:
    rates = [rows.get(subset, side, metric, feature)["estimate"] for side in SIDES]
    if all(math.isnan(rate) for rate in rates):
        return UNDEFINED
    return " / ".join(f"{rate:.1%}" for rate in rates) if any(rates) else ""


def _longer(rows: _Rows, subset: str) -> str:
    row = rows.get(subset, CONTRAST, "longer_rate", "n_words")
    share, low, high = (100 * row[name] for name in ("estimate", "ci_low", "ci_high"))
    return UNDEFINED if math.isnan(share) else f"{share:.0f}% [{low:.0f}, {high:.0f}]"


def _ratio(rows: _Rows, subset: str) -> str:
    ratio = rows.get(subset, CONTRAST, "log_length_ratio", "n_words")["estimate"]
    return UNDEFINED if math.isnan(ratio) else f"{ratio:+.2f}"


def _languages(rows: _Rows) -> Iterator[str]:
    """Say which languages requests and responses are in, the most frequent ones."""
    said = []
    for name, who in ((PROMPT, "requests"), *((side, side) for side in SIDES)):
        found = sorted(rows.of("", name, "language_count"), key=lambda row: (-row["estimate"], row["feature"]))
        told = ", ".join(f"{row['feature']} {row['estimate']:,.0f}" for row in found[:MOST_LANGUAGES])
        rest = len(found) - MOST_LANGUAGES
        if found:
            said.append(f"{who} {told}{f' and {rest} more' if rest > 0 else ''}")
    yield f"languages: {'; '.join(said)}"


def _differences(rows: _Rows, shown: Sequence[str]) -> Iterator[str]:
    """Say where chosen and rejected responses differ significantly, the largest differences of each subset first."""
    told = [name for name in shown if name] or [""]
    for subset in told:
        found = _significant(rows, subset)
        parts = [f"{row['feature']} {_points(row)}" for row in found[:MOST_DIFFERENCES]]
        rest = f" and {len(found) - MOST_DIFFERENCES} more" if len(found) > MOST_DIFFERENCES else ""
        where = f" ({subset})" if subset else ""
        yield f"chosen minus rejected, points, Holm p < 0.05{where}: {', '.join(parts) or 'nothing'}{rest}"


def _significant(rows: _Rows, subset: str) -> list[Row]:
    """Return the differences between the sides beyond chance, the largest first."""
    found = [row for metric in COMPARED for row in rows.of(subset, CONTRAST, f"{metric}_difference")]
    return sorted((r for r in found if r["p_adjusted"] < SIGNIFICANT), key=lambda row: -abs(row["estimate"]))


def _points(row: Row) -> str:
    return f"{100 * row['estimate']:+.1f}"
