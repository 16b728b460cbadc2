"""What does a run minimise? What its settings and training labels make of the loss."""

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import torch

from datamodules.annotated_text import AnnotatedText
from models.class_weights import EFFECTIVE_BETA, class_weights
from models.evaluation import is_single_positive
from models.losses import LossSettings
from train.config import FurtherData, ModelConfig


def loss_arguments(model: ModelConfig, targets: np.ndarray) -> dict[str, Any]:
    """Return the arguments of `ValueClassifier` that make its loss, plain values.

    Args:
        model: The settings; what they leave out has the default of its loss.
        targets: Labels of the training texts, int [n, n_labels] in {1, 0, -1}.
    """
    beta = EFFECTIVE_BETA if model.effective_beta is None else model.effective_beta
    weights = class_weights(model.class_weights, torch.from_numpy(targets), model.loss, beta)
    settings = loss_settings(model, is_single_positive(targets))
    return {"loss": model.loss, "class_weights": weights.tolist(), "loss_settings": settings}


def further_losses_of(also: Sequence[FurtherData], texts: Sequence[Sequence[AnnotatedText]]) -> list[str]:
    """Return the loss of each further data set: as set, or what its training texts allow."""
    found: list[str] = []
    for further, own in zip(also, texts, strict=True):
        single_positive = is_single_positive(np.array([text.labels for text in own], dtype=np.int64))
        found.append(further.loss or ("wan" if single_positive else "bce"))
    return found


def further_loss_arguments(model: ModelConfig, further: FurtherData, loss: str, targets: np.ndarray) -> dict[str, Any]:
    """Return what makes the loss of a further data set, as `loss_arguments`, with its weight."""
    own = replace(model, loss=loss, class_weights=further.class_weights)  # type: ignore[arg-type]
    return loss_arguments(own, targets) | {"weight": further.weight}


def loss_settings(model: ModelConfig, single_positive: bool) -> dict[str, Any] | None:
    """Return the fields of `LossSettings` that act under the loss, with what they stand at; None where none does.

    Only these go into a checkpoint, so that one of before a setting came can still be resumed.
    """
    match model.loss:
        case "an-ls":
            given: dict[str, Any] = {"label_smoothing": model.label_smoothing}
        case "asl":
            given = {
                "asl_gamma_positive": model.asl_gamma_positive,
                "asl_gamma_negative": model.asl_gamma_negative,
                "asl_margin": model.asl_margin,
                "unknown_as_negative": single_positive,
            }
        case _:
            return None
    settings = LossSettings(**{name: value for name, value in given.items() if value is not None})
    return {name: getattr(settings, name) for name in given}
