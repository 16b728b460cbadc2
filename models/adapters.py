"""How is an encoder trained through a few weights beside its own? Low-rank adapters (LoRA, Hu et al. 2021), by peft."""

import re
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from fnmatch import fnmatchcase
from typing import Any

import torch
from torch import nn

from datamodules.errors import InputError

_FIX = "--model.lora_targets"
# How peft names what it puts into a linear layer: `query` becomes `query.base_layer`, `query.lora_A.default`, ...
_ADAPTER = "default"
_BASE, _ADDED = ".base_layer.", ".lora_"


@dataclass(frozen=True, slots=True)
class Lora:
    """What adapters an encoder gets.

    Attributes:
        rank: Inner width of an adapter.
        alpha: What an adapter says is multiplied by alpha / rank.
        dropout: Dropout rate of what an adapter reads.
        targets: Patterns of linear layers, see `matched_layers`; none stands for peft's default of the architecture.
    """

    rank: int = 8
    alpha: float = 16.0
    dropout: float = 0.0
    targets: tuple[str, ...] = ()

    @classmethod
    def from_dict(cls, fields: Mapping[str, Any]) -> "Lora":
        """Build from plain values; what is missing has its default."""
        return cls(**{**fields, "targets": tuple(fields.get("targets", ()))})

    def to_dict(self) -> dict[str, Any]:
        """Return plain values."""
        return asdict(self) | {"targets": list(self.targets)}

    def with_defaults(self, model_type: str) -> "Lora":
        """Replace missing targets by peft's, so that a checkpoint does not depend on the version of peft.

        Raises:
            InputError: peft has none for the architecture.
        """
        from peft.utils.constants import TRANSFORMERS_MODELS_TO_LORA_TARGET_MODULES_MAPPING as DEFAULTS

        if self.targets:
            return self
        names = DEFAULTS.get(model_type, _OWN_DEFAULTS.get(model_type))
        if not isinstance(names, Sequence) or isinstance(names, str):
            found = f"no layers that peft would adapt in a {model_type} encoder"
            raise InputError(found, "names of linear layers (a name that does not occur lists them)", _FIX)
        return replace(self, targets=tuple(names))


# What peft 0.21 has no default for: all of attention's input is one layer there.
_OWN_DEFAULTS = {"modernbert": ("Wqkv",)}


def add_adapters(encoder: nn.Module, lora: Lora) -> None:
    """Put adapters beside linear layers, in place, and leave only them trainable; they change nothing until trained.

    Args:
        encoder: The encoder, perhaps on the meta device.
        lora: Size and place of the adapters.

    Raises:
        InputError: A pattern that matches no linear layer.
    """
    # Takes a second, which only runs with adapters should pay.
    from peft import LoraConfig, inject_adapter_in_model

    config = LoraConfig(
        r=lora.rank,
        lora_alpha=lora.alpha,  # type: ignore[arg-type]  # only ever divided by the rank
        lora_dropout=lora.dropout,
        target_modules=matched_layers(encoder, lora.targets),
    )
    inject_adapter_in_model(config, encoder, _ADAPTER)


def matched_layers(encoder: nn.Module, patterns: Sequence[str]) -> list[str]:
    """Return the names of the linear layers that patterns name, in the encoder's order.

    A pattern is the end of a layer's name from a dot on, as in peft, in which * stands for any text: `query`,
    `attention.self.query` or `layer.1.*`.

    Raises:
        InputError: A pattern that matches none; the message lists the layers there are.
    """
    names = [name for name, module in encoder.named_modules() if isinstance(module, nn.Linear)]
    matched: set[str] = set()
    for pattern in patterns:
        here = [name for name in names if fnmatchcase(name, pattern) or fnmatchcase(name, f"*.{pattern}")]
        if not here:
            known = dict.fromkeys(re.sub(r"(?<![^.])\d+(?![^.])", "*", name) for name in names)
            found = f"pattern {pattern!r}, which is the end of no linear layer's name"
            raise InputError(found, f"names among {', '.join(known)}", _FIX)
        matched.update(here)
    return [name for name in names if name in matched]


def load_base_weights(encoder: nn.Module, weights: Mapping[str, torch.Tensor]) -> None:
    """Load the weights of a plain encoder into one that may have adapters, whose own weights stay.

    Raises:
        RuntimeError: Weights of another architecture.
    """
    state = encoder.state_dict()
    names = {_plain_name(name): name for name in state if _ADDED not in name}
    if names.keys() != weights.keys():
        raise RuntimeError(f"weights of another encoder: {sorted(names.keys() ^ weights.keys())[:3]}")
    encoder.load_state_dict(state | {names[name]: weight for name, weight in weights.items()})


def merged_weights(encoder: nn.Module) -> dict[str, torch.Tensor]:
    """Return the weights of a plain encoder that computes what this one does, its adapters added in."""
    weights = {_plain_name(name): tensor for name, tensor in encoder.state_dict().items() if _ADDED not in name}
    for name, module in encoder.named_modules():
        if hasattr(module, "get_delta_weight"):
            weights[f"{name}.weight"] = weights[f"{name}.weight"] + module.get_delta_weight(_ADAPTER).detach()
    return weights


def _plain_name(name: str) -> str:
    return name.replace(_BASE, ".")
