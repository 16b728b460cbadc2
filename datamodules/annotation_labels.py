"""How is a written label read?"""

from typing import Any

from datamodules.annotated_text import UNKNOWN
from datamodules.annotation_tally import AnnotationTally
from datamodules.errors import InputError
from datamodules.files import is_unicode
from datamodules.tabular import cell_text
from datamodules.taxonomy import Taxonomy

_SIGNS = {"1": "for", "+1": "for", "-1": "against"}
_STATES = {"": UNKNOWN, "0": 0, "0.0": 0, "false": 0, "1": 1, "1.0": 1, "true": 1}


def require_sign(taxonomy: Taxonomy, signed: bool, layout: str) -> None:
    """Raise InputError unless the taxonomy is signed as the layout is."""
    if taxonomy.signed != signed:
        kinds = {True: "a signed", False: "an unsigned"}
        raise InputError(
            f"{kinds[taxonomy.signed]} taxonomy, {taxonomy.name}, for --data.name {layout}",
            f"{kinds[signed]} taxonomy",
            "choose it with --data.taxonomy",
        )


def label_list(cell: Any, place: str) -> list[str]:
    """Return a cell that lists labels (a list of strings, or a string with semicolons) as strings, each once.

    Raises:
        InputError: The cell is something else; `place` says where.
    """
    entries = cell.split(";") if isinstance(cell, str) else cell
    if not isinstance(entries, list) or not all(isinstance(entry, str) for entry in entries):
        raise InputError(f"{cell!r} as {place}", "a list of labels", "correct the file")
    if not all(map(is_unicode, entries)):
        raise InputError(f"half a surrogate pair in {place}", "labels that are Unicode", "correct the file")
    return list(dict.fromkeys(entry.strip() for entry in entries if entry.strip()))


def listed_labels(written: list[str], tally: AnnotationTally) -> list[int]:
    """Return the labels of a text for which a list says what holds: 1 for the listed, 0 for the others.

    For a signed taxonomy an entry is a label (`power-for`) or a value with its sign (`power: -1`). Unknown labels and
    malformed signs are left out and counted in the tally; a text with no other entries has unknown labels.

    Returns:
        States aligned to `tally.taxonomy.labels`; for and against of one value may both be 1.
    """
    taxonomy = tally.taxonomy
    held = {_signed_label(entry, tally) if taxonomy.signed else _plain_label(entry, tally) for entry in written}
    if not written:
        tally.notes["texts without a value (kept)"] += 1
    elif held == {None}:
        # Something holds here, but nobody can say what: that is not "none of them".
        tally.notes["texts with unreadable labels only (set to unknown)"] += 1
        return [UNKNOWN] * len(taxonomy.labels)
    return [int(label in held) for label in taxonomy.labels]


def bit(cell: Any, place: str) -> int:
    """Return 1 or 0 for a cell that must hold one of them.

    Raises:
        InputError: The cell holds something else; `place` says where.
    """
    if (state := _STATES.get(cell_text(cell).casefold(), UNKNOWN)) == UNKNOWN:
        raise InputError(f"{cell!r} as {place}", "0 or 1", "correct the file")
    return state


def state(cell: Any, place: str) -> int:
    """Return 1, 0 or, for an empty cell, -1 (unknown).

    Raises:
        InputError: The cell holds something else; `place` says where.
    """
    if (known := _STATES.get(cell_text(cell).casefold())) is None:
        raise InputError(f"{cell!r} as {place}", "0, 1 or nothing (unknown)", "correct the file")
    return known


def signed_states(cell: Any, place: str) -> tuple[int, int]:
    """Return the states (for, against) of a cell that holds 1, 0, -1 or nothing (unknown).

    Raises:
        InputError: The cell holds something else; `place` says where.
    """
    if cell_text(cell).casefold() in {"-1", "-1.0"}:
        return 0, 1
    if (known := _STATES.get(cell_text(cell).casefold().removeprefix("+"))) is None:
        raise InputError(f"{cell!r} as {place}", "-1, 0, 1 or nothing (unknown)", "correct the file")
    return (UNKNOWN, UNKNOWN) if known == UNKNOWN else (known, 0)


def _plain_label(entry: str, tally: AnnotationTally) -> str | None:
    slug = tally.taxonomy.resolve(entry)
    if slug is None:
        tally.unknown_labels[entry] += 1
    return slug


def _signed_label(entry: str, tally: AnnotationTally) -> str | None:
    if entry.casefold() in tally.taxonomy.labels:
        return entry.casefold()
    name, colon, sign = entry.rpartition(":")
    slug = tally.taxonomy.resolve(name if colon else entry)
    if slug is None:
        tally.unknown_labels[(name if colon else entry).strip()] += 1
        return None
    direction = _SIGNS.get(sign.replace(" ", "")) if colon else None
    if direction is None:
        tally.notes["malformed signs (entry dropped)"] += 1
        return None
    return f"{slug}-{direction}"
