"""How is a classifier written so that transformers alone loads it and finds the same probabilities?

Temperatures go into the last layer (weights and bias of label l by T_l), so that the sigmoid or softmax of the logits
is calibrated. Where a class of transformers computes the same, the folder is one of that class. Else
`modeling_imprint.py` goes with it, which `trust_remote_code=True` runs. The model type is no stock one then, on
purpose: without that flag transformers refuses it, where under the encoder's own type it would put a random head on it.
"""

import os
import re
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from tokenizers import Tokenizer
from torch import nn
from transformers import AutoConfig, AutoModelForSequenceClassification, PreTrainedModel
from transformers.utils import SAFE_WEIGHTS_NAME
from transformers.utils import logging as transformers_logging

from datamodules.errors import InputError
from datamodules.files import write_json, write_text
from models.calibration import Calibration
from models.classifier import ValueClassifier
from models.modeling_imprint import ImprintConfig, ImprintForSequenceClassification

CODE_FILE = "modeling_imprint.py"
# Last layer of each head, whose row l makes the score of label l.
_LAST = {"linear": "head.", "mlp": "head.3.", "label-attention": "head.score."}
# What a stock tokenizer can keep of a text that is too long, and on which side it then cuts.
_CUT_SIDES = {"head": "right", "tail": "left"}


def check_exportable(model: ValueClassifier) -> None:
    """Raise InputError for a classifier of which transformers alone could not do all."""
    if model.tokeniser.window is not None:
        found = f"a classifier that reads long texts in windows of {model.tokeniser.window} tokens"
        needed = "one that reads a text at once: no tokenizer of transformers lays out windows"
        raise InputError(found, needed, "export a checkpoint trained without --model.window")
    if model.view.truncation not in _CUT_SIDES:
        found = f"a classifier that reads long texts as {model.view.truncation}"
        raise InputError(
            found,
            f"one of {', '.join(_CUT_SIDES)}, which a tokenizer of transformers can cut",
            "export a checkpoint trained with --data.truncation head or tail",
        )


def calibrated_head(model: ValueClassifier, calibration: Calibration) -> dict[str, torch.Tensor]:
    """Return the weights behind the encoder by name (`pooling.*`, `head.*`), temperatures in the last layer."""
    state = model.state_dict()
    weights = {name: state[name].cpu() for name in state if name.startswith(("pooling.", "head."))}
    last = _LAST[model.hparams["head"]]
    temperatures = torch.tensor(calibration.temperatures, dtype=torch.float64)
    for name, divisor in (("weight", temperatures.unsqueeze(1)), ("bias", temperatures)):
        weights[last + name] = (weights[last + name].double() / divisor).float()
    return weights


def write_model(
    model: ValueClassifier, calibration: Calibration, settings: Mapping[str, Any], folder: Path
) -> str | None:
    """Write weights, tokenizer, configuration and, where it takes it, code.

    Args:
        model: The classifier, on the CPU.
        calibration: Its temperatures.
        settings: Further fields of config.json, plain values.
        folder: An empty folder.

    Returns:
        Name of the class of transformers that loads it; None where that takes `modeling_imprint.py`.

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
    head = calibrated_head(model, calibration)
    stock = stock_model(model, head, fields)
    _save(stock or model_with_code(model, head, fields), folder)
    write_tokenizer(model, folder)
    return None if stock is None else type(stock).__name__


def model_with_code(
    model: ValueClassifier, head: Mapping[str, torch.Tensor], fields: Mapping[str, Any]
) -> PreTrainedModel:
    """Build the same classifier from `modeling_imprint.py`; arguments as `stock_model`."""
    config = ImprintConfig(
        _portable(model.encoder_config),
        model.pooling.kind,
        model.hparams["head"],
        model.hparams["head_width"],
        **fields,
    )
    # Saving then copies the code and names it in config.json.
    ImprintConfig.register_for_auto_class()  # type: ignore[no-untyped-call]
    ImprintForSequenceClassification.register_for_auto_class("AutoModelForSequenceClassification")  # type: ignore[no-untyped-call]
    whole = ImprintForSequenceClassification(config)
    encoder = {f"backbone.{name}": tensor for name, tensor in model.merged().state_dict().items()}
    whole.load_state_dict(encoder | dict(head))
    return whole


def stock_model(
    model: ValueClassifier, head: Mapping[str, torch.Tensor], fields: Mapping[str, Any]
) -> PreTrainedModel | None:
    """Build the same classifier as a class of transformers; None where there is none that computes the same.

    DeBERTa's reads the first token through a dense layer with an activation that its configuration names: the identity
    for a linear head, GELU for an MLP. Those of BERT and RoBERTa have a fixed tanh there, ModernBERT's a layer norm
    behind any pooling, and no other one has a mean.

    Args:
        model: The classifier.
        head: From `calibrated_head`.
        fields: Fields of config.json.
    """
    kind, hidden = model.hparams["head"], int(model.encoder.config.hidden_size)  # type: ignore[union-attr,arg-type]
    width = model.hparams["head_width"] or hidden
    is_deberta = model.encoder_config["model_type"] in ("deberta", "deberta-v2")
    if not is_deberta or model.pooling.kind != "cls" or kind == "label-attention" or width > hidden:
        return None
    dense, bias, activation = torch.eye(hidden), torch.zeros(hidden), "linear"
    last = head[f"{_LAST[kind]}weight"]
    if kind == "mlp":
        # A narrower hidden layer leaves the rest of the dense one at 0, where GELU is 0.
        activation = "gelu"
        dense = nn.functional.pad(head["head.0.weight"], (0, 0, 0, hidden - width))
        bias = nn.functional.pad(head["head.0.bias"], (0, hidden - width))
        last = nn.functional.pad(last, (0, hidden - width))
    settings = _portable(model.encoder_config) | dict(fields)
    settings |= {"pooler_hidden_act": activation, "pooler_hidden_size": hidden}
    whole: PreTrainedModel = AutoModelForSequenceClassification.from_config(  # type: ignore[no-untyped-call]
        AutoConfig.for_model(**settings), dtype=torch.float32
    )
    state = {f"{whole.base_model_prefix}.{name}": tensor for name, tensor in model.merged().state_dict().items()}
    state |= {"pooler.dense.weight": dense, "pooler.dense.bias": bias}
    state |= {"classifier.weight": last, "classifier.bias": head[f"{_LAST[kind]}bias"]}
    whole.load_state_dict(state)
    return whole


def _portable(config: Mapping[str, Any]) -> dict[str, Any]:
    """Leave out where an encoder came from, and the number format, which whoever loads the folder chooses."""
    return {name: value for name, value in config.items() if name not in ("dtype", "_name_or_path")}


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
    """Write config.json, one file of weights and, where the class is not one of transformers, its code."""
    with _as_os_error():
        model.save_pretrained(folder, max_shard_size="1000GB")
    # The mode that open() would have given it: safetensors makes its files private.
    umask = os.umask(0)
    os.umask(umask)
    (folder / SAFE_WEIGHTS_NAME).chmod(0o666 & ~umask)


@contextmanager
def _as_os_error() -> Iterator[None]:
    """Turn what safetensors says of a full disk into what Python says of it."""
    try:
        yield
    except SafetensorError as error:
        if number := re.search(r"os error (\d+)", str(error)):
            raise OSError(int(number[1]), str(error)) from error
        raise
