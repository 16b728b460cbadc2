"""May this run go on from that checkpoint?"""

import json
from typing import Any

import yaml

from datamodules.errors import InputError
from datamodules.splits import Splits
from models.classifier import ValueClassifier, load_classifier
from train.run_directory import RunDirectory

# Long values that are compared, but not printed.
UNPRINTED = ("tokenizer_json", "encoder_config", "taxonomy", "class_weights")


def check_same_run(run: RunDirectory, model: ValueClassifier, splits: Splits) -> None:
    """Check that architecture, labels and splits are those the run began with.

    Raises:
        InputError: No checkpoint to resume from, another architecture or label space, or other texts in a split.
    """
    path = run.last_checkpoint
    if not path.is_file():
        found = f"no {path.name} in {run.checkpoints}"
        raise InputError(found, "a run that was trained with --trainer.save_last true", "--resume")
    saved, now = dict(load_classifier(path).hparams), dict(model.hparams)
    for name in now:
        if saved.get(name) != now[name]:
            values = "" if name in UNPRINTED else f" ({saved.get(name)!r} in the checkpoint, {now[name]!r} now)"
            raise InputError(
                f"a changed {name}{values}",
                "the architecture and labels that the run began with",
                "leave the --model.* and --data.* flags as they were, or start a new run",
            )
    recorded = json.loads((run.path / "splits.json").read_text(encoding="utf-8"))
    current = splits.to_dict()
    for name in ("train", "val", "test"):
        if recorded[name] != current[name]:
            raise InputError(
                f"another {name} split than in {run.path / 'splits.json'}",
                "the texts that the run began with",
                "restore the data file and the --data.* settings, or start a new run",
            )


def changed_settings(run: RunDirectory, config: dict[str, Any]) -> list[str]:
    """Lines `section.field: old -> new` for every setting that differs from the run's config.yaml."""
    old = yaml.safe_load(run.config_file.read_text(encoding="utf-8"))
    return [
        f"{section}.{name}: {old.get(section, {}).get(name)} -> {value}"
        for section, fields in config.items()
        for name, value in fields.items()
        if old.get(section, {}).get(name) != value
    ]
