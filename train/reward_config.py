"""What can be set when a reward model is trained?

The text below each field is the only help text: the command line and the docs read it from here.
"""

from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Literal

from datamodules.errors import InputError
from datamodules.views import Truncation, ViewName
from train.check_config import NOT_NEGATIVE, POSITIVE_WHOLE, RATE, Test, check_experiment_name, check_ranges
from train.config import OptimConfig, RunConfig, TrackConfig, plain

SHARE: tuple[Test, str] = (lambda v: 0 < v < 1, "a share between 0 and 1")

RANGES: dict[str, tuple[Test, str]] = {
    "data.held_out_fraction": SHARE,
    "data.part_seed": NOT_NEGATIVE,
    "data.val_fraction": SHARE,
    "model.dropout": RATE,
    "model.encoder_dropout": RATE,
    "optim.lr_encoder": NOT_NEGATIVE,
    "optim.lr_head": NOT_NEGATIVE,
    "optim.weight_decay": NOT_NEGATIVE,
    "optim.warmup_fraction": RATE,
    "trainer.max_epochs": POSITIVE_WHOLE,
    "trainer.batch_size": POSITIVE_WHOLE,
    "trainer.accumulate": POSITIVE_WHOLE,
    "trainer.gradient_clip": NOT_NEGATIVE,
    "trainer.save_top_k": (lambda v: v == -1 or v >= 1, "-1 (all) or a whole number from 1"),
    "trainer.limit_train_batches": POSITIVE_WHOLE,
    "trainer.token_budget": POSITIVE_WHOLE,
    "run.seed": NOT_NEGATIVE,
}


@dataclass
class RewardDataConfig:
    """Preference pairs."""

    datasets: list[str] = field(default_factory=lambda: ["sample-hh-rlhf", "sample-webgpt", "sample-alpaca-gpt4"])
    """Preference data sets: sample-*, hh-rlhf, webgpt, alpaca-gpt4 (under the data root), or a .jsonl file."""
    part: Literal["all", "train", "held-out"] = "train"
    """Part of the clusters (prompts) to train on; the other part is the test, and with `all` there is none."""
    held_out_fraction: float = 0.5
    """Share of the clusters in the held-out part."""
    part_seed: int = 0
    """Seed of the parts; audits must name the same one to stay on held-out prompts."""
    split: Literal["test", "train"] = "test"
    """File of hh-rlhf that is read: the parts are parts of it."""
    root: Path | None = None
    """Folder with real data sets; the environment variable IMPRINT_DATA when left out."""
    view: ViewName = "exchange"
    """Part of each dialogue that is read."""
    truncation: Truncation = "head"
    """What a cut of the response keeps; the human turn is cut first."""
    max_length: int = 256
    """Tokens read of each dialogue, special tokens included."""
    val_fraction: float = 0.1
    """Share of the training clusters that picks the best checkpoint."""


@dataclass
class RewardModelConfig:
    """Architecture."""

    encoder: str = "minilm"
    """minilm (bundled), a hub id such as roberta-base, or a folder in Hugging Face layout."""
    revision: str | None = None
    """Branch, tag or commit of a hub encoder."""
    pooling: Literal["mean", "cls", "attention"] = "mean"
    """How token states become one vector."""
    dropout: float = 0.1
    """Dropout rate before the head."""
    encoder_dropout: float | None = None
    """Dropout rate inside the encoder; its own rates when left out."""


@dataclass
class RewardTrainerConfig:
    """The training loop and its checkpoints."""

    max_epochs: int = 2
    """Passes over the training pairs."""
    batch_size: int = 16
    """Pairs per step and accumulated part."""
    accumulate: int = 1
    """Batches per optimiser step."""
    gradient_clip: float = 1.0
    """Largest gradient norm; 0 for none."""
    precision: Literal["auto", "float32", "bf16"] = "auto"
    """Number format of training; auto takes bf16 where the hardware has it. Scores are float32."""
    accelerator: Literal["auto", "cpu", "gpu"] = "auto"
    """Where to train and score."""
    monitor: Literal["val/accuracy", "val/loss"] = "val/loss"
    """Validation metric that picks the best checkpoint."""
    save_top_k: int = 1
    """Checkpoints to keep, best first; -1 keeps all."""
    limit_train_batches: int | None = None
    """Train on only so many batches an epoch (a quick try)."""
    token_budget: int = 4096
    """Padded tokens per validation and test batch."""


@dataclass
class RewardConfig:
    """Everything that `imprint reward fit` reads."""

    data: RewardDataConfig = field(default_factory=RewardDataConfig)
    model: RewardModelConfig = field(default_factory=RewardModelConfig)
    optim: OptimConfig = field(default_factory=OptimConfig)
    trainer: RewardTrainerConfig = field(default_factory=RewardTrainerConfig)
    track: TrackConfig = field(default_factory=TrackConfig)
    run: RunConfig = field(default_factory=RunConfig)
    output: Path | None = None
    """File that gets a copy of the best checkpoint, for audits to name; an older reward model there is replaced."""


def reward_config_to_dict(config: RewardConfig) -> dict[str, Any]:
    """Return the config as plain nested values: what config.yaml holds and the tracker gets."""
    return {name: plain(value) for name, value in asdict(config).items()}


def check_reward_config(config: RewardConfig) -> None:
    """Check ranges and names.

    Raises:
        InputError: The first setting that is out of range.
    """
    check_ranges(config, RANGES)
    if not config.data.datasets:
        raise InputError("no data set to train on", "at least one", "--data.datasets")
    check_experiment_name(config.run.experiment)
