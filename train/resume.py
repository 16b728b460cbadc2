"""May this run go on from that checkpoint?"""

import inspect
from typing import Any

from datamodules.errors import InputError
from datamodules.strict_yaml import read_strict_yaml
from models.checkpoint_file import AVERAGING
from models.classifier import ValueClassifier, read_checkpoint
from train.drift_series import run_settings
from train.run_directory import RunDirectory

# Long values that are compared, but not printed.
UNPRINTED = ("tokenizer_json", "encoder_config", "taxonomy", "class_weights", "further")


def check_same_run(
    run: RunDirectory,
    model: ValueClassifier,
    splits: dict[str, Any],
    max_epochs: int,
    fork: bool,
    averages: bool = False,
) -> None:
    """Check that architecture, labels and splits are those the run began with, and that it has not gone further.

    Args:
        run: The run to go on with.
        model: The classifier as the settings of this call make it.
        splits: The texts as they are now, as `Annotations.splits_to_dict` gives them.
        max_epochs: Epochs to train in all.
        fork: A new run goes on from it, which must have an epoch left to train.
        averages: Whether weights are averaged.

    Raises:
        InputError: No checkpoint to resume from, another architecture or label space, averaging begun or ended, other
            texts in a split, or more epochs done than `max_epochs`.
    """
    path = run.last_checkpoint
    if not path.is_file():
        found = f"no {path.name} in {run.checkpoints}"
        needed = "a run that finished an epoch, with --trainer.save_last true"
        raise InputError(found, needed, "start a new run")
    checkpoint = read_checkpoint(path, fix="--resume")
    # A checkpoint of before an argument existed was made by its default.
    defaults = {name: parameter.default for name, parameter in inspect.signature(type(model)).parameters.items()}
    saved, now = defaults | checkpoint["hyper_parameters"], dict(model.hparams)
    for name in now:
        if saved.get(name) != now[name]:
            values = "" if name in UNPRINTED else f" ({saved.get(name)!r} in the checkpoint, {now[name]!r} now)"
            raise InputError(
                f"a changed {name}{values}",
                "the architecture and labels that the run began with",
                "leave the --model.* and --data.* flags as they were, or start a new run",
            )
    if averages != (AVERAGING in checkpoint):
        asked, kept = ("ema", "no") if averages else ("none", "a moving")
        found = f"trainer.average_weights {asked} for a run that kept {kept} average"
        raise InputError(found, "what the run began with", "--trainer.average_weights, or start a new run")
    run.require_same_splits(splits)
    # Saved at the end of an epoch, whose number counts from 0.
    n_done = int(checkpoint["epoch"]) + 1
    n_needed = n_done + 1 if fork else n_done
    if max_epochs < n_needed:
        found = f"max_epochs {max_epochs} for a run with {n_done} epochs done"
        raise InputError(found, f"{n_needed} or more", "--trainer.max_epochs")


def require_trained(run: RunDirectory) -> None:
    """Raise InputError for an ensemble, which was put together and not trained."""
    if "ensemble" in run_settings(run):
        fix = "resume its members, then imprint ensemble again"
        raise InputError(f"{run.path}, an ensemble of checkpoints", "a run of `imprint fit`", fix)


def changed_settings(run: RunDirectory, config: dict[str, Any]) -> list[str]:
    """Lines `section.field: old -> new` for every setting that differs from the run's config.yaml."""
    old = read_strict_yaml(run.config_file, "--resume", f"edit {run.config_file}")
    lines = []
    for section, fields in config.items():
        before = old.get(section) or {}
        lines += [f"{section}.{name}: {before.get(name)} -> {v}" for name, v in fields.items() if before.get(name) != v]
    return lines
