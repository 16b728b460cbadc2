"""Which labels by people belong to which responses of the audited data, and how surely were these drawn?

The probability of a labelled response is that of its unit to be drawn, times the labelled share of its stratum: what
was drawn and not labelled is taken to be missing at random within its stratum, and that is said. Where two people
labelled, the labels of the first are used, and their agreement is told.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from audits.base import GoldLabels
from audits.stats.annotator_agreement import AnnotatorAgreement, annotator_agreement
from datamodules.errors import InputError
from datamodules.files import file_digest
from datamodules.gold_file import UNITS, GoldSheet, is_same_text, read_gold_file, shown_items
from datamodules.preference_data import PreferenceData
from datamodules.tabular import some_of
from datamodules.views import ViewName

FIX = "--audit.gold (imprint audit: --gold)"


@dataclass(frozen=True, slots=True, eq=False)
class JoinedGold:
    """Gold labels of one data set.

    Attributes:
        labels: As audits read them.
        provenance: Where they come from and how many there are, JSON-able.
        lines: The same for a reader.
    """

    labels: GoldLabels
    provenance: dict[str, Any]
    lines: list[str]


def read_gold(
    path: Path, preferences: Sequence[PreferenceData], labels: Sequence[str], view: ViewName
) -> dict[str, JoinedGold]:
    """Read a labelled file and join it to the data sets that it has rows of.

    Args:
        path: The file, as `imprint gold draw` wrote it.
        preferences: The audited data sets.
        labels: Score columns of the classifier.
        view: What audits read of each dialogue.

    Returns:
        Gold labels by name of the data set.

    Raises:
        InputError: See `read_gold_file` and `join_gold`; or rows of a data set that is not audited.
    """
    sheets = read_gold_file(path, labels, FIX)
    by_name = {data.name: data for data in preferences}
    if foreign := [name for name in sheets if name not in by_name]:
        found = f"rows of {some_of(foreign)} in {path}, which is not audited"
        raise InputError(found, f"rows of {', '.join(by_name)}", f"--audit.datasets with it too, or {FIX}")
    joined = {name: join_gold(sheet, by_name[name], labels, view, path) for name, sheet in sheets.items()}
    origin = {"file": path.name, "digest": file_digest(path)}
    return {name: JoinedGold(own.labels, origin | own.provenance, own.lines) for name, own in joined.items()}


def join_gold(sheet: GoldSheet, data: PreferenceData, labels: Sequence[str], view: ViewName, path: Path) -> JoinedGold:
    """Join the rows of a data set to its pairs.

    A pair that was drawn counts as labelled when both its responses are: labels of one alone are left out and counted.

    Raises:
        InputError: Another view, an item that the data set does not hold or that has another text, half a pair, strata
            that are not the data set, or a stratum without a label.
    """
    if sheet.view != view:
        found = f"labels of the view {sheet.view} of {data.name} in {path}"
        raise InputError(found, f"labels of the audited view {view}", f"--audit.view {sheet.view}, or {FIX}")
    at = _places(sheet, data, view, path)
    _require_whole(sheet, at, data, path)
    labelled = ~np.isnan(sheet.labels[:, 0])
    used = labelled.copy()
    if sheet.unit == "pair":
        n_labelled = np.bincount(at[labelled, 0], minlength=len(data.index))
        used &= n_labelled[at[:, 0]] == 2
    probability = _probability(sheet, used, path)
    values = np.full((len(data.index), 2, len(labels)), np.nan)
    chance = np.full((len(data.index), 2), np.nan)
    values[at[used, 0], at[used, 1]] = sheet.labels[used]
    chance[at[used, 0], at[used, 1]] = probability[used]
    counts = {"n_drawn": len(used), "n_labelled": int(labelled.sum()), "n_used": int(used.sum())}
    agreement = None
    if sheet.second is not None:
        agreement = annotator_agreement(sheet.labels, sheet.second, data.index.cluster_ids[at[:, 0]])
    provenance = counts | {"unit": sheet.unit, "agreement": None if agreement is None else _plain(agreement, labels)}
    lines = [*_count_lines(data.name, **counts), *([] if agreement is None else agreement_lines(agreement, labels))]
    return JoinedGold(GoldLabels(values, chance), provenance, lines)


def _places(sheet: GoldSheet, data: PreferenceData, view: ViewName, path: Path) -> np.ndarray:
    """Find pair and side of every row, int64 [n, 2]."""
    place = {own: k for k, own in enumerate(sheet.item_ids.tolist())}
    at = np.full((len(place), 2), -1, dtype=np.int64)
    moved: list[int] = []
    for pair, (ids, texts) in enumerate(shown_items(data, view)):
        for side, own in enumerate(ids):
            if own in place:
                k = place[own]
                at[k] = pair, side
                if sheet.texts is not None and sheet.texts[k] and not is_same_text(sheet.texts[k], texts[side]):
                    moved.append(int(sheet.rows[k]))
    if moved:
        # Columns that were sorted apart from each other join labels to texts that nobody read for them.
        rows = ", ".join(map(str, sorted(moved)[:3]))
        found = f"{len(moved):,} texts in {path} that are not those of their item_id, such as in row {rows}"
        fix = f"undo what moved or changed them (without its column text is not checked), or {FIX}"
        raise InputError(found, "beside every item_id its own text, as it was labelled", fix)
    if unknown := np.flatnonzero(at[:, 0] < 0).tolist():
        rows = ", ".join(f"{sheet.rows[k]} ({sheet.item_ids[k]})" for k in unknown[:3])
        found = f"{len(unknown):,} items in {path} that {data.name} does not hold, such as row {rows}"
        needed = "items of the pairs as they are audited now"
        raise InputError(found, needed, f"the data, --audit.split and --audit.part that they were drawn from, or {FIX}")
    return at


def _require_whole(sheet: GoldSheet, at: np.ndarray, data: PreferenceData, path: Path) -> None:
    """Raise InputError unless pairs are whole and the strata are all of the data set."""
    if sheet.unit == "pair":
        n_rows = np.bincount(at[:, 0], minlength=len(data.index))
        if alone := np.flatnonzero(n_rows[at[:, 0]] == 1).tolist():
            found = f"one response only of the pair in row {sheet.rows[alone[0]]} of {path}"
            raise InputError(found, "both, as they were drawn", FIX)
    _, first = np.unique(sheet.strata, return_index=True)
    n_units = 2 * len(data.index) // UNITS[sheet.unit]
    if (n := int(sheet.sizes[first].sum())) != n_units:
        found = f"{n:,} {sheet.unit}s in the strata of {data.name} in {path}"
        needed = f"all {n_units:,} that are audited, and every stratum that was drawn from"
        raise InputError(found, needed, f"the data that the labels were drawn from, or {FIX}")


def _probability(sheet: GoldSheet, used: np.ndarray, path: Path) -> np.ndarray:
    """Chance of each row to be drawn and labelled, float64 [n]: labelled units of its stratum by units in it."""
    probability = np.full(len(used), np.nan)
    for stratum in np.unique(sheet.strata):
        own = sheet.strata == stratum
        n_used = used[own].sum() / UNITS[sheet.unit]
        if not n_used:
            rows = ", ".join(str(row) for row in sheet.rows[own][:6].tolist())
            what = "response of one" if sheet.unit == "text" else "whole pair of one"
            found = f"no labelled {what} of {len(np.unique(sheet.strata))} strata of {sheet.dataset} in {path}"
            needed = f"at least one, or nothing stands for its {sheet.sizes[own][0]:,} {sheet.unit}s"
            raise InputError(found, needed, f"label rows of it (row {rows} are some)")
        probability[own] = n_used / sheet.sizes[own]
    return probability


def _count_lines(name: str, n_drawn: int, n_labelled: int, n_used: int) -> list[str]:
    """Say how many rows were drawn, labelled and used, and what is assumed of the rest."""
    blank = n_drawn - n_labelled
    lines = [f"gold labels of {name}: {n_drawn:,} responses drawn, {n_labelled:,} labelled, {blank:,} not"]
    if half := n_labelled - n_used:
        lines.append(f"  {half:,} labelled responses are left out: the other one of their pair is not labelled")
    if n_used < n_drawn:
        lines.append(
            f"  warning: {n_drawn - n_used:,} drawn responses do without; they are taken to be missing at random within"
            " their stratum, whose labelled responses count for them"
        )
    return lines


def agreement_lines(agreement: AnnotatorAgreement, labels: Sequence[str]) -> list[str]:
    """The agreement of two annotators as a table of plain lines."""
    width = max(len(label) for label in labels)
    kappa = agreement.kappa
    lines = [
        f"  agreement of two annotators on {agreement.n:,} responses; the first one's labels are used",
        "  (of responses as drawn, without weights: over-sampled strata count for more than in the data)",
        f"  {'label':<{width}}  equal  Cohen's kappa (95% CI)  Krippendorff's alpha",
    ]
    for k, label in enumerate(labels):
        interval = f"({_short(kappa.ci_low[k])} to {_short(kappa.ci_high[k])})"
        found = f"{_short(kappa.estimate[k]):>6} {interval:<16}"
        lines.append(f"  {label:<{width}}  {_short(agreement.share[k]):>5}  {found}  {_short(agreement.alpha[k]):>6}")
    return lines


def _short(value: float) -> str:
    return "-" if np.isnan(value) else f"{value:.2f}"


def _plain(agreement: AnnotatorAgreement, labels: Sequence[str]) -> dict[str, Any]:
    """Agreement as JSON-able data: null where undefined."""
    columns = {"share": agreement.share, "kappa": agreement.kappa.estimate, "alpha": agreement.alpha}
    by_label = {
        label: {name: None if np.isnan(values[k]) else round(float(values[k]), 6) for name, values in columns.items()}
        for k, label in enumerate(labels)
    }
    return {"n": agreement.n, "labels": by_label}


def say_gold(joined: dict[str, JoinedGold], names: Sequence[str], say: Callable[[str], None]) -> None:
    """Tell what was joined, and which data sets have no gold labels."""
    for own in joined.values():
        for line in own.lines:
            say(f"  {line}")
    if without := [name for name in names if name not in joined]:
        say(f"  no gold labels of {', '.join(without)}: nothing is corrected there")
