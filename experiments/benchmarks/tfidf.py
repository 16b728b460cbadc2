"""How well do words counted and a straight line through them do? TF-IDF with one-vs-rest logistic regression.

Regularisation and vocabulary are chosen on validation, where temperatures and thresholds are fitted by the same code as
a run's.
"""

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import sparse
from sklearn.feature_extraction.text import TfidfVectorizer
from sklearn.linear_model import LogisticRegression
from threadpoolctl import threadpool_limits  # type: ignore[import-untyped]  # scikit-learn brings it

from audits.stats.paired_bootstrap import Scored
from datamodules.annotated_text import UNKNOWN, AnnotatedText
from datamodules.annotation_datamodule import text_parts
from datamodules.splits import connected_groups
from datamodules.views import ViewRequest
from models.calibration import fit_calibration
from models.evaluation import validation_metrics
from models.metrics import Floats
from train.config import Config
from train.inputs import Annotations
from train.progress import Progress

MIN_DOCUMENTS = (1, 2, 4)
REGULARISATION = (0.1, 0.3, 1.0, 3.0, 10.0, 30.0, 100.0)


def fit_baseline(annotations: Annotations, config: Config, progress: Progress) -> tuple[Scored, dict[str, Any]]:
    """Fit, choose and calibrate the baseline on train and validation, and predict test.

    Returns:
        Its predictions, and what was chosen: `min_df` and `C`, and by which `criterion` of what `value` on validation.
    """
    view = ViewRequest(config.data.view, config.data.truncation, config.data.max_length)
    parts = (annotations.splits.train, annotations.splits.val, annotations.splits.test)
    texts = [["".join(text_parts(text.text, view)) for text in part] for part in parts]
    targets = [label_matrix(part) for part in parts]
    groups, taxonomy = connected_groups(parts[1]), annotations.taxonomy
    # What chose the run's checkpoint, where predictions alone give it (the loss, say, is nothing to compare by).
    criterion = config.trainer.monitor.removeprefix("val/")
    settings: list[tuple[float, int, float]] = []
    logits: list[list[Floats]] = []
    with progress.bar("fitting the baseline", len(MIN_DOCUMENTS) * len(REGULARISATION), "settings") as advance:
        for min_df in MIN_DOCUMENTS:
            vectorizer = TfidfVectorizer(ngram_range=(1, 2), sublinear_tf=True, min_df=min_df)
            train, *others = vectorizer.fit_transform(texts[0]), *(vectorizer.transform(t) for t in texts[1:])
            for c in REGULARISATION:
                # Threads only cost time here: the products are sparse, the vectors short.
                with threadpool_limits(1):
                    logits.append(_one_vs_rest(train, targets[0], others, c))
                metrics = validation_metrics(logits[-1][0], targets[1], groups, taxonomy, False, None)
                criterion = criterion if criterion in metrics else "ap_macro"
                settings.append((metrics[criterion], min_df, c))
                advance(1)
    best = int(np.argmax(np.nan_to_num([value for value, _, _ in settings], nan=-np.inf)))
    (value, min_df, c), (val, test) = settings[best], logits[best]
    calibration = fit_calibration(val, targets[1], taxonomy.labels, taxonomy.signed, softmax=False)
    # Probabilities, so that the texts of several folds can be ranked together.
    probabilities = calibration.probabilities(test)
    return Scored(probabilities, calibration.decide(probabilities)), {
        "min_df": min_df,
        "C": c,
        "criterion": criterion,
        "value": value,
    }


def _one_vs_rest(
    train: sparse.csr_matrix, targets: NDArray[np.integer], others: Sequence[sparse.csr_matrix], c: float
) -> list[Floats]:
    """Fit one balanced logistic regression per label on its known texts; logits [n, L] of each of `others`.

    A label with one known class in training gets the same logit, 0, everywhere.
    """
    logits = [np.zeros((other.shape[0], targets.shape[1])) for other in others]
    for k in range(targets.shape[1]):
        known = targets[:, k] != UNKNOWN
        if len(np.unique(targets[known, k])) == 2:
            head = LogisticRegression(C=c, class_weight="balanced", solver="newton-cg", max_iter=1000)
            head.fit(train[known], targets[known, k])
            for part, other in zip(logits, others, strict=True):
                part[:, k] = head.decision_function(other)
    return logits


def label_matrix(texts: Sequence[AnnotatedText]) -> NDArray[np.int64]:
    """Return the labels of some texts, int64 [n, L]."""
    return np.array([text.labels for text in texts], dtype=np.int64)
