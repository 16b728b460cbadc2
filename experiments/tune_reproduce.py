"""Does a trial give the same metric when it is trained again?"""

from dataclasses import replace
from pathlib import Path
from typing import Any

from optuna.study import Study
from optuna.trial import FrozenTrial

from datamodules.errors import InputError
from datamodules.files import read_json
from experiments.config_files import add_sections, config_of
from experiments.parsing import command_parser
from experiments.tune_choice import candidates, chosen
from experiments.tune_config import StudyConfig
from experiments.tune_storage import (
    load_study,
    open_storage,
    require_same_texts,
    storage_errors,
    storage_name,
    texts_digest,
)
from experiments.tune_study import standing
from experiments.tune_trial import CONFIG, RUNS, SEEDS, VALUES, WEIGHTS, TrialProgress, run_seeds
from train.config import Config
from train.prepare import prepare
from train.progress import Progress
from train.run_directory import RunDirectory
from train.shared import Shared

FIX = "--reproduce"
# Of env.json: what may change the last digits.
COMPARED = ("device", "processor", "threads", "platform")


def reproduce(config: StudyConfig, name: str, folder: Path, storage: str | None, which: str) -> int:
    """Train a trial again from its stored settings and seeds, in new run directories, and compare the metric.

    Args:
        config: Settings of this call: where data, caches and runs lie, how runs are tracked.
        name: Name of the study.
        folder: Its folder on this machine.
        storage: As `open_storage`.
        which: `best` (the chosen trial) or a trial's number.

    Returns:
        The exit code: 0 where every value is exactly the stored one, else 1.

    Raises:
        InputError: No such study or trial, or other texts than it was trained on.
    """
    if storage is None and not folder.is_dir():
        raise InputError(f"no study in {folder}", "one that `imprint tune` made", "--study, --run.root or --storage")
    with storage_errors(storage_name(storage, folder)):
        study, record = load_study(open_storage(storage, folder), name)
        trial = _chosen(study, config) if which == "best" else _trial_of(study, _number(which))
    metric = str(record["metric"])
    again = _config_again(trial, config, folder)
    shared = Shared()
    progress = Progress(config.run.progress)
    prepared = prepare(again, progress, shared)
    require_same_texts(name, record, texts_digest([own.splits for own in prepared.annotations.all]))
    stored = trial.user_attrs
    outcome = run_seeds(again, len(stored[SEEDS]), metric, shared, TrialProgress(config.run.progress), None)
    if outcome.error is not None:
        raise outcome.error
    is_same = outcome.values == stored[VALUES]
    for k, seed in enumerate(stored[SEEDS]):
        before, now = stored[VALUES][k], outcome.values[k]
        weights = "the same weights" if stored[WEIGHTS][k] == outcome.weights[k] else "other weights"
        told = "the same" if before == now else "DIFFERENT"
        print(f"trial {trial.number}, seed {seed}: stored {metric} {before!r}, now {now!r}: {told} ({weights})")
        print(f"  {outcome.runs[k]}")
    if not is_same:
        for line in _differences(stored[RUNS], outcome.runs):
            print(line)
    return 0 if is_same else 1


def _chosen(study: Study, config: StudyConfig) -> FrozenTrial:
    listed = candidates(study, config.tune)
    if not listed:
        raise InputError(f"study {study.study_name} without a complete trial", "one", "--trials, without --reproduce")
    return chosen(listed) or listed[0].trial


def _trial_of(study: Study, number: int) -> FrozenTrial:
    """Return the complete trial of a number.

    Raises:
        InputError: There is none.
    """
    complete = standing(study).complete
    for trial in complete:
        if trial.number == number:
            return trial
    numbers = ", ".join(str(trial.number) for trial in complete[:20]) or "none yet"
    raise InputError(f"no complete trial {number} in study {study.study_name}", f"one of {numbers}", "--reproduce")


def _number(which: str) -> int:
    if not which.isdecimal():
        raise InputError(f"--reproduce {which!r}", "best, or the number of a trial", FIX)
    return int(which)


def _config_again(trial: FrozenTrial, config: StudyConfig, folder: Path) -> Config:
    """Return the stored settings of a trial; where things lie is told by this call."""
    parser = command_parser("fit", "")
    add_sections(parser, Config, {})
    stored = config_of(parser, parser.parse_object(trial.user_attrs[CONFIG]), Config)
    data = replace(stored.data, root=config.data.root, path=config.data.path)
    track = replace(config.track, group=stored.track.group, tags=[*stored.track.tags, "reproduced"])
    run = replace(stored.run, root=folder / "reproduced", cache_dir=config.run.cache_dir, progress=config.run.progress)
    return replace(stored, data=data, track=track, run=run)


def _environment(run: RunDirectory) -> dict[str, Any]:
    content = read_json(run.environment_file, "name a run directory with its env.json")
    versions = {f"{name} version": version for name, version in content.get("packages", {}).items()}
    return {name: content.get(name) for name in COMPARED} | versions


def _differences(before: list[str], now: list[str]) -> list[str]:
    """Say in what the environments of two runs differ, as far as their directories are here."""
    try:
        old, new = (_environment(RunDirectory.open(Path(paths[0]))) for paths in (before, now))
    except InputError:
        return ["the first run's directory is not here: whether machine and versions are the same is not known"]
    different = [f"  {name}: {old.get(name)} -> {new.get(name)}" for name in new if old.get(name) != new.get(name)]
    if not different:
        return ["machine and versions are the same"]
    return ["exact repetition is only promised with the same machine and versions, which differ in", *different]
