"""What does the config of an ensemble tell besides the settings of its members?"""

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from train.config import Config


@dataclass
class MemberConfig:
    """One checkpoint of an ensemble."""

    run: Path
    """Run directory that it is of."""
    weights: str
    """Digest of its weights."""
    step: int
    """Its training step."""
    settings: dict[str, Any]
    """The seed of its run, and its settings that not all members share."""


@dataclass
class EnsembleConfig:
    """Checkpoints whose probabilities are averaged."""

    checkpoint: str = "best"
    """How they were chosen."""
    members: list[MemberConfig] = field(default_factory=list)
    """The checkpoints."""


@dataclass
class EnsembleRunConfig(Config):
    """What the config.yaml of an ensemble holds: where members differ, the other sections are those of the first."""

    ensemble: EnsembleConfig = field(default_factory=EnsembleConfig)
