"""How good is a classifier on one split?"""

import numpy as np

from datamodules.taxonomy import Taxonomy
from models.calibration import Calibration, cross_fitted
from models.metrics import multilabel_metrics, single_positive_metrics


def is_single_positive(targets: np.ndarray) -> bool:
    """Tell whether the labels are single positives: no known negative anywhere."""
    return not bool((targets == 0).any())


def split_metrics(
    probabilities: np.ndarray, decisions: np.ndarray, targets: np.ndarray, logits: np.ndarray, labels: tuple[str, ...]
) -> dict[str, float]:
    """Metrics of one split by flat name (`f1/<label>`, `ap_macro`, ...), undefined ones NaN.

    Args:
        probabilities: float [n, n_labels].
        decisions: bool [n, n_labels].
        targets: int [n, n_labels] in {1, 0, -1}.
        logits: Ranking scores for AP and AUROC, float [n, n_labels].
        labels: Names of the columns.
    """
    if is_single_positive(targets):
        return single_positive_metrics(probabilities, targets, labels)
    return multilabel_metrics(probabilities, decisions, targets, labels, scores=logits)


def validation_metrics(
    logits: np.ndarray, targets: np.ndarray, groups: np.ndarray, taxonomy: Taxonomy, softmax: bool
) -> dict[str, float]:
    """Metrics of the validation split; temperatures and thresholds are cross-fitted over its groups.

    Thresholds that were tuned on the rows they are scored on overstate F1 by several points, so each half of the
    groups is scored with the temperatures and thresholds of the other half.
    """
    probabilities, decisions = cross_fitted(logits, targets, groups, taxonomy.labels, taxonomy.signed, softmax)
    return split_metrics(probabilities, decisions, targets, logits, taxonomy.labels)


def evaluate(logits: np.ndarray, targets: np.ndarray, calibration: Calibration) -> dict[str, float]:
    """Metrics of a split that the calibration was not fitted on."""
    probabilities = calibration.probabilities(logits)
    return split_metrics(probabilities, calibration.decide(probabilities), targets, logits, calibration.labels)
