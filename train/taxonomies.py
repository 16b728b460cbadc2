"""What of a classifier's scores belongs to which of its taxonomies?"""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from datamodules.annotation_datamodule import TokenisedSplit
from datamodules.joint_splits import asked, part_of
from models.calibration import Calibration
from models.ensemble import Scorer
from models.tasks import Task


@dataclass(frozen=True, slots=True, eq=False)
class ScoredPart:
    """The scores of one taxonomy on the texts that were annotated for it.

    Attributes:
        name: Empty for the main taxonomy, else its name.
        model: What has its labels, kind of head and chance thresholds.
        split: Its texts.
        logits: Of its labels, float [n, L].
    """

    name: str
    model: Scorer | Task
    split: TokenisedSplit
    logits: np.ndarray

    def calibration(self, whole: Calibration) -> Calibration:
        """Return its part of the calibration of a classifier."""
        return whole.further[self.name] if self.name else whole


def scored_parts(model: Scorer, split: TokenisedSplit, logits: np.ndarray) -> Iterator[ScoredPart]:
    """Yield the main taxonomy, then the further ones; of a classifier with one, all texts as they stand.

    Args:
        model: The classifier.
        split: Texts of all its data sets.
        logits: Its outputs, float [n, n_outputs].
    """
    if not model.further:
        yield ScoredPart("", model, split, logits)
        return
    main = slice(0, len(model.labels))
    readings: list[tuple[str, slice, Scorer | Task]] = [("", main, model)]
    readings += [(task.name, task.columns, task) for task in model.further]
    for name, columns, own in readings:
        rows = asked(split.targets, columns)
        yield ScoredPart(name, own, part_of(split, columns), logits[rows][:, columns])
