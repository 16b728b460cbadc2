"""Do the audits of two classifiers come to the same conclusions on the same data?

A conclusion is what a reader takes from one row: a value is more or less frequent in chosen responses than in rejected
ones, preferred or not, rewarded or not, or it cannot be told. It has a sign where Holm's p is below 0.05. Two
conclusions agree when both are `+`, both `-` or both `0` (not told apart); estimates of other sign that are both not
told apart from 0 are no disagreement, since nobody concluded anything from them.
"""

import math
from dataclasses import dataclass

import pyarrow as pa

from audits.findings import SIGNIFICANT
from audits.item_table import HEADLINE_SPEC
from audits.prevalence import GOLD_METHOD

# Audit -> metric that is concluded from; in spec `within` and over all subsets together.
METRICS = {
    "value-distribution": "prevalence_difference",
    "value-contrast": "preference_kappa",
    "reward-imprint": "beta",
}
PLAIN_METHODS = ("cc", "ols")
GOLD_METHODS = (GOLD_METHOD, "ols-gold")
UNTOLD = "0"


@dataclass(frozen=True, slots=True, order=True)
class Question:
    """What is asked of a data set.

    Attributes:
        dataset: Its name.
        metric: Metric of the audit table.
        scorer: Reward model, or empty.
        slice: Slice of the audit table.
        method: Estimator: plain, or corrected by gold labels.
        feature: Value, or another feature.
    """

    dataset: str
    metric: str
    scorer: str
    slice: str
    method: str
    feature: str


@dataclass(frozen=True, slots=True)
class Answer:
    """One row's answer.

    Attributes:
        estimate: The number.
        p_adjusted: After Holm.
    """

    estimate: float
    p_adjusted: float

    @property
    def conclusion(self) -> str:
        """`+`, `-` or `0`; empty where it is undefined."""
        if math.isnan(self.estimate) or math.isnan(self.p_adjusted):
            return ""
        if self.p_adjusted >= SIGNIFICANT:
            return UNTOLD
        return "+" if self.estimate > 0 else "-"


@dataclass(frozen=True, slots=True)
class Agreement:
    """Two classifiers' answers on one data set and metric.

    Attributes:
        n_agree: Questions with the same conclusion.
        n_undefined: Questions that either leaves undefined; they are in no other count.
        disagreements: Question, the first classifier's answer, the other's.
    """

    n_agree: int
    n_undefined: int
    disagreements: tuple[tuple[Question, Answer, Answer], ...]


def answers(table: pa.Table, dataset: str) -> dict[Question, Answer]:
    """Read the answers of one checkpoint's audit on a data set; nets, which restate two other rows, are left out."""
    found = {}
    for row in table.to_pylist():
        headline = row["dataset"] == dataset and not row["subset"] and row["spec"] == HEADLINE_SPEC
        if not headline or METRICS.get(row["audit"]) != row["metric"] or row["feature"].startswith("("):
            continue
        method = row["method"].removesuffix("-uncalibrated")
        if method in (*PLAIN_METHODS, *GOLD_METHODS):
            question = Question(dataset, row["metric"], row["scorer"], row["slice"], method, row["feature"])
            found[question] = Answer(row["estimate"], row["p_adjusted"])
    signed = {question.feature.removesuffix("-for") for question in found if question.feature.endswith("-for")}
    return {
        question: answer
        for question, answer in found.items()
        if question.feature[:-4] not in signed or not question.feature.endswith("-net")
    }


def compare_answers(first: dict[Question, Answer], other: dict[Question, Answer]) -> dict[str, Agreement]:
    """Compare the answers to questions that both were asked, by metric, in the first one's order."""
    found: dict[str, Agreement] = {}
    common = [question for question in first if question in other]
    for metric in dict.fromkeys(question.metric for question in common):
        own = [question for question in common if question.metric == metric]
        pairs = [(question, first[question], other[question]) for question in own]
        defined = [pair for pair in pairs if pair[1].conclusion and pair[2].conclusion]
        apart = tuple(pair for pair in defined if pair[1].conclusion != pair[2].conclusion)
        found[metric] = Agreement(len(defined) - len(apart), len(pairs) - len(defined), apart)
    return found
