"""What do several classifiers say together? The mean of their probabilities.

Probabilities are averaged as the members give them, before any temperature; temperatures and thresholds are fitted on
the mean, as on the scores of a single classifier (averaging calibrated members would leave the mean underconfident:
Rahaman & Thiery, 2021). Where the members are one choice among all values each, that is the mean of their
distributions.
"""

import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from torch import nn
from torch.nn.functional import logsigmoid

from datamodules.errors import InputError
from datamodules.tokenise import Tokeniser
from models.checkpoint_file import ENSEMBLE, SCORER, check_weights, read_checkpoint_file
from models.checkpoint_model import built_model
from models.classifier import ValueClassifier
from models.digest import weights_digest


class ValueEnsemble(nn.Module):
    """Classifiers of the same values, texts, tokens and loss, which score as one.

    Args:
        members: The classifiers, in the order of their names in the state dict; see `of`.

    Attributes:
        classifiers: The members.
        tokeniser: Theirs; of those, that of the member that can read the least.

    The others are those of a `ValueClassifier`, and the same in all members.

    Raises:
        InputError: No members, or some that cannot be averaged.
    """

    def __init__(self, members: Sequence[ValueClassifier]) -> None:
        super().__init__()
        if not members:
            raise InputError("an ensemble without members", "two checkpoints or more", "name more")
        first = members[0]
        for other in members[1:]:
            if why := disagreement(first, other):
                raise InputError(f"members with {why}", "members that can be averaged", "name others")
        self.members = nn.ModuleList(members)
        self.classifiers = tuple(members)
        self.tokeniser: Tokeniser = min((own.tokeniser for own in members), key=lambda own: own.max_positions)
        self.view = first.view
        self.tasks, self.further = first.tasks, first.further
        self.taxonomy, self.labels = first.taxonomy, first.labels
        self.softmax, self.chance_thresholds = first.softmax, first.chance_thresholds
        self.max_false_negative_rate = first.max_false_negative_rate

    @classmethod
    def of(cls, members: Sequence[ValueClassifier]) -> "ValueEnsemble":
        """Return the ensemble, in eval mode, that is the same, digest included, in whatever order members are given."""
        return cls(sorted(members, key=lambda member: weights_digest(member.state_dict()))).eval()

    def forward(self, input_ids: torch.Tensor, attention_mask: torch.Tensor) -> torch.Tensor:
        """Score texts: int64 ids and mask [batch, length] to float32 logits of the mean [batch, n_outputs]."""
        logits = torch.stack([member(input_ids, attention_mask) for member in self.members])
        return torch.cat([mean_logits(logits[..., task.columns], task.softmax) for task in self.tasks], dim=-1)

    def parameter_counts(self) -> dict[str, int]:
        """Return the numbers of `trainable` and `total` parameters of all members."""
        counts = [member.parameter_counts() for member in self.classifiers]
        return {name: sum(own[name] for own in counts) for name in counts[0]}

    def checkpoint(self) -> dict[str, Any]:
        """Return what a checkpoint file holds: all that `load_scorer` rebuilds the ensemble from."""
        members = [dict(member.hparams) for member in self.classifiers]
        parameters = {"taxonomy": self.taxonomy.to_dict(), "members": members}
        return {"state_dict": self.state_dict(), "hyper_parameters": parameters, "global_step": 0}


Scorer = ValueClassifier | ValueEnsemble


def mean_logits(logits: torch.Tensor, softmax: bool) -> torch.Tensor:
    """Return logits of the mean probability, without leaving the logarithmic scale.

    Args:
        logits: Of the members, float [n_members, batch, n_outputs].
        softmax: Whether they are one choice among all outputs; else each output is a sigmoid of its own.

    Returns:
        [batch, n_outputs], of which the sigmoid (or softmax) is the members' mean.
    """
    if softmax:
        return logits.log_softmax(dim=-1).logsumexp(dim=0) - math.log(len(logits))
    return logsigmoid(logits).logsumexp(dim=0) - logsigmoid(-logits).logsumexp(dim=0)


def disagreement(one: ValueClassifier, other: ValueClassifier) -> str:
    """Say in a few words why two classifiers cannot be averaged; empty where they can."""
    values, others = ([task.taxonomy.digest for task in model.tasks] for model in (one, other))
    if values != others:
        return "other values (data.taxonomy)"
    if one.view != other.view:
        return "another view of the texts (data.view, data.truncation, data.max_length)"
    if one.tasks != other.tasks:
        # Losses draw scores to different functions of a chance: a mean of them would be the chance of nothing.
        return "another loss or rule for thresholds (model.loss and its settings, model.class_weights, model.decision)"
    tokens, other_tokens = ((model.tokeniser.digest, model.tokeniser.pad_id) for model in (one, other))
    return "" if tokens == other_tokens else "another tokenizer or window (model.encoder, model.window)"


def load_scorer(path: Path, fix: str = "--checkpoint") -> Scorer:
    """Load the classifier or the ensemble of a checkpoint, in eval mode, on the CPU; see `checkpoint_model.load_model`.

    Raises:
        InputError: As `load_model`.
    """
    checkpoint = read_checkpoint_file(path, fix, SCORER)
    parameters, kind = checkpoint["hyper_parameters"], SCORER
    model: Scorer
    if "members" in parameters:
        kind = ENSEMBLE
        model = _built_ensemble(parameters["members"], path, fix)
    else:
        model = built_model(ValueClassifier, parameters, path, fix)
    check_weights(checkpoint["state_dict"], model.state_dict(), path, fix, kind)
    model.load_state_dict(checkpoint["state_dict"])
    return model.eval()


def _built_ensemble(members: Any, path: Path, fix: str) -> ValueEnsemble:
    listed = members if isinstance(members, list) else []
    classifiers = [built_model(ValueClassifier, each, path, fix) for each in listed]
    try:
        return ValueEnsemble(classifiers)
    except InputError as error:
        raise InputError(f"{path}, an edited checkpoint ({error.found})", ENSEMBLE.needed, fix) from error
