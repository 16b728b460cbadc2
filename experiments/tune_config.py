"""What can be set of a search? As in `train/config.py`, the text below each field is the only help text."""

from dataclasses import dataclass, field
from typing import Any, Literal

from train.config import Config


@dataclass
class TuneConfig:
    """The search (`imprint tune`)."""

    space: dict[str, dict[str, Any]] = field(default_factory=dict)
    """Settings to search, as section.setting: {low, high} with log or step, or {choices}."""
    metric: str = "auto"
    """Validation metric to optimise, which also picks the checkpoint; auto is trainer.monitor."""
    seeds: int = 1
    """Runs per trial, with seeds from run.seed on; the value of a trial is their mean."""
    pruner: Literal["median", "halving", "none"] = "median"
    """Stop a trial early that is below the median of the others, or out in successive halving, at a validation."""
    pruner_startup: int = 5
    """Trials that are finished before one may be stopped (`median`)."""
    pruner_warmup: int = 1
    """Validations of each trial before it may be stopped."""
    audit: Literal["best-only", "none", "all"] = "best-only"
    """Trials whose checkpoints are audited after training; a trial that was stopped early never is."""
    top_k: int = 5
    """Best trials among which the second stage chooses (max_ece, max_instability)."""
    max_ece: float | None = None
    """Second stage: largest val/ece_macro of a trial that may be chosen."""
    max_instability: float | None = None
    """Second stage: largest mean share of audit decisions that differ between its best checkpoint and the one before;
    the top_k trials are audited for it."""
    stale_hours: float = 12.0
    """A trial of another machine is taken for dead after so long without a sign of life, and run again."""


@dataclass
class StudyConfig(Config):
    """Everything that `imprint tune` reads."""

    tune: TuneConfig = field(default_factory=TuneConfig)
