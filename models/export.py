"""How is a classifier written so that transformers alone loads it and finds the same probabilities?

Temperatures go into the last layer (weights and bias of label l by T_l), so that the sigmoid or softmax of the logits
is calibrated. Where a class of transformers computes the same, the folder is one of that class. Else it holds

* `encoder/`: the encoder alone, in transformers' own format;
* `head.safetensors`: everything behind it;
* `modeling_imprint.py` and a config.json that names it, which join the two for `trust_remote_code=True`.

The model type of that config.json is no stock one, on purpose: transformers refuses it without `trust_remote_code`,
where under the encoder's own type it would put a random head on it.
"""

import inspect
import json
import os
import re
import shutil
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from tokenizers import Tokenizer
from torch import nn
from transformers import AutoConfig, AutoModelForSequenceClassification, PreTrainedModel
from transformers.utils import SAFE_WEIGHTS_INDEX_NAME, SAFE_WEIGHTS_NAME
from transformers.utils import logging as transformers_logging

from datamodules.errors import InputError
from datamodules.files import write_json, write_text
from models import modeling_imprint
from models.calibration import Calibration
from models.classifier import ValueClassifier
from models.heads import LabelAttention
from models.modeling_imprint import ImprintConfig, ImprintForSequenceClassification

ENCODER_FOLDER = "encoder"
HEAD_FILE = "head.safetensors"
CODE_FILE = "modeling_imprint.py"
# Last layer of each head, whose row l makes the score of label l.
_LAST = {"linear": "head.", "mlp": "head.3.", "label-attention": "head.score."}
# What a stock tokenizer can keep of a text that is too long, and on which side it then cuts.
_CUT_SIDES = {"head": "right", "tail": "left"}


@dataclass(frozen=True, slots=True)
class ExportedModel:
    """What was written.

    Attributes:
        stock_class: The class of transformers that loads it; None where `modeling_imprint.py` does.
        pooling: `mean`, `cls` or `attention`.
        head: `linear`, `mlp` or `label-attention`.
        has_pooler_flag: Whether the stock encoder can be told to leave out a pooler, which nothing here reads.
    """

    stock_class: str | None
    pooling: str
    head: str
    has_pooler_flag: bool


def check_exportable(model: ValueClassifier) -> None:
    """Raise InputError for a classifier of which transformers alone could not do all."""
    head_kind(model)
    if model.view.truncation not in _CUT_SIDES:
        found = f"a classifier that reads long texts as {model.view.truncation}"
        raise InputError(
            found,
            f"one of {', '.join(_CUT_SIDES)}, which a tokenizer of transformers can cut",
            "export a checkpoint trained with --data.truncation head or tail",
        )


def head_kind(model: ValueClassifier) -> str:
    """Return which head a classifier has: `linear`, `mlp` or `label-attention`.

    Raises:
        InputError: Another one, which cannot be exported.
    """
    match model.head:
        case LabelAttention():
            return "label-attention"
        case nn.Sequential():
            return "mlp"
        case nn.Linear():
            return "linear"
    found = f"a head of the kind {type(model.head).__name__}, which no export is written for"
    raise InputError(found, f"one of {', '.join(_LAST)}", "export another checkpoint")


def calibrated_head(model: ValueClassifier, calibration: Calibration) -> dict[str, torch.Tensor]:
    """Return the weights behind the encoder by name (`pooling.*`, `head.*`), temperatures in the last layer."""
    state = model.state_dict()
    weights = {name: state[name].cpu() for name in state if name.startswith(("pooling.", "head."))}
    last = _LAST[head_kind(model)]
    temperatures = torch.tensor(calibration.temperatures, dtype=torch.float64)
    for name, divisor in (("weight", temperatures.unsqueeze(1)), ("bias", temperatures)):
        weights[last + name] = (weights[last + name].double() / divisor).float()
    return weights


def write_model(
    model: ValueClassifier, calibration: Calibration, settings: Mapping[str, Any], folder: Path
) -> ExportedModel:
    """Write weights, tokenizer, configuration and, where it takes them, code.

    Args:
        model: The classifier, on the CPU.
        calibration: Its temperatures.
        settings: Further fields of config.json, plain values.
        folder: An empty folder.

    Raises:
        InputError: As `check_exportable`.
        OSError: The disk is full or read-only.
    """
    check_exportable(model)
    transformers_logging.disable_progress_bar()  # type: ignore[no-untyped-call]
    labels = dict(enumerate(model.labels))
    fields = dict(settings) | {
        "id2label": labels,
        "label2id": {label: k for k, label in labels.items()},
        "problem_type": "single_label_classification" if model.softmax else "multi_label_classification",
    }
    encoder, head = model.merged(), calibrated_head(model, calibration)
    assert isinstance(encoder, PreTrainedModel)
    kind = head_kind(model)
    stock = stock_model(encoder, model.pooling.kind, kind, head, fields)
    write_tokenizer(model, folder)
    if stock is not None:
        _save(stock, folder)
        return ExportedModel(type(stock).__name__, model.pooling.kind, kind, False)
    _save(encoder, folder / ENCODER_FOLDER)
    write_tokenizer(model, folder / ENCODER_FOLDER)
    with _as_os_error():
        save_file(head, folder / HEAD_FILE, metadata={"format": "pt"})
    _make_readable(folder / HEAD_FILE)
    _write_joined(model, fields, folder)
    flags = inspect.signature(type(encoder).__init__).parameters
    return ExportedModel(None, model.pooling.kind, kind, "add_pooling_layer" in flags)


def _write_joined(model: ValueClassifier, fields: Mapping[str, Any], folder: Path) -> None:
    """Write what makes one model of the encoder's folder and the file behind it: code, its config, an index."""
    hidden = model.head[0] if isinstance(model.head, nn.Sequential) else None
    code = Path(CODE_FILE).stem
    config = ImprintConfig(
        json.loads((folder / ENCODER_FOLDER / "config.json").read_text(encoding="utf-8")),
        model.pooling.kind,
        head_kind(model),
        hidden.out_features if isinstance(hidden, nn.Linear) else None,
        **fields,
        architectures=[ImprintForSequenceClassification.__name__],
        auto_map={
            "AutoConfig": f"{code}.{ImprintConfig.__name__}",
            "AutoModelForSequenceClassification": f"{code}.{ImprintForSequenceClassification.__name__}",
        },
        dtype="float32",
    )
    config.save_pretrained(folder)
    shutil.copyfile(modeling_imprint.__file__, folder / CODE_FILE)
    files = (f"{ENCODER_FOLDER}/{SAFE_WEIGHTS_NAME}", HEAD_FILE)
    weight_map: dict[str, str] = {}
    for file in files:
        with safe_open(folder / file, framework="pt") as weights:
            weight_map |= dict.fromkeys(weights.keys(), file)
    total = sum((folder / file).stat().st_size for file in files)
    write_json(folder / SAFE_WEIGHTS_INDEX_NAME, {"metadata": {"total_size": total}, "weight_map": weight_map})


def stock_model(
    encoder: PreTrainedModel, pooling: str, head: str, weights: Mapping[str, torch.Tensor], fields: Mapping[str, Any]
) -> PreTrainedModel | None:
    """Build the same classifier as a class of transformers; None where there is none that computes the same.

    DeBERTa's reads the first token through a dense layer with an activation that its configuration names: the identity
    for a linear head, GELU for an MLP. Those of BERT and RoBERTa have a fixed tanh there, ModernBERT's a layer norm
    behind any pooling, and no other one has a mean.

    Args:
        encoder: The encoder alone.
        pooling: `mean`, `cls` or `attention`.
        head: `linear`, `mlp` or `label-attention`.
        weights: From `calibrated_head`.
        fields: Fields of config.json.
    """
    config, hidden = encoder.config, int(encoder.config.hidden_size)
    last, dense, bias, activation = weights.get("head.weight"), torch.eye(hidden), torch.zeros(hidden), "linear"
    if head == "mlp":
        # A narrower hidden layer leaves the rest of the dense one at 0, where GELU is 0.
        last, activation = weights["head.3.weight"], "gelu"
        width = last.shape[1]
        if width > hidden:
            return None
        dense = nn.functional.pad(weights["head.0.weight"], (0, 0, 0, hidden - width))
        bias = nn.functional.pad(weights["head.0.bias"], (0, hidden - width))
        last = nn.functional.pad(last, (0, hidden - width))
    if pooling != "cls" or config.model_type not in ("deberta", "deberta-v2") or last is None:
        return None
    settings = config.to_diff_dict() | dict(fields)
    settings |= {"pooler_hidden_act": activation, "pooler_hidden_size": hidden, "model_type": config.model_type}
    model: PreTrainedModel = AutoModelForSequenceClassification.from_config(  # type: ignore[no-untyped-call]
        AutoConfig.for_model(**settings), dtype=torch.float32
    )
    ours = {f"{model.base_model_prefix}.{name}": tensor for name, tensor in encoder.state_dict().items()}
    ours |= {"pooler.dense.weight": dense, "pooler.dense.bias": bias}
    ours |= {"classifier.weight": last, "classifier.bias": weights[f"{_LAST[head]}bias"]}
    model.load_state_dict(ours)
    return model


def write_tokenizer(model: ValueClassifier, folder: Path) -> None:
    """Write tokenizer.json and its settings: what `truncation=True` and `padding=True` do is what training read."""
    view = model.view
    settings: dict[str, Any] = {
        # Reads tokenizer.json as it stands; under a model's own name transformers would build parts of it anew.
        "tokenizer_class": "PreTrainedTokenizerFast",
        "model_max_length": view.max_length,
        "truncation_side": _CUT_SIDES[view.truncation],
        "padding_side": "right",
        "model_input_names": ["input_ids", "attention_mask"],
        "clean_up_tokenization_spaces": False,
        **_special_tokens(model),
    }
    write_text(folder / "tokenizer.json", model.tokeniser.json)
    write_json(folder / "tokenizer_config.json", settings)


def _special_tokens(model: ValueClassifier) -> dict[str, str]:
    """Name the tokens that frame a text where there is one on each side, and the one that fills up."""
    tokenizer = Tokenizer.from_str(model.tokeniser.json)
    frame = tokenizer.encode("").tokens
    named = dict(zip(("cls_token", "sep_token"), frame, strict=True)) if len(frame) == 2 else {}
    return named | {"pad_token": str(tokenizer.id_to_token(model.tokeniser.pad_id))}


def _save(model: PreTrainedModel, folder: Path) -> None:
    """Write config.json and one file of weights."""
    with _as_os_error():
        model.save_pretrained(folder, max_shard_size="1000GB")
    _make_readable(folder / SAFE_WEIGHTS_NAME)


def _make_readable(path: Path) -> None:
    """Give a file of weights the mode that open() would have given it: safetensors makes them private."""
    umask = os.umask(0)
    os.umask(umask)
    path.chmod(0o666 & ~umask)


@contextmanager
def _as_os_error() -> Iterator[None]:
    """Turn what safetensors says of a full disk into what Python says of it."""
    try:
        yield
    except SafetensorError as error:
        if number := re.search(r"os error (\d+)", str(error)):
            raise OSError(int(number[1]), str(error)) from error
        raise
