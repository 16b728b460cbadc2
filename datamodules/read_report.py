"""What did a reader of annotated texts meet, and what did it keep?"""

import textwrap
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

_WIDTH = 100
_MOST_SHOWN = 10


@dataclass(frozen=True, slots=True)
class ReadReport:
    """Account of one reading: every row read is kept or dropped for a counted reason.

    Attributes:
        source: Name of the data set.
        files: File name -> sha256.
        n_read: Rows in the file; n_kept and the counts of `dropped` add up to it.
        n_kept: Texts returned.
        dropped: Reason -> rows.
        unknown_labels: Label that the taxonomy does not know, as written -> rows.
        n_duplicate_texts: Rows that repeat the normalised text and the labels of an earlier row.
        n_conflicting_texts: Rows that repeat the normalised text of an earlier row with other labels.
        notes: Anything else worth knowing -> count.
        label_counts_read: Label -> rows in which it holds as written, before contradictions and repeats are resolved.
        label_counts: Label -> (kept texts in which it holds, kept texts in which it is known).
        n_damaged_texts: Texts kept that look decoded with the wrong encoding; see `encoding_damage`.
        first_damaged_row: Number of the first of them in the file, from 1, or None.
    """

    source: str
    files: dict[str, str]
    n_read: int
    n_kept: int
    dropped: dict[str, int]
    unknown_labels: dict[str, int]
    n_duplicate_texts: int
    n_conflicting_texts: int
    notes: dict[str, int]
    label_counts_read: dict[str, int]
    label_counts: dict[str, tuple[int, int]]
    n_damaged_texts: int = 0
    first_damaged_row: int | None = None

    def to_dict(self) -> dict[str, Any]:
        """Return the report as JSON-able data."""
        counts = {label: list(pair) for label, pair in self.label_counts.items()}
        return asdict(self) | {"label_counts": counts}

    def lines(self) -> list[str]:
        """Return the report for the console, at most 100 columns wide."""
        lines = [f"{self.source} ({', '.join(self.files)}): {self.n_read:,} rows read, {self.n_kept:,} texts kept"]
        if self.dropped:
            lines.append(f"  dropped: {_listed(self.dropped)}")
        if self.unknown_labels:
            lines.append(f"  unknown labels: {_listed(self.unknown_labels)}")
        if self.n_duplicate_texts or self.n_conflicting_texts:
            lines.append(
                f"  repeated texts: {self.n_duplicate_texts:,} with the same labels, "
                f"{self.n_conflicting_texts:,} with other labels"
            )
        lines += [f"  {note}: {count:,}" for note, count in self.notes.items()]
        if self.n_damaged_texts:
            lines.append(f"  warning: {damage_note(self.n_damaged_texts, f'row {self.first_damaged_row}')}")
        positives = {label: n_positive for label, (n_positive, _) in self.label_counts.items()}
        if self.label_counts_read != positives:
            listed = _listed(self.label_counts_read, most=len(self.label_counts_read))
            lines.append(f"  rows with, as written (before contradictions and repeats are resolved): {listed}")
        lines.append(f"  texts with: {_listed(positives, most=len(positives))}")
        return [
            part
            for line in lines
            for part in textwrap.wrap(line, _WIDTH, subsequent_indent="    ", break_on_hyphens=False)
        ]


def damage_note(n: int, example: str) -> str:
    """Tell that texts look mis-decoded, without showing them; `example` says where one stands."""
    what = "1 text looks" if n == 1 else f"{n:,} texts look"
    return (
        f"{what} mis-decoded (mojibake, or U+FFFD for lost bytes), such as {example}; kept as they stand. "
        "Better read the original file again, with its own encoding"
    )


def _listed(counts: Mapping[str, int], most: int = _MOST_SHOWN) -> str:
    shown = [f"{name} {count:,}" for name, count in list(counts.items())[:most]]
    rest = len(counts) - len(shown)
    return ", ".join(shown) + (f" and {rest} more" if rest else "")
