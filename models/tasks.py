"""How does one classifier learn several taxonomies? Each has a head, a loss and texts of its own."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

from datamodules.annotated_text import NOT_ASKED
from datamodules.errors import InputError
from datamodules.joint_splits import asked
from datamodules.taxonomy import Taxonomy
from models.chance import chance_thresholds
from models.evaluation import validation_metrics
from models.losses import LOSSES, LossSettings, compute_loss


@dataclass(frozen=True, slots=True)
class Task:
    """One taxonomy of a classifier, and how it is learnt.

    Attributes:
        name: Empty for the taxonomy of the main data set, else the name of the taxonomy.
        taxonomy: Its labels are the outputs in `columns`, in order.
        columns: Which outputs are its own.
        loss: Name of its loss.
        loss_settings: The numbers of that loss.
        class_weights: Weight of each label [L].
        weight: How much its loss counts for a text, where 1 is a text of the main data set.
        max_false_negative_rate: The bound that its thresholds keep; None where they maximise F1.
    """

    name: str
    taxonomy: Taxonomy
    columns: slice
    loss: str
    loss_settings: LossSettings
    class_weights: tuple[float, ...]
    weight: float = 1.0
    max_false_negative_rate: float | None = None

    @property
    def labels(self) -> tuple[str, ...]:
        """Names of its outputs, in order, as the taxonomy has them."""
        return self.taxonomy.labels

    @property
    def softmax(self) -> bool:
        """Whether its head is one choice among all of its values."""
        return self.loss == "softmax"

    @property
    def chance_thresholds(self) -> list[float]:
        """Score of each label that means "p above 1/L", NaN where none does; see `chance.chance_thresholds`."""
        return chance_thresholds(self.loss, self.class_weights, self.loss_settings)

    def qualified(self, name: str) -> str:
        """Return the name of a metric, or of a file, with the taxonomy before it unless that is the main one."""
        return f"{self.name}/{name}" if self.name else name


def build_tasks(arguments: Sequence[dict[str, Any]], max_false_negative_rate: float | None) -> tuple[Task, ...]:
    """Build the taxonomies of a classifier from plain values.

    Args:
        arguments: Of each taxonomy, the main one first: `taxonomy` (`Taxonomy.to_dict()`), `loss`, `class_weights`
            (None for all ones), `loss_settings` (fields of `LossSettings`; None for none) and perhaps `weight`.
        max_false_negative_rate: The bound that the thresholds of the main one keep; None where they maximise F1.

    Raises:
        InputError: An unknown loss, or one that does not suit the number of values.
    """
    tasks: list[Task] = []
    start = 0
    for own in arguments:
        taxonomy, loss = Taxonomy.from_dict(own["taxonomy"]), own["loss"]
        setting = "--data.also" if tasks else "--model.loss"
        if loss not in LOSSES:
            raise InputError(f"loss {loss!r}", f"one of {', '.join(LOSSES)}", setting)
        n_labels = len(taxonomy.labels)
        if loss in ("wan", "softmax") and n_labels < 2:
            raise InputError(f"loss {loss} with one value", "two values or more", f"{setting} bce")
        # On the CPU also where a model is built without weights. As float32 has them, like the loss.
        given = own["class_weights"] or [1.0] * n_labels
        weights = torch.tensor(given, dtype=torch.float32, device="cpu").tolist()
        task = Task(
            name=taxonomy.name if tasks else "",
            taxonomy=taxonomy,
            columns=slice(start, start + n_labels),
            loss=loss,
            loss_settings=LossSettings(**(own["loss_settings"] or {})),
            class_weights=tuple(weights),
            weight=own.get("weight", 1.0),
            max_false_negative_rate=None if tasks else max_false_negative_rate,
        )
        tasks.append(task)
        start += n_labels
    return tuple(tasks)


def task_loss(task: Task, logits: torch.Tensor, targets: torch.Tensor, weights: torch.Tensor) -> torch.Tensor:
    """Return the loss of one taxonomy on its own texts and labels, all [n, L]; `weights` [L] are its class weights."""
    return compute_loss(task.loss, logits, targets, weights, task.loss_settings)


def joint_loss(
    tasks: Sequence[Task], logits: torch.Tensor, targets: torch.Tensor, weights: torch.Tensor
) -> torch.Tensor:
    """Average over texts what the loss of each text's own taxonomy makes of it, times the weight of that taxonomy.

    A label of a taxonomy that a text was not annotated for is in no loss: its logit has a gradient of exactly 0.

    Args:
        tasks: The taxonomies.
        logits: float [batch, n_outputs].
        targets: int [batch, n_outputs] in {1, 0, -1, -2 (not asked)}; of each text one taxonomy was asked.
        weights: Class weights, float [n_outputs].
    """
    total = logits.new_zeros((), dtype=torch.float32)
    for task in tasks:
        rows = torch.nonzero(targets[:, task.columns.start] != NOT_ASKED).squeeze(1)
        if len(rows):
            own = logits[rows][:, task.columns], targets[rows][:, task.columns]
            share = task.weight * len(rows) / len(targets)
            total = total + share * task_loss(task, *own, weights[task.columns])
    return total


def joint_metrics(
    tasks: Sequence[Task], logits: np.ndarray, targets: np.ndarray, groups: np.ndarray
) -> dict[str, float]:
    """Validation metrics of each taxonomy on its own texts: `f1_macro`, .. of the main one, `<taxonomy>/f1_macro`, ..

    Args:
        tasks: The taxonomies.
        logits: float [n, n_outputs].
        targets: int [n, n_outputs], as `joint_loss`.
        groups: Group of each text [n].
    """
    metrics: dict[str, float] = {}
    for task in tasks:
        rows = asked(targets, task.columns)
        own = validation_metrics(
            logits[rows][:, task.columns],
            targets[rows][:, task.columns],
            groups[rows],
            task.taxonomy,
            task.softmax,
            task.chance_thresholds,
            task.max_false_negative_rate,
        )
        metrics |= {task.qualified(name): value for name, value in own.items()}
    return metrics
