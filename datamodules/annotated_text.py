"""What is an annotated text, which texts belong together, and what is a data set of them?"""

from collections.abc import Sequence
from dataclasses import dataclass

from datamodules.dialogue import DialogueError, normalise, parse_turns
from datamodules.files import digest_of
from datamodules.read_report import ReadReport
from datamodules.taxonomy import Taxonomy

UNKNOWN = -1
# Of a label of a taxonomy that the text was not annotated for: it counts nowhere, not even as unknown.
NOT_ASKED = -2


@dataclass(frozen=True, slots=True)
class AnnotatedText:
    """A text with its labels.

    Attributes:
        text_id: Unique within the data set.
        text: The text.
        labels: Aligned to `Taxonomy.labels`: 1 holds, 0 does not, -1 unknown.
        group_id: Texts of one group must not straddle splits.
        source: Name of the data set.
    """

    text_id: str
    text: str
    labels: tuple[int, ...]
    group_id: str
    source: str


@dataclass(frozen=True, slots=True)
class AnnotatedData:
    """A data set of annotated texts.

    Attributes:
        name: One of sample, value-imprint, fulcra, valueeval, hh-quality, table.
        taxonomy: What the labels mean.
        texts: Texts to cut train and validation (and, where no test file is given, test) from.
        test_texts: Texts of the test file that the data set ships, or None.
        report: How `texts` were read.
        is_sample: Whether this is the sample that comes with the project; outputs on it say so.
        test_report: How `test_texts` were read, or None.
    """

    name: str
    taxonomy: Taxonomy
    texts: tuple[AnnotatedText, ...]
    test_texts: tuple[AnnotatedText, ...] | None
    report: ReadReport
    is_sample: bool
    test_report: ReadReport | None = None


def dialogue_group(text: str) -> str:
    """Return the group of a text: a digest of its first human turn or, where it is no dialogue, of the whole text.

    The digest stands for the normalised text (case, white space), so that run directories hold no texts.
    """
    try:
        opening = next((turn.text for turn in parse_turns(text) if turn.role == "human"), "")
    except DialogueError:
        opening = ""
    return digest_of(normalise(opening) or normalise(text))[:16]


def merged_labels(rows: Sequence[tuple[int, ...]]) -> tuple[int, ...]:
    """Return the labels of one text that was annotated several times.

    A label keeps the value on which all rows that know it agree; where they disagree it is unknown. So two single-label
    rows with one positive each become one row with both positives.
    """
    known = [{label for label in column if label != UNKNOWN} for column in zip(*rows, strict=True)]
    return tuple(min(labels) if len(labels) == 1 else UNKNOWN for labels in known)


def without_contradictions(labels: tuple[int, ...]) -> tuple[int, ...]:
    """Set both labels of a signed value to unknown where a text is said to speak for it and against it.

    Args:
        labels: Labels of a signed taxonomy: for and against of each value in turn.
    """
    pairs = zip(labels[::2], labels[1::2], strict=True)
    return tuple(label for pair in pairs for label in ((UNKNOWN, UNKNOWN) if pair == (1, 1) else pair))
