"""Are the settings possible at all? What a type cannot say is checked here, before anything is read or written."""

import math
import re
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from datamodules.errors import InputError
from datamodules.views import SHORTEST
from train.config import Config, FurtherData

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
    "model.window": (lambda v: v >= SHORTEST, f"at least {SHORTEST} tokens"),
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

# Settings that act under one choice only, and do nothing, which nobody would see, under the others. (Not
# model.max_false_negative_rate: the config.yaml of every earlier run has it.)
ACTS_UNDER: dict[str, tuple[str, str]] = {
    "model.label_smoothing": ("model.loss", "an-ls"),
    "model.asl_gamma_positive": ("model.loss", "asl"),
    "model.asl_gamma_negative": ("model.loss", "asl"),
    "model.asl_margin": ("model.loss", "asl"),
    "model.effective_beta": ("model.class_weights", "effective"),
    "model.head_width": ("model.head", "mlp"),
    "model.lora_rank": ("model.encoder_training", "lora"),
    "model.lora_alpha": ("model.encoder_training", "lora"),
    "model.lora_dropout": ("model.encoder_training", "lora"),
    "model.lora_targets": ("model.encoder_training", "lora"),
    "trainer.ema_decay": ("trainer.average_weights", "ema"),
}


def check_config(config: Config) -> None:
    """Check ranges and names.

    Raises:
        InputError: The first setting that is out of range.
    """
    check_ranges(config, RANGES)
    check_fold(config.data.fold, config.data.n_folds)
    check_choices(config)
    check_further(config.data.also)
    check_targets(config.model.lora_targets)
    check_window(config)
    check_experiment_name(config.run.experiment)


def check_fold(fold: int | None, n_folds: int | None) -> None:
    """Raise InputError where one of the two settings is there without the other."""
    if (fold is None) != (n_folds is None):
        found = f"data.n_folds {n_folds}" if fold is None else f"data.fold {fold}"
        raise InputError(f"{found} alone", "both or none", "--data.fold and --data.n_folds")


def check_further(also: Sequence[FurtherData]) -> None:
    """Raise InputError for a further data set with a weight that is none."""
    test, needed = POSITIVE
    for further in also:
        if not (math.isfinite(further.weight) and test(further.weight)):
            raise InputError(f"weight {further.weight} of {further.name} in data.also", needed, "--data.also")


def check_targets(targets: Sequence[str] | None) -> None:
    """Raise InputError for an empty list of adapted layers, which would read as peft's choice of them."""
    if targets is not None and not targets:
        needed = "the end of the name of one linear layer or more"
        raise InputError("model.lora_targets [], no layer at all", needed, "--model.lora_targets, or leave it out")


def check_choices(config: Config) -> None:
    """Raise InputError for a setting that would act nowhere, not even on a further data set."""
    for setting, (choice, needed) in ACTS_UNDER.items():
        value, chosen, name = setting_of(config, setting), setting_of(config, choice), choice.partition(".")[2]
        if value is not None and not acts(config, setting):
            found = f"{setting} {value} with {name} {chosen}, where it does nothing"
            raise InputError(found, f"{name} {needed}", f"--{choice} {needed}, or leave out --{setting}")


def acts(config: Config, setting: str) -> bool:
    """Tell whether a setting of `ACTS_UNDER` would do anything beside the others, or on a further data set."""
    choice, needed = ACTS_UNDER[setting]
    further = [getattr(own, choice.partition(".")[2], None) for own in config.data.also]
    return needed in (setting_of(config, choice), *further)


def setting_of(config: Any, name: str) -> Any:
    """Return the value of `section.setting`."""
    section, _, setting = name.partition(".")
    return getattr(getattr(config, section), setting)


def check_window(config: Config) -> None:
    """Raise InputError for windows into which every text would fit whole."""
    window, longest = config.model.window, max(config.data.max_length, config.audit.max_length)
    if window is not None and window >= longest:
        found = f"model.window {window} for texts of at most {longest} tokens, which one window holds"
        fix = "raise --data.max_length or --audit.max_length, or leave out --model.window"
        raise InputError(found, "texts that are longer than a window", fix)


def check_ranges(config: Any, ranges: Mapping[str, tuple[Test, str]]) -> None:
    """Check the numbers of a config.

    Args:
        config: Sections with settings.
        ranges: `section.setting` -> its test, and what is needed in words; a setting of None passes.

    Raises:
        InputError: The first setting that is out of range.
    """
    for setting, (test, needed) in ranges.items():
        value = setting_of(config, setting)
        if value is not None and not (math.isfinite(value) and test(value)):
            raise InputError(f"{setting} {value}", needed, f"--{setting}")


def check_experiment_name(name: str) -> None:
    """Raise InputError unless a name can begin a run id."""
    if not NAME.fullmatch(name):
        needed = "at most 60 letters, digits, dots, hyphens and underscores, beginning with a letter or digit"
        raise InputError(f"run.experiment {name!r}", needed, "--run.experiment")
