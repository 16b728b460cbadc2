"""How often does a reward model prefer what people preferred?"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from audits.reward_agreement import agreement, rate
from datamodules.pair_datamodule import PairTally, TokenisedPairs
from models.inference import score_tokens
from models.reward_model import RewardModel


@dataclass(frozen=True, slots=True)
class PairAccuracy:
    """How often a reward model prefers what people preferred; equal rewards count as wrong.

    Attributes:
        dataset: Data set, or empty for all of them.
        accuracy: Share of `n`; NaN where there are none.
        ci_low: Lower end of the 95% cluster interval; NaN where undefined.
        ci_high: Its upper end.
        n: Pairs with a preferred side whose sides have different tokens.
        n_clusters: Their clusters.
        n_equal: Of `n`, those with equal rewards.
        n_ties: Ties in the data, left out.
        n_identical: Pairs whose sides have the same tokens, left out.
    """

    dataset: str
    accuracy: float
    ci_low: float
    ci_high: float
    n: int
    n_clusters: int
    n_equal: int
    n_ties: int
    n_identical: int


def score_pairs(model: RewardModel, pairs: TokenisedPairs, token_budget: int, on_batch: Any = None) -> np.ndarray:
    """Return the float32 rewards of both sides of tokenised pairs, float64 [n_pairs, 2]."""
    if not len(pairs):
        return np.empty((0, 2))
    ids = [*pairs.first, *pairs.second]
    lengths = np.array([len(row) for row in ids])
    scores = score_tokens(model, ids, lengths, model.tokeniser.pad_id, "float32", token_budget, on_batch)
    return scores[:, 0].astype(np.float64).reshape(2, -1).T


def accuracies_of(rewards: np.ndarray, pairs: TokenisedPairs, tallies: Sequence[PairTally]) -> tuple[PairAccuracy, ...]:
    """Return the accuracy over all data sets and, where there are several, in each.

    Args:
        rewards: float64 [n_pairs, 2], the preferred side first.
        pairs: The pairs.
        tallies: Counts of what was left out, per data set.
    """
    scopes = [("", list(tallies))] + [(tally.dataset, [tally]) for tally in tallies if len(tallies) > 1]
    result = []
    for name, counted in scopes:
        agreed = agreement(rewards[:, 0], rewards[:, 1])
        among = np.ones(len(pairs), dtype=np.bool_) if not name else pairs.datasets == name
        share = rate(agreed.values, pairs.cluster_ids, among)
        equal = int(((rewards[:, 0] == rewards[:, 1]) & among).sum())
        n_ties, n_identical = sum(t.n_ties for t in counted), sum(t.n_identical for t in counted)
        interval = (share.rate, share.ci_low, share.ci_high)
        result.append(PairAccuracy(name, *interval, share.n, share.n_clusters, equal, n_ties, n_identical))
    return tuple(result)


def accuracy_metrics(accuracies: Sequence[PairAccuracy]) -> dict[str, float]:
    """Return the accuracies by name, `test/accuracy` and, for one data set, `test/accuracy/<data set>`."""
    metrics: dict[str, float] = {}
    for found in accuracies:
        suffix = f"/{found.dataset}" * bool(found.dataset)
        for name in ("accuracy", "ci_low", "ci_high", "n", "n_clusters", "n_equal", "n_ties", "n_identical"):
            key = name if name == "accuracy" or name.startswith("n") else f"accuracy_{name}"
            metrics[f"test/{key}{suffix}"] = float(getattr(found, name))
    return metrics
