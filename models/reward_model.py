"""Which of two answers is better? A text encoder with one output, trained on pairs (Bradley and Terry 1952)."""

from pathlib import Path
from typing import Any

import torch
from torch.nn import functional

from datamodules.pair_datamodule import PairBatch
from datamodules.tokenise import Tokeniser
from datamodules.views import ViewRequest
from models.checkpoint_file import REWARD_MODEL
from models.checkpoint_model import load_model
from models.encoder import PretrainedEncoder
from models.fine_tuning import FineTunedEncoder


class RewardModel(FineTunedEncoder):
    """A reward model: encoder, pooling, dropout, one linear output.

    The head has no bias: pairs say nothing about the level of a reward, so that a bias would get no gradient.

    Args:
        encoder_name: The name that the user gave the encoder; kept for the record.
        encoder_config: transformers configuration of the encoder.
        tokenizer_json: Serialised fast tokenizer.
        pad_id: Id of the padding token.
        max_positions: Longest sequence the encoder reads.
        view: `ViewRequest` fields: what part of a dialogue is read.
        trained_on: What the pairs were, one plain dict per data set (`train.reward_data.trained_on`).
        pooling: `mean`, `cls` or `attention`.
        dropout: Dropout rate before the head.
        encoder_dropout: New rate for the encoder's own dropout layers; None keeps the configured ones.
    """

    KIND = REWARD_MODEL

    def __init__(
        self,
        encoder_name: str,
        encoder_config: dict[str, Any],
        tokenizer_json: str,
        pad_id: int,
        max_positions: int,
        view: dict[str, Any],
        trained_on: list[dict[str, Any]],
        pooling: str = "mean",
        dropout: float = 0.1,
        encoder_dropout: float | None = None,
    ) -> None:
        tokeniser = Tokeniser(tokenizer_json, pad_id, max_positions)
        super().__init__(
            encoder_config, tokeniser, ViewRequest(**view), pooling, dropout, encoder_dropout, 1, head_bias=False
        )
        self.save_hyperparameters(logger=False)
        self.trained_on = trained_on
        self._validation: list[torch.Tensor] = []

    @classmethod
    def from_pretrained(
        cls, encoder: PretrainedEncoder, view: ViewRequest, trained_on: list[dict[str, Any]], **options: Any
    ) -> "RewardModel":
        """Build a reward model on a pretrained encoder; `options` are the remaining constructor arguments."""
        return cls.from_encoder(encoder, view, trained_on=trained_on, **options)

    def _rewards(self, batch: PairBatch) -> torch.Tensor:
        """Score both sides in one pass: float32 [2, n_pairs], the preferred side first."""
        rewards: torch.Tensor = self(batch.input_ids, batch.attention_mask)
        return rewards.view(2, -1)

    def training_step(self, batch: PairBatch, batch_idx: int) -> torch.Tensor:
        """Return the loss of a batch."""
        rewards = self._rewards(batch)
        loss = bradley_terry_loss(rewards)
        metrics = {f"train/{name}": value for name, value in pair_metrics(rewards.detach()).items()}
        self.log_dict(metrics, batch_size=rewards.shape[1], on_step=True, on_epoch=False)
        return loss

    def validation_step(self, batch: PairBatch, batch_idx: int) -> None:
        """Keep the rewards of a batch for the metrics of the whole split."""
        self._validation.append(self._rewards(batch).cpu())

    def on_validation_epoch_end(self) -> None:
        """Log the metrics of the validation split."""
        rewards = torch.cat(self._validation, dim=1)
        self._validation.clear()
        if self.trainer.sanity_checking:
            return
        self.require_finite(rewards)
        self.log_validation(pair_metrics(rewards))


def bradley_terry_loss(rewards: torch.Tensor) -> torch.Tensor:
    """Return the mean of -log sigmoid(r_first - r_second) over rewards [2, n_pairs], computed in float32."""
    rewards = rewards.float()
    return -functional.logsigmoid(rewards[0] - rewards[1]).mean()


def pair_metrics(rewards: torch.Tensor) -> dict[str, float]:
    """Describe the rewards of pairs [2, n_pairs] of which the first side was preferred.

    Returns:
        `loss` in nats, `accuracy` (equal rewards are wrong), `margin` (mean difference), `reward_mean` and `reward_std`
        (over both sides, n - 1 below); NaN where undefined.
    """
    if not rewards.shape[1]:
        return dict.fromkeys(("loss", "accuracy", "margin", "reward_mean", "reward_std"), float("nan"))
    rewards = rewards.float()
    return {
        "loss": float(bradley_terry_loss(rewards)),
        "accuracy": float((rewards[0] > rewards[1]).float().mean()),
        "margin": float((rewards[0] - rewards[1]).mean()),
        "reward_mean": float(rewards.mean()),
        "reward_std": float(rewards.std()),
    }


def load_reward_model(path: Path, fix: str = "--scorer") -> RewardModel:
    """Load the reward model of a checkpoint, in eval mode, on the CPU; see `load_model`."""
    return load_model(RewardModel, path, fix)
