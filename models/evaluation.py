"""How good is a classifier on one split?"""

from collections.abc import Sequence

import numpy as np
from scipy.special import softmax as softmax_of

from datamodules.annotated_text import UNKNOWN
from datamodules.taxonomy import Taxonomy
from models.calibration import Calibration, cross_fitted
from models.metrics import multilabel_metrics, single_positive_metrics


def is_single_positive(targets: np.ndarray) -> bool:
    """Tell whether the labels are single positives: no known negative anywhere, and something unknown."""
    return not bool((targets == 0).any()) and bool((targets == UNKNOWN).any())


def split_metrics(
    probabilities: np.ndarray, decisions: np.ndarray, targets: np.ndarray, labels: tuple[str, ...], scores: np.ndarray
) -> dict[str, float]:
    """Metrics of one split by flat name (`f1/<label>`, `ap_macro`, ...), undefined ones NaN.

    Rows with one known positive and the rest unknown add the single-positive metrics; where there are no known
    negatives at all, they are the only ones.

    Args:
        probabilities: float [n, n_labels].
        decisions: bool [n, n_labels].
        targets: int [n, n_labels] in {1, 0, -1}.
        labels: Names of the columns.
        scores: What AP and AUROC rank by, float [n, n_labels].
    """
    metrics = single_positive_metrics(probabilities, targets, labels)
    if is_single_positive(targets):
        return metrics
    return multilabel_metrics(probabilities, decisions, targets, labels, scores=scores) | metrics


def ranking_scores(logits: np.ndarray, softmax: bool) -> np.ndarray:
    """What to rank texts by: logits of a sigmoid head, probabilities of a softmax head.

    Softmax logits have no common zero across texts, so they cannot be compared between texts.
    """
    return softmax_of(logits, axis=1) if softmax else logits


def validation_metrics(
    logits: np.ndarray,
    targets: np.ndarray,
    groups: np.ndarray,
    taxonomy: Taxonomy,
    softmax: bool,
    chance_thresholds: Sequence[float] | None,
) -> dict[str, float]:
    """Metrics of the validation split; temperatures and thresholds are cross-fitted over its groups.

    Thresholds that were tuned on the rows they are scored on overstate F1 by several points, so each half of the
    groups is scored with the temperatures and thresholds of the other half.
    """
    probabilities, decisions = cross_fitted(
        logits, targets, groups, taxonomy.labels, taxonomy.signed, softmax, chance_thresholds
    )
    return split_metrics(probabilities, decisions, targets, taxonomy.labels, ranking_scores(logits, softmax))


def evaluate(logits: np.ndarray, targets: np.ndarray, calibration: Calibration) -> dict[str, float]:
    """Metrics of a split that the calibration was not fitted on."""
    probabilities = calibration.probabilities(logits)
    scores = ranking_scores(logits, calibration.softmax)
    return split_metrics(probabilities, calibration.decide(probabilities), targets, calibration.labels, scores)
