"""Which checkpoints make an ensemble, and may they?

Its temperatures and thresholds are fitted on validation texts, and it is tested on test texts, that no member may have
learnt: all runs have the same splits of the same texts.
"""

from collections.abc import Sequence
from dataclasses import dataclass, fields, replace
from typing import Any

import numpy as np
import torch

from datamodules.errors import InputError
from datamodules.files import read_json
from models.classifier import ValueClassifier
from models.ensemble import disagreement
from train.checkpoints import best_checkpoint, files_of, load_weights
from train.config import Config, config_to_dict
from train.drift_series import monitored_metric
from train.ensemble_config import EnsembleConfig, EnsembleRunConfig, MemberConfig
from train.inputs import Annotations
from train.ledger import Ledger, SeenCheckpoint
from train.run_directory import RunDirectory
from train.siblings import FREE_SECTIONS, FREE_SETTINGS
from train.training_texts import FILE, read_training_texts

SEED = "run.seed"
FIX = "--checkpoint"
SAME = "one split for all members: none may have learnt what the ensemble is calibrated or tested on"
LEAVE_OUT = "leave that run out, or train it on the same --data.* settings"


@dataclass(frozen=True, slots=True, eq=False)
class Member:
    """One checkpoint of an ensemble.

    Attributes:
        run: The run that it is of.
        seen: Its weights and step.
        model: Its classifier, on the CPU.
    """

    run: RunDirectory
    seen: SeenCheckpoint
    model: ValueClassifier


def choose_members(runs: Sequence[RunDirectory], checkpoint: str) -> list[Member]:
    """Load the chosen checkpoints of each run and check that they can be averaged.

    Args:
        runs: The runs, each once.
        checkpoint: `best` (by each run's monitored metric), `last`, `all`, or a step; several with commas.

    Raises:
        InputError: No such checkpoint, fewer than two, the same weights twice, a file that cannot be read, or members
            that cannot be averaged.
    """
    found: dict[str, tuple[RunDirectory, SeenCheckpoint]] = {}
    for run in runs:
        own = {seen.weights: seen for choice in checkpoint.split(",") for seen in _chosen(run, choice.strip())}
        for weights, seen in own.items():
            if weights in found:
                what = f"weights {weights[:8]} in {found[weights][0].path} and in {run.path}"
                raise InputError(what, "distinct checkpoints", "leave one of the runs out")
            found[weights] = run, seen
    if len(found) < 2:
        what = f"one checkpoint (step {next(iter(found.values()))[1].step})"
        raise InputError(what, "two or more", "name more runs, or --checkpoint all for those of one run")
    members = [Member(run, seen, _loaded(run, seen)) for run, seen in found.values()]
    for other in members[1:]:
        if why := disagreement(members[0].model, other.model):
            what = f"{other.run.path}, with {why} than {members[0].run.path}"
            raise InputError(what, "members that score the same texts for the same values", "leave one of them out")
    return members


def _chosen(run: RunDirectory, choice: str) -> list[SeenCheckpoint]:
    ledger = Ledger(run.ledger_file)
    there = sorted((seen for seen in ledger.checkpoints if files_of(run, seen)), key=lambda seen: seen.step)
    if not there:
        raise InputError(f"no checkpoint file in {run.checkpoints}", "a run that kept one", "leave that run out")
    match choice:
        case "best":
            return [best_checkpoint(run, ledger, monitored_metric(run))]
        case "last":
            return there[-1:]
        case "all":
            return there
    if at_step := [seen for seen in there if str(seen.step) == choice]:
        return at_step
    steps = ", ".join(str(seen.step) for seen in there)
    raise InputError(f"no checkpoint {choice!r} in {run.path}", f"best, last, all or one of steps {steps}", FIX)


def _loaded(run: RunDirectory, seen: SeenCheckpoint) -> ValueClassifier:
    model = load_weights(run, seen, torch.device("cpu"))
    if model is None:
        found = f"no file in {run.checkpoints} with the weights {seen.weights[:8]} of step {seen.step}"
        raise InputError(found, "the file as the run wrote it", f"restore it, or {FIX}")
    if not isinstance(model, ValueClassifier):
        raise InputError(f"{run.path}, an ensemble itself", "runs of `imprint fit`", "name its members in its place")
    return model


def ensemble_config(members: Sequence[Member], configs: Sequence[Config], checkpoint: str) -> EnsembleRunConfig:
    """Put the config of an ensemble together; where members differ, the first one's settings hold.

    The seed is the lowest of the members': the same checkpoints in another order are no other repeat of an experiment.

    Args:
        members: The members.
        configs: Settings of the run of each.
        checkpoint: How they were chosen.
    """
    first, flat = configs[0], [_flat(config) for config in configs]
    told = [name for name in flat[0] if name == SEED or any(own[name] != flat[0][name] for own in flat)]
    settings = [{name: own[name] for name in told} for own in flat]
    known = [
        MemberConfig(member.run.path.resolve(), member.seen.weights, member.seen.step, own)
        for member, own in zip(members, settings, strict=True)
    ]
    shared = {part.name: getattr(first, part.name) for part in fields(Config)}
    # The loss is that of members in training.
    monitor = "auto" if first.trainer.monitor.endswith("loss") else first.trainer.monitor
    shared["trainer"] = replace(first.trainer, monitor=monitor)
    name = f"{first.run.experiment}-ensemble"
    shared["run"] = replace(first.run, experiment=name, seed=min(config.run.seed for config in configs))
    return EnsembleRunConfig(**shared, ensemble=EnsembleConfig(checkpoint, known))


def _flat(config: Config) -> dict[str, Any]:
    """The seed, and the settings that shape a classifier, by `section.name`."""
    found = {
        f"{section}.{name}": value
        for section, values in config_to_dict(config).items()
        if section not in FREE_SECTIONS
        for name, value in values.items()
    }
    return {SEED: config.run.seed} | {name: value for name, value in found.items() if name not in FREE_SETTINGS}


def require_same_texts(runs: Sequence[RunDirectory]) -> None:
    """Check that the splits of runs hold the same texts.

    Raises:
        InputError: Another split, other texts under the same ids, or a run that did not record what it learnt.
    """
    first = runs[0]
    fix = "name a run directory with its splits.json"
    splits = [read_json(run.path / "splits.json", fix) for run in runs]
    kept = {text for name in ("val", "test") for text in splits[0][name]}
    learnt = [_learnt(run) for run in runs]
    for run, own, texts in zip(runs[1:], splits[1:], learnt[1:], strict=True):
        for name in ("test", "val", "train", "further"):
            if own.get(name) != splits[0].get(name):
                n_seen = len(kept.intersection(own["train"]))
                found = f"{run.path}, whose {name} split is not that of {first.path}"
                found += f" (it learnt {n_seen:,} of the {len(kept):,} validation and test texts there)"
                raise InputError(found, SAME, LEAVE_OUT)
        if not np.array_equal(texts, learnt[0]):
            found = f"{run.path}, which learnt other texts than {first.path} under the same ids"
            raise InputError(found, SAME, LEAVE_OUT)


def require_texts_of(run: RunDirectory, annotations: Annotations, learnt: np.ndarray) -> None:
    """Check that texts, as they are read now, are those of a run; `learnt` has the digests of those of training.

    Raises:
        InputError: They are not.
    """
    run.require_same_splits(annotations.splits_to_dict())
    if not np.array_equal(learnt, _learnt(run)):
        found = f"other texts than {run.path} learnt, under the same ids"
        raise InputError(found, "the texts that the run began with", "restore the data file, or --data.root")


def _learnt(run: RunDirectory) -> np.ndarray:
    digests = read_training_texts(run.path)
    if digests is None:
        found = f"no {FILE} of this version in {run.path}"
        raise InputError(found, "a run that recorded which texts it learnt", "train it again, or leave it out")
    return digests
