"""Are the settings possible at all? What a type cannot say is checked here, before anything is read or written."""

import math
import re
from collections.abc import Callable, Mapping
from typing import Any

from datamodules.errors import InputError
from train.config import Config, ModelConfig

Test = Callable[[float], bool]
POSITIVE_WHOLE: tuple[Test, str] = (lambda v: v >= 1, "a whole number from 1")
POSITIVE: tuple[Test, str] = (lambda v: v > 0, "a number above 0")
NOT_NEGATIVE: tuple[Test, str] = (lambda v: v >= 0, "a number from 0")
RATE: tuple[Test, str] = (lambda v: 0 <= v < 1, "a rate in [0, 1)")

# Names end up as folders, W&B ids and artifact names, which allow no more than this.
NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,59}")

RANGES: dict[str, tuple[Test, str]] = {
    "data.split_seed": NOT_NEGATIVE,
    "data.n_folds": (lambda v: v >= 2, "at least 2 folds"),
    "data.fold": NOT_NEGATIVE,
    "model.dropout": RATE,
    "model.encoder_dropout": RATE,
    "model.head_width": POSITIVE_WHOLE,
    "model.lora_rank": POSITIVE_WHOLE,
    "model.lora_alpha": POSITIVE,
    "model.lora_dropout": RATE,
    "model.label_smoothing": (lambda v: 0 <= v < 0.5, "a target in [0, 0.5)"),
    "model.asl_gamma_positive": NOT_NEGATIVE,
    "model.asl_gamma_negative": NOT_NEGATIVE,
    "model.asl_margin": (lambda v: 0 <= v < 1, "a score in [0, 1)"),
    "model.effective_beta": (lambda v: 0 < v < 1, "a number above 0 and below 1"),
    "model.max_false_negative_rate": (lambda v: 0 < v < 1, "a rate above 0 and below 1"),
    "optim.lr_encoder": NOT_NEGATIVE,
    "optim.lr_head": NOT_NEGATIVE,
    "optim.weight_decay": NOT_NEGATIVE,
    "trainer.max_epochs": POSITIVE_WHOLE,
    "trainer.batch_size": POSITIVE_WHOLE,
    "trainer.accumulate": POSITIVE_WHOLE,
    "trainer.gradient_clip": NOT_NEGATIVE,
    "trainer.val_check_interval": (lambda v: 0 < v <= 1, "a share of an epoch in (0, 1]"),
    "trainer.save_top_k": (lambda v: v == -1 or v >= 1, "-1 (all) or a whole number from 1"),
    "trainer.limit_train_batches": POSITIVE_WHOLE,
    "trainer.ema_decay": (lambda v: 0 < v < 1, "a share above 0 and below 1"),
    "audit.token_budget": POSITIVE_WHOLE,
    "run.seed": NOT_NEGATIVE,
}

# Settings that act under one choice only, and do nothing, which nobody would see, under the others.
LOSS_SETTINGS: dict[str, tuple[str, str]] = {
    "label_smoothing": ("loss", "an-ls"),
    "asl_gamma_positive": ("loss", "asl"),
    "asl_gamma_negative": ("loss", "asl"),
    "asl_margin": ("loss", "asl"),
    "effective_beta": ("class_weights", "effective"),
}


def check_config(config: Config) -> None:
    """Check ranges and names.

    Raises:
        InputError: The first setting that is out of range.
    """
    check_ranges(config, RANGES)
    check_fold(config.data.fold, config.data.n_folds)
    check_loss_settings(config.model)
    check_experiment_name(config.run.experiment)


def check_fold(fold: int | None, n_folds: int | None) -> None:
    """Raise InputError where one of the two settings is there without the other."""
    if (fold is None) != (n_folds is None):
        found = f"data.n_folds {n_folds}" if fold is None else f"data.fold {fold}"
        raise InputError(f"{found} alone", "both or none", "--data.fold and --data.n_folds")


def check_loss_settings(model: ModelConfig) -> None:
    """Raise InputError for a setting of the loss that would act nowhere."""
    for name, (choice, needed) in LOSS_SETTINGS.items():
        value, chosen = getattr(model, name), getattr(model, choice)
        if value is not None and chosen != needed:
            found = f"model.{name} {value} with {choice} {chosen}, where it does nothing"
            raise InputError(found, f"{choice} {needed}", f"--model.{choice} {needed}, or leave out --model.{name}")


def check_ranges(config: Any, ranges: Mapping[str, tuple[Test, str]]) -> None:
    """Check the numbers of a config.

    Args:
        config: Sections with settings.
        ranges: `section.setting` -> its test, and what is needed in words; a setting of None passes.

    Raises:
        InputError: The first setting that is out of range.
    """
    for setting, (test, needed) in ranges.items():
        section, name = setting.split(".")
        value = getattr(getattr(config, section), name)
        if value is not None and not (math.isfinite(value) and test(value)):
            raise InputError(f"{setting} {value}", needed, f"--{setting}")


def check_experiment_name(name: str) -> None:
    """Raise InputError unless a name can begin a run id."""
    if not NAME.fullmatch(name):
        needed = "at most 60 letters, digits, dots, hyphens and underscores, beginning with a letter or digit"
        raise InputError(f"run.experiment {name!r}", needed, "--run.experiment")
