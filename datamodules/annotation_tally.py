"""How do the rows of a file become annotated texts and a report?

Repeated texts are counted after normalisation and settled by one rule. Rows with ids of their own are separate
annotations: all are kept, so that a benchmark keeps its published size. Among rows without ids, those with exactly the
same text become one: the first, with the labels of all merged as `merged_labels` says.
"""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

from datamodules.annotated_text import UNKNOWN, AnnotatedText, dialogue_group, merged_labels, without_contradictions
from datamodules.dialogue import normalise
from datamodules.encoding_damage import is_damaged
from datamodules.errors import InputError
from datamodules.files import file_digest, is_unicode
from datamodules.read_report import ReadReport
from datamodules.taxonomy import Taxonomy
from datamodules.text_length import require_length

CONTRADICTIONS = "values said to be held and opposed in one text (set to unknown)"


@dataclass(slots=True)
class AnnotationTally:
    """Collects the texts of one data set and counts what happens to its rows.

    Attributes:
        source: Name of the data set.
        taxonomy: What the labels mean.
        paths: Files read.
        n_read: Rows in the files.
        has_own_ids: Whether the rows carry ids; decides how repeated texts are settled.
        fix: The setting that names the file; becomes the `fix` of errors.
    """

    source: str
    taxonomy: Taxonomy
    paths: Sequence[Path]
    n_read: int
    has_own_ids: bool
    fix: str
    texts: list[AnnotatedText] = field(default_factory=list)
    dropped: Counter[str] = field(default_factory=Counter)
    unknown_labels: Counter[str] = field(default_factory=Counter)
    notes: Counter[str] = field(default_factory=Counter)
    label_counts_read: Counter[str] = field(default_factory=Counter)
    damaged_rows: list[int] = field(default_factory=list)

    def drop(self, reason: str) -> None:
        """Count a row that is not kept."""
        self.dropped[reason] += 1

    def keep(self, number: int, text_id: str, text: str, labels: Sequence[int], group_id: str = "") -> None:
        """Keep a row; for and against of one value at once are counted and set to unknown.

        Args:
            number: Number of the row, from 1.
            text_id: Id of the row.
            text: Its text.
            labels: As written, aligned to `taxonomy.labels`.
            group_id: Its group; empty for `dialogue_group` of the text.

        Raises:
            InputError: A text of more than a million characters.
        """
        require_length(text, f"row {number} of {self._files()}", self.fix)
        if not all(map(is_unicode, (text, text_id, group_id))):
            self.drop("half a surrogate pair in text, id or group")
            return
        if is_damaged(text):
            self.damaged_rows.append(number)
        written = tuple(labels)
        self.label_counts_read.update(
            label for label, state in zip(self.taxonomy.labels, written, strict=True) if state == 1
        )
        group_id = group_id or dialogue_group(text)
        self.texts.append(AnnotatedText(text_id, text, self._consistent(written), group_id, self.source))

    def finish(self) -> tuple[tuple[AnnotatedText, ...], ReadReport]:
        """Settle repeated texts and return the texts with the report.

        Raises:
            InputError: An id twice, no row kept, or no label that the taxonomy knows.
        """
        doubled = [text_id for text_id, count in Counter(text.text_id for text in self.texts).items() if count > 1]
        if doubled:
            shown = ", ".join(doubled[:5]) + (f" and {len(doubled) - 5} more" if len(doubled) > 5 else "")
            raise InputError(f"ids that occur twice in {self._files()}: {shown}", "one row per id", self.fix)
        self._require_positives()
        n_duplicates, n_conflicts = self._count_repeats()
        texts = tuple(self.texts) if self.has_own_ids else self._merge_repeats()
        report = ReadReport(
            source=self.source,
            files={path.name: file_digest(path) for path in self.paths},
            n_read=self.n_read,
            n_kept=len(texts),
            dropped=dict(self.dropped),
            unknown_labels=dict(self.unknown_labels),
            n_duplicate_texts=n_duplicates,
            n_conflicting_texts=n_conflicts,
            notes=dict(self.notes),
            n_damaged_texts=len(self.damaged_rows),
            first_damaged_row=self.damaged_rows[0] if self.damaged_rows else None,
            label_counts_read={label: self.label_counts_read[label] for label in self.taxonomy.labels},
            label_counts=_label_counts(texts, self.taxonomy.labels),
        )
        return texts, report

    def _files(self) -> str:
        return " and ".join(str(path) for path in self.paths)

    def _consistent(self, labels: tuple[int, ...]) -> tuple[int, ...]:
        if not self.taxonomy.signed:
            return labels
        consistent = without_contradictions(labels)
        n_changed = sum(old != new for old, new in zip(labels, consistent, strict=True))
        if n_changed:
            self.notes[CONTRADICTIONS] += n_changed // 2
        return consistent

    def _require_positives(self) -> None:
        unknown = ", ".join(f"{label} ({count})" for label, count in self.unknown_labels.items())
        if unknown and not self.label_counts_read:
            accepted = ", ".join(value.name for value in self.taxonomy.values)
            raise InputError(
                f"only unknown labels in {self._files()}: {unknown}",
                f"labels of taxonomy {self.taxonomy.name} (names or slugs): {accepted}",
                "correct the labels, or choose the taxonomy with --data.taxonomy",
            )
        if not self.texts:
            reasons = ", ".join(f"{count} {reason}" for reason, count in self.dropped.items()) or "no rows"
            raise InputError(
                f"nothing to keep in {self._files()} ({reasons})", "at least one text with labels", self.fix
            )
        if not self.label_counts_read:
            raise InputError(f"no label that holds in any row of {self._files()}", "at least one", self.fix)

    def _count_repeats(self) -> tuple[int, int]:
        seen: dict[str, list[tuple[int, ...]]] = {}
        n_duplicates = n_conflicts = 0
        for text in self.texts:
            earlier = seen.setdefault(normalise(text.text), [])
            n_duplicates += text.labels in earlier
            n_conflicts += bool(earlier) and text.labels not in earlier
            earlier.append(text.labels)
        return n_duplicates, n_conflicts

    def _merge_repeats(self) -> tuple[AnnotatedText, ...]:
        rows_by_text: dict[str, list[AnnotatedText]] = {}
        for text in self.texts:
            rows = rows_by_text.setdefault(text.text, [])
            if rows:
                same = any(row.labels == text.labels for row in rows)
                self.drop(f"repeats the text of an earlier row ({'same labels' if same else 'labels merged into it'})")
            rows.append(text)
        return tuple(
            replace(rows[0], labels=self._consistent(merged_labels([row.labels for row in rows])))
            for rows in rows_by_text.values()
        )


def _label_counts(texts: Sequence[AnnotatedText], labels: Sequence[str]) -> dict[str, tuple[int, int]]:
    columns = zip(*(text.labels for text in texts), strict=True)
    return {
        label: (sum(state == 1 for state in column), sum(state != UNKNOWN for state in column))
        for label, column in zip(labels, columns, strict=True)
    }
