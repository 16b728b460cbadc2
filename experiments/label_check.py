"""`imprint data check --labels`: which labels of annotated texts deserve a second look?"""

import csv
import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from rich.console import Console
from rich.table import Column, Table

from audits.label_quality import LabelQuality, label_quality, single_label_quality
from datamodules.annotated_text import AnnotatedData, AnnotatedText
from datamodules.dialogue import normalise
from datamodules.errors import InputError
from datamodules.files import require_output, whole_file
from datamodules.storage import writing
from experiments.out_of_fold import embedded, folds_of, out_of_fold, out_of_fold_single
from models.evaluation import is_single_positive
from train.progress import Progress

ENDINGS = (".csv", ".jsonl")
# Conflicting repeats that are printed.
MOST_CONFLICTS = 10
_WIDTH = 92


@dataclass(frozen=True, slots=True, eq=False)
class LabelCheck:
    """What was found.

    Attributes:
        texts: The texts that were checked.
        labels: Names of their labels.
        single: Whether each text was given one label and nothing is said of the others.
        quality: Suspects; `texts` are numbers of `texts`.
        n_given: Texts that carry each label, int64 [n_labels].
        conflicts: Texts with equal words and other labels, by text.
    """

    texts: tuple[AnnotatedText, ...]
    labels: tuple[str, ...]
    single: bool
    quality: LabelQuality
    n_given: np.ndarray
    conflicts: list[tuple[AnnotatedText, ...]]


def require_suspects_file(output: Path, source: Path) -> None:
    """Raise InputError unless suspects can be written to `output`: a new file, where somebody's notes cannot be."""
    if output.suffix not in ENDINGS:
        raise InputError(f"--output {output}", f"a name that ends in {' or '.join(ENDINGS)}", "--output")
    if output.resolve() == source.resolve():
        raise InputError(f"{output} as input and as output", "two files", "--output")
    if output.exists():
        raise InputError(f"{output}, which is there already", "a new file: notes are never overwritten", "--output")
    require_output(output, "--output")


def check_labels(data: AnnotatedData, n_folds: int, seed: int, progress: Progress) -> LabelCheck:
    """Look for labels that models of other texts contradict, and for repeated texts whose labels differ.

    Args:
        data: Annotated texts; those of a test file that the data set ships are checked too.
        n_folds: Folds.
        seed: Seed of the folds.
        progress: Shows the work.

    Raises:
        InputError: Fewer than two folds, or more folds than groups of texts.
    """
    texts, labels = (*data.texts, *(data.test_texts or ())), data.taxonomy.labels
    targets = np.array([text.labels for text in texts], dtype=np.int64)
    single = is_single_positive(targets)
    folds = folds_of(texts, targets, n_folds, seed)
    vectors = embedded([text.text for text in texts], progress)
    if single:
        # A text that was given several labels says nothing of which of them may be wrong.
        given = np.where((targets == 1).sum(axis=1) == 1, targets.argmax(axis=1), -1)
        quality = single_label_quality(out_of_fold_single(vectors, given, len(labels), folds), given)
    else:
        with progress.bar("learning labels", len(labels), "labels") as advance:
            quality = label_quality(out_of_fold(vectors, targets, folds, advance), targets)
    return LabelCheck(texts, labels, single, quality, (targets == 1).sum(axis=0), conflicting_repeats(texts))


def conflicting_repeats(texts: Sequence[AnnotatedText]) -> list[tuple[AnnotatedText, ...]]:
    """Return the texts that are equal after normalisation and carry other labels, in order of their first."""
    by_words: dict[str, list[AnnotatedText]] = {}
    for text in texts:
        by_words.setdefault(normalise(text.text), []).append(text)
    return [tuple(group) for group in by_words.values() if len({text.labels for text in group}) > 1]


def suspect_rows(found: LabelCheck) -> list[dict[str, Any]]:
    """Return a row per suspect, the most suspicious first, as `--output` holds them."""
    quality = found.quality
    return [
        {
            "rank": i + 1,
            "text_id": found.texts[quality.texts[i]].text_id,
            "label": found.labels[quality.labels[i]],
            "given": int(quality.given[i]),
            "suggested": found.labels[quality.instead[i]] if found.single else int(not quality.given[i]),
            "probability": round(float(quality.probabilities[i]), 4),
            "margin": round(float(quality.margins[i]), 4),
            "text": found.texts[quality.texts[i]].text,
        }
        for i in range(len(quality.texts))
    ]


def write_suspects(rows: Sequence[dict[str, Any]], path: Path) -> None:
    """Write all suspects as csv or jsonl, by the ending, whole or not at all."""
    columns = ("rank", "text_id", "label", "given", "suggested", "probability", "margin", "text")
    with (
        writing(path, "start the command again"),
        whole_file(path) as part,
        part.open("w", encoding="utf-8", newline="") as file,
    ):
        if path.suffix == ".jsonl":
            file.writelines(json.dumps(row, ensure_ascii=False) + "\n" for row in rows)
            return
        writer = csv.DictWriter(file, columns)
        writer.writeheader()
        writer.writerows(rows)


def print_label_check(found: LabelCheck, rows: Sequence[dict[str, Any]], top: int, console: Console) -> None:
    """Print counts per label, the top suspects and the conflicting repeats."""
    _print_counts(found, console)
    for row in rows[:top]:
        console.print(_suspect_line(row), markup=False, soft_wrap=True)
        console.print(f"      {excerpt(row['text'])}", markup=False, soft_wrap=True)
    _print_conflicts(found, console)
    console.print(
        "Suspects are labels for a second look, not errors: a small model of frozen embeddings disagrees with them. It "
        "knows rare and subtle values badly, and calls what is merely unusual suspicious.",
        markup=False,
    )


def _print_counts(found: LabelCheck, console: Console) -> None:
    quality = found.quality
    title = f"Labels of {len(found.texts):,} texts that deserve a second look, most suspicious first"
    columns = ("carry it", "judged", "suspects", "share", "given", "not given")
    table = Table(Column("label", no_wrap=True), *columns, title=title, title_justify="left")
    for k, label in enumerate(found.labels):
        n, n_judged = int(quality.n_suspected[k]), int(quality.n_judged[k])
        n_wrong = int(quality.given[quality.labels == k].sum())
        share = f"{n / n_judged:.1%}" if n_judged else "-"
        n_missed = "-" if found.single else f"{n - n_wrong:,}"
        table.add_row(label, f"{found.n_given[k]:,}", f"{n_judged:,}", f"{n:,}", share, f"{n_wrong:,}", n_missed)
    console.print(table)
    if unjudged := [label for label, n in zip(found.labels, quality.n_judged, strict=True) if n == 0]:
        console.print(f"Not judged, for want of texts with and without them: {', '.join(unjudged)}", markup=False)


def _suspect_line(row: dict[str, Any]) -> str:
    label = row["label"]
    match row["given"], row["suggested"]:
        case 1, 0:
            verdict = f"{label}: given, looks absent"
        case 0, 1:
            verdict = f"{label}: not given, looks present"
        case _:
            verdict = f"{label}: given, looks like {row['suggested']}"
    return f"{row['rank']:>4}. {row['text_id']}  {verdict} (out-of-fold probability {row['probability']:.2f})"


def _print_conflicts(found: LabelCheck, console: Console) -> None:
    merged = [text for text in found.texts if found.single and sum(state == 1 for state in text.labels) > 1]
    if merged:
        console.print(f"Texts that were given several labels, in rows that were merged: {len(merged):,} (not judged)")
    for text in merged[:MOST_CONFLICTS]:
        held = ", ".join(label for label, state in zip(found.labels, text.labels, strict=True) if state == 1)
        console.print(f"  {text.text_id}: {held}", markup=False, soft_wrap=True)
    if not found.conflicts:
        return
    n_rows = sum(len(group) for group in found.conflicts)
    console.print(f"Texts that occur again with other labels: {len(found.conflicts):,}, in {n_rows:,} rows")
    for group in found.conflicts[:MOST_CONFLICTS]:
        console.print(f"  {_differing(group, found.labels)}", markup=False, soft_wrap=True)
        console.print(f"      {excerpt(group[0].text)}", markup=False, soft_wrap=True)
    if (rest := len(found.conflicts) - MOST_CONFLICTS) > 0:
        console.print(f"  and {rest:,} more", markup=False)


def _differing(group: Sequence[AnnotatedText], labels: Sequence[str]) -> str:
    """Name the texts of a conflict and what each carries of the labels in which they differ."""
    columns = [k for k in range(len(labels)) if len({text.labels[k] for text in group}) > 1]
    said = [", ".join(labels[k] for k in columns if text.labels[k] == 1) or "none of these" for text in group]
    return "; ".join(f"{text.text_id}: {own}" for text, own in zip(group, said, strict=True))


def excerpt(text: str) -> str:
    """Return a text in one line: its beginning and its end where it is too long."""
    line = " ".join(text.split())
    if len(line) <= _WIDTH:
        return line
    half = (_WIDTH - 4) // 2
    return f"{line[:half]} .. {line[-half:]}"
