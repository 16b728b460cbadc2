"""`imprint prevalence`: what share carries each value, as published and corrected, and why do the two differ?"""

import math
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from audits.findings import last_checkpoint
from audits.prevalence import GOLD_METHOD
from audits.prevalence_comparison import PrevalenceComparison, compare_prevalence
from datamodules.errors import InputError
from experiments.parsing import command_parser
from experiments.table_formats import FORMATS, Column, format_table, require_format
from train.audit_tables import newest_audits
from train.ledger import Ledger
from train.run_directory import RunDirectory


def _percent(share: float) -> str:
    return "-" if math.isnan(share) else f"{100 * share:.1f}"


def _points(change: float) -> str:
    return "-" if math.isnan(change) else f"{100 * change:+.1f}"


SHARES = ("published", "corrected", "ci_low", "ci_high", "band_low", "band_high")
ERRORS = Column("by_errors", "errors", _points, numeric=True)
METHOD = Column("method", "by")
# What readers see: a line reads published + steps = corrected.
READ = (
    Column("value", "value"),
    Column("published", "publ.", _percent, numeric=True),
    Column("by_view", "view", _points, numeric=True),
    Column("by_several_values", "several", _points, numeric=True),
    ERRORS,
    Column("corrected_with_ci", "corrected (95% CI)", numeric=True),
    METHOD,
    Column("band", "band", numeric=True),
    Column("reason", "reason"),
)
# Every number, for programs.
STEPS = ("by_view", "by_several_values", "by_errors")
WHOLE = tuple(
    Column(name, name)
    for name in (
        *("dataset", "side", "step", "value", "n_published", "n_counted", "n", "method", "calibrated"),
        *(*SHARES, *STEPS, "reason", "refused"),
    )
)
READING = (
    "publ.: share of argmax votes of whole dialogues cut after 128 tokens; corrected: share of responses that carry it",
    "view: another part of the text is read; several: a response can carry several values, not only its top one",
    "band: what held-out rates of error (TPR, FPR) allow, if the classifier errs here as it did there",
)
COUNTED = "corrected shares are the classifier's own count: its errors are not removed (that takes `imprint gold draw`)"
GOLD = "errors: what gold labels of a random sample change (ppi++)"
NOT_CORRECTED = "not error-corrected, the classifier's own count (cc)"
UNFITTED = "thresholds were not fitted (no known negatives): a value counts where p is above 1/L"
NO_BAND = (
    "no band: the audit had no predictions on held-out texts, or those of an earlier version; `imprint audit RUN_DIR` "
    "does it again and says which are missing"
)


def run_prevalence(arguments: Sequence[str]) -> int:
    """Run `imprint prevalence`; see `imprint prevalence --help`."""
    parser = command_parser("prevalence", "Compare shares of values as published with the corrected ones, and say why.")
    parser.add_argument("run_dir", type=Path, help="Run directory")
    parser.add_argument("--step", type=int | None, default=None, help="Checkpoint's step; the last when left out")
    parser.add_argument("--datasets", type=str, nargs="+", default=None, help="Data sets; all when left out")
    parser.add_argument("--side", type=str, default="chosen", help="chosen, rejected, or a and b of ties")
    parser.add_argument("--format", type=str, default="text", help=", ".join(FORMATS))
    settings = parser.parse_args(list(arguments))
    require_format(settings.format)
    table = _rows_of_step(RunDirectory.open(settings.run_dir), settings.step)
    compared = compare_prevalence(table, settings.side)
    names = _chosen_sets(compared, settings.datasets, settings.side)
    by_set = [[one for one in compared if one.dataset == name] for name in names]
    same = {"side": settings.side, "step": table["step"][0].as_py()}
    if settings.format in ("csv", "json"):
        # One table for programs: a second header, or a second object, is no csv and no JSON.
        rows = [_row(one, same) for own in by_set for one in own]
        notes = list(dict.fromkeys(note for own in by_set for note in _notes(own)))
        print(format_table(WHOLE, rows, settings.format, "imprint prevalence", notes), end="")
        return 0
    print("\n".join(_report(own, same, settings.format) for own in by_set), end="")
    return 0


def _report(compared: Sequence[PrevalenceComparison], same: dict[str, Any], how: str) -> str:
    """Write the values of one data set for readers."""
    first = compared[0]
    columns = [column for column in READ if _has_gold(compared) or column not in (ERRORS, METHOD)]
    title = f"{first.dataset}, {same['side']} responses, step {same['step']}: % of {first.n_counted:,} that carry "
    rows = [_row(one, same) for one in compared]
    return format_table(columns, rows, how, f"{title}each value", _notes(compared))


def _has_gold(compared: Sequence[PrevalenceComparison]) -> bool:
    return any(one.method == GOLD_METHOD for one in compared)


def _notes(compared: Sequence[PrevalenceComparison]) -> list[str]:
    """Say how to read the numbers of one data set, and what they are not."""
    notes = [*READING, *(_gold_notes(compared) if _has_gold(compared) else (COUNTED,))]
    first = compared[0]
    if first.n_published != first.n_counted:
        notes.append(
            f"publ. is of {first.n_published:,} responses, the rest of {first.n_counted:,}: pairs that hold a text of "
            "the classifier's training are left out, as a part of the step `view`"
        )
    if not all(one.calibrated for one in compared):
        notes.append(UNFITTED)
    if not any(one.refused or math.isfinite(one.band_low) for one in compared):
        notes.append(NO_BAND)
    return [*notes, *_refusals(compared)]


def _gold_notes(compared: Sequence[PrevalenceComparison]) -> list[str]:
    """Say how many labels stand behind the corrected shares, and which shares could not be corrected."""
    corrected = [one for one in compared if one.method == GOLD_METHOD]
    rest = [one.feature for one in compared if one.method != GOLD_METHOD]
    told = f"; {', '.join(dict.fromkeys(f'{one.n:,}' for one in corrected))} of the responses are labelled"
    return [f"{GOLD}{told}", *([f"{NOT_CORRECTED}: {', '.join(rest)}"] if rest else [])]


def _refusals(compared: Sequence[PrevalenceComparison]) -> list[str]:
    """Say why values have no band, or no number from gold labels; what differs from value to value is left out."""
    values: dict[str, list[str]] = {}
    for one in compared:
        if one.refused:
            values.setdefault(re.sub(r" \(.*?\)", "", one.refused), []).append(one.feature)
    return [f"refused, {reason}: {', '.join(names)}" for reason, names in values.items()]


def _rows_of_step(run: RunDirectory, step: int | None) -> pa.Table:
    """Read the newest audit of one checkpoint of a run."""
    table = newest_audits(run, Ledger(run.ledger_file))
    if table is None:
        raise InputError(f"no finished audit in {run.path}", "an audited run", f"imprint audit {run.path}")
    if step is None:
        return last_checkpoint(table)
    found = table.filter(pc.equal(table["step"], step))
    if not found.num_rows:
        steps = ", ".join(str(s) for s in sorted(set(table["step"].to_pylist())))
        raise InputError(f"no audit of step {step} in {run.path}", f"one of {steps}", "--step")
    return found


def _chosen_sets(compared: Sequence[PrevalenceComparison], names: Sequence[str] | None, side: str) -> list[str]:
    """Names of the data sets to show."""
    there = list(dict.fromkeys(one.dataset for one in compared))
    if not there:
        found = f"no prevalence of {side} responses"
        raise InputError(found, "rows of the audit value-distribution", "--side, or imprint audit RUN_DIR")
    if unknown := [name for name in names or () if name not in there]:
        raise InputError(f"data set {unknown[0]}", f"one of {', '.join(there)}", "--datasets")
    return list(names or there)


def _row(one: PrevalenceComparison, same: dict[str, Any]) -> dict[str, Any]:
    """Cells of one value."""
    return {
        **same,
        "dataset": one.dataset,
        "value": one.feature,
        "n_published": one.n_published,
        "n_counted": one.n_counted,
        "n": one.n,
        "method": one.method,
        "calibrated": one.calibrated,
        **{name: getattr(one, name) for name in SHARES},
        **dict(zip(STEPS, one.steps, strict=True)),
        "corrected_with_ci": f"{_percent(one.corrected)} ({_range(one.ci_low, one.ci_high)})",
        "band": _range(one.band_low, one.band_high),
        "reason": one.reason,
        "refused": one.refused,
    }


def _range(low: float, high: float) -> str:
    return "-" if math.isnan(low) or math.isnan(high) else f"{100 * low:.1f}-{100 * high:.1f}"
