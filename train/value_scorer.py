"""Which reward does an answer get for being near the values that are wished for?

BaseAlign (arXiv 2311.10766) pays minus the distance of an answer's value vector to a target. Here the vector comes from
a fixed checkpoint, never from the one that is audited: a reward computed from the audited values would follow them by
construction.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

from audits.stats.value_distance import value_distances
from audits.value_space import has_signed_schwartz, require_signed_schwartz, value_vectors
from datamodules.dialogue import Dialogue
from datamodules.errors import InputError
from datamodules.files import digest_of
from datamodules.target_vectors import TAXONOMY, TargetVector
from datamodules.taxonomy import load_taxonomy
from datamodules.views import ViewName, ViewRequest
from models.calibration import Calibration
from models.classifier import ValueClassifier, load_classifier
from models.digest import weights_digest
from models.inference import score_tokens
from models.reward_scorers import OnScored, ScorerIdentity, joined_scores, token_blocks
from train.thresholds import find_thresholds

KIND = "value-distance"
DISTANCES = ("smooth", "basealign", "l1", "l2")
VIEW: ViewName = "exchange"


@dataclass(frozen=True, slots=True)
class ValueDistanceScorer:
    """Minus the distance of an answer's value vector to a target, by a fixed classifier in float32."""

    identity: ScorerIdentity
    model: ValueClassifier
    calibration: Calibration
    target: TargetVector
    distance: str
    view: ViewRequest
    token_budget: int
    labels: tuple[str, ...]
    columns: slice

    def score(self, dialogues: Iterable[Dialogue], on_scored: OnScored | None = None) -> tuple[np.ndarray, np.ndarray]:
        """See `models.reward_scorers.RewardScorer`."""
        taxonomy = load_taxonomy(TAXONOMY)
        target, weights = self.target.vector(taxonomy.slugs), self.target.weight(taxonomy.slugs)
        scores, cuts = [], []
        for ids, truncated in token_blocks(dialogues, self.model.tokeniser, self.view):
            lengths = np.array([len(row) for row in ids])
            pad_id = self.model.tokeniser.pad_id
            logits = score_tokens(self.model, ids, lengths, pad_id, "float32", self.token_budget, on_scored)
            probabilities = self.calibration.probabilities(logits[:, self.columns])
            vectors = value_vectors(probabilities, self.labels, taxonomy)
            scores.append(-value_distances(vectors, target, weights)[self.distance])
            cuts.append(truncated)
        return joined_scores(scores, cuts)


def open_value_scorer(
    name: str,
    path: Path,
    target: TargetVector,
    distance: str,
    max_length: int,
    device: torch.device,
    fix: str,
    token_budget: int = 4096,
) -> ValueDistanceScorer:
    """Load a value classifier, with its temperatures, as a reward.

    Args:
        name: Name in tables.
        path: Checkpoint of a classifier with signed Schwartz labels; its thresholds file is found beside it.
        target: What is wished for.
        distance: One of `DISTANCES`.
        max_length: Tokens read of each dialogue.
        device: Where it scores.
        fix: The setting that names it.
        token_budget: Padded tokens per batch.

    Raises:
        InputError: No such checkpoint, one without signed Schwartz labels or without thresholds, a length that it
            cannot read, or an unknown distance.
    """
    if distance not in DISTANCES:
        raise InputError(f"distance {distance!r}", f"one of {', '.join(DISTANCES)}", "--distance")
    model = load_classifier(path, fix)
    task = next((task for task in model.further if has_signed_schwartz(task.labels)), None)
    if task is None:
        require_signed_schwartz(model.labels, f"the reward {name}", fix)
    model.tokeniser.require_length(max_length)
    weights = weights_digest(model.state_dict())
    whole = find_thresholds(path, weights, model, None)
    labels, columns = (model.labels, slice(len(model.labels))) if task is None else (task.labels, task.columns)
    calibration = whole if task is None else whole.further[task.name]
    view = ViewRequest(VIEW, "head", max_length)
    taxonomy = load_taxonomy(TAXONOMY)
    numbers = [np.nan_to_num(target.vector(taxonomy.slugs), nan=9.0).tolist(), target.weight(taxonomy.slugs).tolist()]
    temperatures = list(calibration.temperatures)
    identity = ScorerIdentity(
        name,
        KIND,
        str(path),
        dtype="float32",
        max_length=max_length,
        truncation=view.truncation,
        template=view.view,
        template_digest=digest_of([view.slug, model.tokeniser.digest, numbers, temperatures]),
        weights=weights,
        column=f"minus {distance} distance to {target.name}",
        notes=(f"target {target.name}: {target.source}",),
    )
    model = model.to(device)
    return ValueDistanceScorer(identity, model, calibration, target, distance, view, token_budget, labels, columns)


def require_other_weights(weights: str, records: Iterable[dict[str, Any]]) -> None:
    """Raise InputError where a reward is a distance of the values that are to be audited.

    Args:
        weights: Digest of the checkpoint to be audited.
        records: Provenance of the rewards.
    """
    for record in records:
        scorer = record["scorer"]
        if scorer["kind"] == KIND and scorer["weights"] == weights:
            found = f"the reward {scorer['name']}, which rests on the very checkpoint that is audited ({weights[:8]})"
            raise InputError(found, "a fixed checkpoint of another run", "the path in --audit.rewards")
