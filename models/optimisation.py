"""How are weights moved?"""

import math
from dataclasses import dataclass
from typing import Any

from torch import nn

from datamodules.errors import InputError


@dataclass(frozen=True, slots=True)
class Optimisation:
    """How the weights are moved.

    Attributes:
        lr_encoder: Peak learning rate of the encoder.
        lr_head: Peak learning rate of pooling and head.
        weight_decay: AdamW weight decay; biases and normalisation weights get none.
        warmup_fraction: Share of all steps in which the rate rises linearly from 0.
        schedule: What follows: `linear` (to 0), `cosine` (to 0) or `constant`.
        total_steps: Optimiser steps of the whole run.
        seed: Seed of dropout, together with epoch and batch.
    """

    lr_encoder: float
    lr_head: float
    weight_decay: float
    warmup_fraction: float
    schedule: str
    total_steps: int
    seed: int

    def __post_init__(self) -> None:
        if not 0 <= self.warmup_fraction < 1:
            raise InputError(f"warmup_fraction {self.warmup_fraction}", "a share in [0, 1)", "--optim.warmup_fraction")
        if self.schedule not in ("linear", "cosine", "constant"):
            raise InputError(f"schedule {self.schedule!r}", "linear, cosine or constant", "--optim.schedule")

    def factor(self, step: int) -> float:
        """Share of the peak rate at an optimiser step (0-based)."""
        warmup = math.ceil(self.warmup_fraction * self.total_steps)
        if step < warmup:
            return (step + 1) / (warmup + 1)
        progress = min(1.0, (step - warmup) / max(1, self.total_steps - warmup))
        match self.schedule:
            case "linear":
                return 1.0 - progress
            case "cosine":
                return 0.5 * (1.0 + math.cos(math.pi * progress))
            case _:
                return 1.0


def parameter_groups(model: nn.Module, optimisation: Optimisation) -> list[dict[str, Any]]:
    """Return four groups of what is trained, some perhaps empty: encoder and the rest, each with and without decay.

    Args:
        model: Its `encoder` (adapters included) gets a rate of its own.
        optimisation: The rates.
    """
    groups = []
    trained = [(name, parameter) for name, parameter in model.named_parameters() if parameter.requires_grad]
    for is_encoder, lr in ((True, optimisation.lr_encoder), (False, optimisation.lr_head)):
        own = [parameter for name, parameter in trained if name.startswith("encoder.") == is_encoder]
        for decayed in (True, False):
            # One-dimensional parameters are biases and normalisation weights.
            parameters = [p for p in own if (p.ndim > 1) == decayed]
            groups.append({"params": parameters, "lr": lr, "weight_decay": optimisation.weight_decay * decayed})
    return groups
