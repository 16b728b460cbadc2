"""What reward does an answer get, whoever made the reward model?

A scorer has an `identity`, which says all that its scores depend on, and scores dialogues one way: `score`.
"""

from collections.abc import Callable, Iterable, Iterator
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any, Literal, Protocol

import numpy as np
import torch

from datamodules.dialogue import Dialogue, view_parts
from datamodules.errors import InputError
from datamodules.files import digest_of
from datamodules.portions import portions
from datamodules.text_features import words_of
from datamodules.tokenise import Tokeniser
from datamodules.views import ViewRequest
from models.digest import weights_digest
from models.hub_rewards import HubModel, Style, load_hub_model
from models.inference import score_tokens
from models.reward_model import RewardModel, load_reward_model

Kind = Literal["checkpoint", "hub", "length"]
KINDS: tuple[Kind, ...] = ("checkpoint", "hub", "length")
# Texts that are scored together, in length order.
TEXTS_AT_ONCE = 10_000
OnScored = Callable[[int], None]


@dataclass(frozen=True, slots=True)
class ScorerSpec:
    """Which reward scorer is meant, and how it is to read.

    Attributes:
        name: Name in tables.
        kind: `checkpoint` (written by `imprint reward fit`), `hub` (a hub id or a folder in Hugging Face layout, a
            sequence classifier) or `length` (a control: log(1 + words of the response)).
        path: File, folder or hub id; not for `length`.
        revision: Branch, tag or commit on the hub.
        style: How a hub model reads a dialogue: `pair` (question, answer), `chat` (its chat template), or `auto` (chat
            where the tokenizer has a template).
        column: Output that is the reward, where a hub model has several.
        dtype: Number format of a hub model's weights; our own checkpoints are always scored in float32.
        max_length: Tokens that a hub model reads; its checkpoint says so for `checkpoint`.
        truncation: What a cut of the answer keeps, `head` or `tail`; what stands before it is cut first.
        token_budget: Padded tokens per batch.
    """

    name: str
    kind: Kind
    path: str = ""
    revision: str | None = None
    style: Style | Literal["auto"] = "auto"
    column: str | None = None
    dtype: Literal["float32", "bf16"] = "float32"
    max_length: int = 512
    truncation: Literal["head", "tail"] = "head"
    token_budget: int = 4096


@dataclass(frozen=True, slots=True)
class ScorerIdentity:
    """All that the scores of a scorer depend on; empty or None where it does not apply.

    Attributes:
        name: Name in tables.
        kind: See `ScorerSpec`.
        path: File, folder or hub id.
        revision: Commit on the hub, as far as it is known.
        dtype: Number format of the weights.
        max_length: Tokens read of each dialogue, special tokens included; None for all.
        truncation: What a cut keeps.
        template: How a dialogue becomes a text: a view of ours, `pair` or `chat`.
        template_digest: The sha256 of the template, its settings and the tokenizer.
        weights: Digest of the state dict.
        architecture: Digest of what else the network computes by: its configuration, and our own pooling.
        column: Output that is the reward.
        trained_on: What a checkpoint of ours was trained on (`train.reward_data`).
        notes: What a reader should know of this model.
    """

    name: str
    kind: str
    path: str = ""
    revision: str | None = None
    dtype: str = ""
    max_length: int | None = None
    truncation: str = ""
    template: str = ""
    template_digest: str = ""
    weights: str = ""
    architecture: str = ""
    column: str = ""
    trained_on: tuple[dict[str, Any], ...] = ()
    notes: tuple[str, ...] = ()

    @property
    def digest(self) -> str:
        """A sha256 of what the scores depend on: neither name, path nor revision, but weights, template and format."""
        return digest_of(asdict(replace(self, name="", path="", revision=None, trained_on=(), notes=())))


@dataclass(frozen=True, slots=True)
class Provenance:
    """Where scores come from, and of how many dialogues.

    Attributes:
        scorer: The scorer.
        n_total: Dialogues.
        n_scored: Those with a finite score; a chat template may refuse a dialogue.
        n_truncated: Those that were cut.
    """

    scorer: ScorerIdentity
    n_total: int
    n_scored: int
    n_truncated: int

    @classmethod
    def of(cls, scorer: ScorerIdentity, scores: np.ndarray, truncated: np.ndarray) -> "Provenance":
        """Count scores and cuts, of any shape."""
        return cls(scorer, scores.size, int(np.isfinite(scores).sum()), int(truncated.sum()))

    def to_dict(self) -> dict[str, Any]:
        """Return the record as JSON-able data."""
        return asdict(self)


class RewardScorer(Protocol):
    """Scores dialogues."""

    @property
    def identity(self) -> ScorerIdentity:
        """What the scores depend on."""

    def score(self, dialogues: Iterable[Dialogue], on_scored: OnScored | None = None) -> tuple[np.ndarray, np.ndarray]:
        """Score the last assistant turn of each dialogue, given what stands before it.

        Args:
            dialogues: Any number of them; not all held at a time.
            on_scored: Called with the number of dialogues that were scored since the last call.

        Returns:
            Rewards, float64 [n], NaN where the model cannot read the dialogue; and whether it was cut, bool [n].
        """


@dataclass(frozen=True, slots=True)
class LengthScorer:
    """A control that pays for length alone: log(1 + words of the response)."""

    identity: ScorerIdentity

    def score(self, dialogues: Iterable[Dialogue], on_scored: OnScored | None = None) -> tuple[np.ndarray, np.ndarray]:
        """See `RewardScorer`."""
        scores = []
        for portion in portions(dialogues, n_characters):
            scores += [np.log1p(len(words_of(dialogue.response))) for dialogue in portion]
            if on_scored is not None:
                on_scored(len(portion))
        return np.array(scores, dtype=np.float64), np.zeros(len(scores), dtype=np.bool_)


@dataclass(frozen=True, slots=True)
class CheckpointScorer:
    """A reward model of ours, in float32."""

    identity: ScorerIdentity
    model: RewardModel
    token_budget: int

    def score(self, dialogues: Iterable[Dialogue], on_scored: OnScored | None = None) -> tuple[np.ndarray, np.ndarray]:
        """See `RewardScorer`."""
        scores, cuts = [], []
        for ids, truncated in token_blocks(dialogues, self.model.tokeniser, self.model.view):
            lengths = np.array([len(row) for row in ids])
            pad_id = self.model.tokeniser.pad_id
            rewards = score_tokens(self.model, ids, lengths, pad_id, "float32", self.token_budget, on_scored)
            scores.append(rewards[:, 0].astype(np.float64))
            cuts.append(truncated)
        return joined_scores(scores, cuts)


@dataclass(frozen=True, slots=True)
class HubScorer:
    """A sequence classifier in Hugging Face layout that was trained as a reward model."""

    identity: ScorerIdentity
    model: HubModel
    token_budget: int

    def score(self, dialogues: Iterable[Dialogue], on_scored: OnScored | None = None) -> tuple[np.ndarray, np.ndarray]:
        """See `RewardScorer`."""
        scores, cuts = [], []
        block = []
        for dialogue in dialogues:
            block.append(self.model.encode(dialogue))
            if len(block) >= TEXTS_AT_ONCE:
                scores.append(self.model.score(block, self.token_budget, on_scored))
                cuts.append(np.array([row.is_truncated for row in block], dtype=np.bool_))
                block = []
        if block:
            scores.append(self.model.score(block, self.token_budget, on_scored))
            cuts.append(np.array([row.is_truncated for row in block], dtype=np.bool_))
        return joined_scores(scores, cuts)


def open_scorer(spec: ScorerSpec, device: torch.device, fix: str = "--scorer") -> RewardScorer:
    """Load a scorer.

    Args:
        spec: Which one.
        device: Where it scores.
        fix: The setting that names it; becomes the `fix` of errors.

    Raises:
        InputError: An unknown kind, or nothing loadable, or no reward model, under that name.
    """
    match spec.kind:
        case "length":
            return LengthScorer(ScorerIdentity(spec.name, "length", template="response"))
        case "checkpoint":
            return _open_checkpoint(spec, device, fix)
        case "hub":
            model = load_hub_model(
                spec.path, spec.revision, spec.style, spec.column, spec.dtype, spec.max_length, spec.truncation, fix
            )
            model.network.to(device)
            facts = model.facts()
            return HubScorer(ScorerIdentity(spec.name, "hub", spec.path, **facts), model, spec.token_budget)
        case _:
            raise InputError(f"a scorer of the kind {spec.kind!r}", f"one of {', '.join(KINDS)}", fix)


def _open_checkpoint(spec: ScorerSpec, device: torch.device, fix: str) -> CheckpointScorer:
    model = load_reward_model(Path(spec.path), fix)
    identity = ScorerIdentity(
        spec.name,
        "checkpoint",
        spec.path,
        dtype="float32",
        max_length=model.view.max_length,
        truncation=model.view.truncation,
        template=model.view.view,
        template_digest=digest_of([model.view.slug, model.tokeniser.digest]),
        weights=weights_digest(model.state_dict()),
        architecture=digest_of([model.hparams["encoder_config"], model.hparams["pooling"]]),
        trained_on=tuple(model.trained_on),
    )
    return CheckpointScorer(identity, model.to(device), spec.token_budget)


def token_blocks(
    dialogues: Iterable[Dialogue], tokeniser: Tokeniser, view: ViewRequest
) -> Iterator[tuple[list[np.ndarray], np.ndarray]]:
    """Yield token ids, and which texts were cut, of some thousand dialogues at a time."""
    ids: list[np.ndarray] = []
    cuts: list[np.ndarray] = []
    for portion in portions(dialogues, n_characters):
        parts = [view_parts(dialogue, view.view) for dialogue in portion]
        tokens = tokeniser.encode(parts, view.max_length, view.truncation)
        ids += [np.asarray(row, dtype=np.int32) for row in tokens.ids]
        cuts.append(tokens.truncated)
        if len(ids) >= TEXTS_AT_ONCE:
            yield ids, np.concatenate(cuts)
            ids, cuts = [], []
    if ids:
        yield ids, np.concatenate(cuts)


def n_characters(dialogue: Dialogue) -> int:
    """Return the characters of a dialogue."""
    return sum(len(turn.text) for turn in dialogue.turns)


def joined_scores(scores: list[np.ndarray], cuts: list[np.ndarray]) -> tuple[np.ndarray, np.ndarray]:
    """Join the scores and cuts of blocks of dialogues; there may be none."""
    if not scores:
        return np.empty(0), np.empty(0, dtype=np.bool_)
    return np.concatenate(scores), np.concatenate(cuts)
