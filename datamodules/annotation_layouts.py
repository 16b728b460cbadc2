"""How are the published files of annotated texts laid out?

One reader per layout: Value Imprint, FULCRA, ValueEval and the embedded sample. Each returns texts and a report.
"""

import re
from pathlib import Path

from datamodules.annotated_text import UNKNOWN, AnnotatedText, dialogue_group
from datamodules.annotation_labels import bit, label_list, listed_labels, require_sign
from datamodules.annotation_tally import AnnotationTally
from datamodules.dialogue import Turn, render_turns
from datamodules.errors import InputError
from datamodules.read_report import ReadReport
from datamodules.tabular import Table, cell_text, read_csv, read_jsonl, read_tsv, some_of
from datamodules.taxonomy import Taxonomy

Reading = tuple[tuple[AnnotatedText, ...], ReadReport]

SAMPLE = Path(__file__).parent / "samples" / "sample-annotations.jsonl"
SAMPLE_AGREEMENT = SAMPLE.with_name("sample-agreement.jsonl")
FIX = "name the file with --data.path, or set --data.root (IMPRINT_DATA) to a data root"
_ID = "Argument ID"
_BOB_ROLES = re.compile(r"^(Human|Bob):", re.MULTILINE)


def read_value_imprint(path: Path, taxonomy: Taxonomy) -> Reading:
    """Read Value Imprint's csv (`Text`, `Label`): one value holds, the others are unknown.

    Rows with an empty text, an empty label or an unknown label are dropped and counted. White space around a text goes,
    as in the canonical rendering of dialogues.

    Raises:
        InputError: Unreadable file, missing columns, nothing to keep, or a signed taxonomy.
    """
    require_sign(taxonomy, signed=False, layout="value-imprint")
    table = read_csv(path, FIX)
    table.require(("Text", "Label"), FIX)
    tally = AnnotationTally("value-imprint", taxonomy, [path], len(table.rows), has_own_ids=False, fix=FIX)
    for number, row in enumerate(table.rows, 1):
        text, label = cell_text(row["Text"]), cell_text(row["Label"])
        slug = taxonomy.resolve(label)
        if not text:
            tally.drop("empty text")
        elif not label:
            tally.drop("empty label")
        elif slug is None:
            tally.unknown_labels[label] += 1
            tally.drop("unknown label")
        else:
            labels = [1 if other == slug else UNKNOWN for other in taxonomy.slugs]
            tally.keep(number, f"value-imprint-{number}", text, labels)
    return tally.finish()


def read_fulcra(path: Path, taxonomy: Taxonomy) -> Reading:
    """Read FULCRA's jsonl (`dialogue`, `value_types` such as "power: -1"): signed, a value not mentioned is 0.

    * A sign other than 1, +1 or -1 is malformed: the entry is counted and dropped, as in the published code.
    * A value with both signs in one text is unknown there, and counted (the published code trains on both).
    * A label that is no value of the taxonomy ("humility") is counted and left out.
    * A text without values is kept: none of them is expressed.

    "Bob" becomes "Assistant" in the canonical rendering. The group is the first human turn.

    Raises:
        InputError: Unreadable file, missing columns, nothing to keep, or an unsigned taxonomy.
    """
    require_sign(taxonomy, signed=True, layout="fulcra")
    table = read_jsonl(path, FIX)
    table.require(("dialogue", "value_types"), FIX)
    tally = AnnotationTally("fulcra", taxonomy, [path], len(table.rows), has_own_ids=False, fix=FIX)
    for number, row in enumerate(table.rows, 1):
        dialogue, entries = cell_text(row.get("dialogue")), row.get("value_types")
        text = _render_bob(dialogue)
        if not dialogue:
            tally.drop("empty text")
        elif text is None:
            tally.drop("not a dialogue of Human and Bob")
        elif entries is None:
            tally.drop("no labels")
        else:
            written = label_list(entries, f"value_types of row {number} of {path}")
            tally.keep(number, f"fulcra-{number}", text, listed_labels(written, tally))
    return tally.finish()


def read_valueeval(arguments: Path, labels: Path, taxonomy: Taxonomy) -> Reading:
    """Read a pair of ValueEval files, joined by `Argument ID`: 0/1 for every value.

    The text is `<Premise> <Stance>: <Conclusion>`, the group a digest of the normalised conclusion. Arguments without
    labels are dropped and counted, labels without an argument noted. Repeated arguments are kept: they have ids of
    their own.

    Raises:
        InputError: Unreadable file, missing columns, an id twice, a cell other than 0 or 1, nothing to keep, or a
            signed taxonomy.
    """
    require_sign(taxonomy, signed=False, layout="valueeval")
    arguments_table, labels_table = read_tsv(arguments, FIX), read_tsv(labels, FIX)
    arguments_table.require((_ID, "Conclusion", "Stance", "Premise"), FIX)
    rows, labels_by_id = _by_id(arguments_table), _by_id(labels_table)
    tally = AnnotationTally("valueeval", taxonomy, [arguments, labels], len(rows), has_own_ids=True, fix=FIX)
    columns = _value_columns(labels_table, taxonomy, tally)
    for number, (text_id, row) in enumerate(rows.items(), 1):
        premise, stance, conclusion = (cell_text(row[name]) for name in ("Premise", "Stance", "Conclusion"))
        marks = labels_by_id.get(text_id)
        if not premise:
            tally.drop("empty text")
        elif marks is None:
            tally.drop("no labels")
        else:
            states = [bit(marks[columns[slug]], f"{columns[slug]} of {text_id} in {labels}") for slug in taxonomy.slugs]
            tally.keep(number, text_id, f"{premise} {stance}: {conclusion}", states, dialogue_group(conclusion))
    if n_unused := sum(text_id not in rows for text_id in labels_by_id):
        tally.notes["labels without an argument"] = n_unused
    return tally.finish()


def read_sample(taxonomy: Taxonomy, path: Path = SAMPLE) -> Reading:
    """Read the embedded sample (`text_id`, `group_id`, `labels`, `text`): listed values hold, the others do not.

    Raises:
        InputError: Unreadable file, missing columns, an id twice, nothing to keep, or labels of another taxonomy.
    """
    require_sign(taxonomy, signed=False, layout="sample")
    table = read_jsonl(path, "--data.name")
    table.require(("text_id", "group_id", "labels", "text"), "--data.name")
    tally = AnnotationTally("sample", taxonomy, [path], len(table.rows), has_own_ids=True, fix="--data.name")
    for number, row in enumerate(table.rows, 1):
        text_id, group_id, text = (cell_text(row.get(name)) for name in ("text_id", "group_id", "text"))
        if not text:
            tally.drop("empty text")
        elif row.get("labels") is None:
            tally.drop("no labels")
        else:
            written = label_list(row["labels"], f"labels of row {number} of {path}")
            tally.keep(number, text_id, text, listed_labels(written, tally), group_id)
    return tally.finish()


def _render_bob(dialogue: str) -> str | None:
    parts = _BOB_ROLES.split(dialogue)
    roles = parts[1::2]
    if parts[0].strip() or roles[:1] != ["Human"] or roles[-1:] != ["Bob"]:
        return None
    turns = zip(roles, parts[2::2], strict=True)
    return render_turns(tuple(Turn("human" if role == "Human" else "assistant", text.strip()) for role, text in turns))


def _value_columns(table: Table, taxonomy: Taxonomy, tally: AnnotationTally) -> dict[str, str]:
    """Return slug -> column; columns of no value are counted as unknown labels with the texts that they hold in."""
    columns: dict[str, str] = {}
    for column in table.columns:
        slug = taxonomy.resolve(column)
        if slug in columns:
            raise InputError(f"columns {columns[slug]} and {column} of {table.path}, both {slug}", "one of them", FIX)
        if slug is not None:
            columns[slug] = column
        elif column != _ID:
            tally.unknown_labels[column] = sum(row[column].strip() == "1" for row in table.rows)
    if missing := [value.name for value in taxonomy.values if value.slug not in columns]:
        raise InputError(
            f"no column {', '.join(missing)} in {table.path} (its columns: {some_of(table.columns)})",
            f"a column for each value of taxonomy {taxonomy.name}",
            f"{FIX}, or choose the taxonomy with --data.taxonomy",
        )
    return columns


def _by_id(table: Table) -> dict[str, dict[str, str]]:
    table.require((_ID,), FIX)
    rows: dict[str, dict[str, str]] = {}
    for number, row in enumerate(table.rows, 1):
        text_id = row[_ID].strip()
        if not text_id or text_id in rows:
            what = f"{_ID} {text_id} twice" if text_id else f"no {_ID} in row {number}"
            raise InputError(f"{what} in {table.path}", "one row per id", FIX)
        rows[text_id] = row
    return rows
