"""How good is a classifier on one split?"""

from collections.abc import Sequence

import numpy as np
from scipy.special import softmax as softmax_of

from datamodules.annotated_text import UNKNOWN
from datamodules.taxonomy import Taxonomy
from models.calibration import Calibration, cross_fitted
from models.metrics import false_negative_rate, multilabel_metrics, single_positive_metrics

# Metrics of which less is better.
ERRORS = ("loss", "ece", "brier", "false_negative_rate")
# Metrics that each label has.
PER_LABEL = ("f1", "precision", "recall", "ap", "auroc", "ece", "brier", "support", "f1_top1", "auroc_vs_unlisted")


def is_error(metric: str) -> bool:
    """Tell whether less is better of a logged metric, such as `val/loss` or `val/ece_macro`."""
    names = metric.removeprefix("val/").split("/")
    # Of a further taxonomy, which stands first, the metric comes second; of the others, there perhaps a label.
    name = names[1] if len(names) > 1 and names[0] not in PER_LABEL else names[0]
    return name in ERRORS or name.removesuffix("_macro") in ERRORS


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
    max_false_negative_rate: float | None = None,
) -> dict[str, float]:
    """Metrics of the validation split; temperatures and thresholds are cross-fitted over its groups.

    Thresholds that were tuned on the rows they are scored on overstate F1 by several points, so each half of the
    groups is scored with the temperatures and thresholds of the other half. With a bound on the false-negative rate,
    `false_negative_rate` says what came of it.
    """
    probabilities, decisions = cross_fitted(
        logits,
        targets,
        groups,
        taxonomy.labels,
        taxonomy.signed,
        softmax,
        chance_thresholds,
        max_false_negative_rate,
    )
    scores = ranking_scores(logits, softmax)
    metrics = split_metrics(probabilities, decisions, targets, taxonomy.labels, scores)
    return metrics | _bounded(decisions, targets, groups, max_false_negative_rate)


def evaluate(
    logits: np.ndarray, targets: np.ndarray, calibration: Calibration, groups: np.ndarray | None = None
) -> dict[str, float]:
    """Metrics of a split that the calibration was not fitted on; `groups` [n] as `metrics.false_negative_rate`."""
    probabilities = calibration.probabilities(logits)
    decisions = calibration.decide(probabilities)
    scores = ranking_scores(logits, calibration.softmax)
    metrics = split_metrics(probabilities, decisions, targets, calibration.labels, scores)
    return metrics | _bounded(decisions, targets, groups, calibration.max_false_negative_rate)


def _bounded(
    decisions: np.ndarray, targets: np.ndarray, groups: np.ndarray | None, max_false_negative_rate: float | None
) -> dict[str, float]:
    """The false-negative rate, where thresholds were chosen to bound it."""
    if max_false_negative_rate is None:
        return {}
    return {"false_negative_rate": false_negative_rate(decisions, targets, groups)}
