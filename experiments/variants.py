"""Which runs are one variant? Those with the same settings but for the seed, and the folds of one protocol."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from datamodules.errors import InputError
from datamodules.files import digest_of
from train.config import Config, config_to_dict
from train.drift_series import run_settings
from train.run_directory import RunDirectory
from train.siblings import FREE_SECTIONS, FREE_SETTINGS
from train.stored_predictions import StoredPredictions, read_test_predictions

SEED, FOLD, N_FOLDS, SPLIT_SEED = "run.seed", "data.fold", "data.n_folds", "data.split_seed"
EXPERIMENT, ENSEMBLE = "run.experiment", "ensemble.members"
# What runs of one variant may differ in.
LUCK = (SEED, FOLD, SPLIT_SEED)
# A longer name would not fit a table.
MOST_LETTERS = 60

Settings = dict[str, Any]


@dataclass(frozen=True, slots=True, eq=False)
class Run:
    """One run directory.

    Attributes:
        settings: Settings that shape the classifier, by `section.name`, with seed and experiment.
        predictions: What its best checkpoint predicted on test.
        members: Digests of the weights that an ensemble averages; none otherwise.
    """

    settings: Settings
    predictions: StoredPredictions
    members: tuple[str, ...] = ()

    @property
    def directory(self) -> RunDirectory:
        """Its directory."""
        return self.predictions.run

    @property
    def run_id(self) -> str:
        """Its name."""
        return self.directory.run_id


@dataclass(frozen=True, slots=True, eq=False)
class Variant:
    """Runs that are compared as one.

    Attributes:
        name: How tables call it.
        repeats: One entry per seed; each has the runs of all folds, or a single run. All repeats test the same texts.
        settings: Settings that not all variants share.
    """

    name: str
    repeats: tuple[tuple[Run, ...], ...]
    settings: Settings

    @property
    def runs(self) -> tuple[Run, ...]:
        """All its runs."""
        return tuple(run for repeat in self.repeats for run in repeat)


def read_run(path: Path) -> Run:
    """Read settings and test predictions of a run directory.

    Raises:
        InputError: Not a finished run of `imprint fit`.
    """
    directory = RunDirectory.open(path)
    stored = run_settings(directory)
    members = tuple(member["weights"] for member in ensemble_members(stored))
    return Run(compared_settings(stored), read_test_predictions(directory), members)


def compared_settings(stored: Mapping[str, Any]) -> Settings:
    """Flatten the settings that shape a classifier; those that an older run does not have are at their defaults."""
    found: Settings = {}
    for section, defaults in config_to_dict(Config()).items():
        values = stored.get(section)
        known = {**defaults, **values} if isinstance(values, Mapping) else defaults
        if section not in FREE_SECTIONS:
            found |= {f"{section}.{name}": value for name, value in known.items()}
    found = {name: value for name, value in found.items() if name not in FREE_SETTINGS}
    found[ENSEMBLE] = "none"
    if members := ensemble_members(stored):
        n_runs = len({member["run"] for member in members})
        found[ENSEMBLE] = f"{len(members)} of {n_runs} run{'s' * (n_runs > 1)} ({stored['ensemble']['checkpoint']})"
        names = [name for name in members[0]["settings"] if name not in LUCK]
        found |= {name: sorted(str(member["settings"][name]) for member in members) for name in names}
    own = stored["run"]
    return found | {EXPERIMENT: own.get("experiment", ""), SEED: own.get("seed", 0)}


def ensemble_members(stored: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Return what the config of an ensemble tells of its members; nothing for other runs."""
    members: list[dict[str, Any]] = stored.get("ensemble", {}).get("members", [])
    return members


def group_runs(runs: Sequence[Run], baseline: Run, by_seed: bool) -> list[Variant]:
    """Group runs into variants, that of the baseline first, the others in the order of their first run.

    Runs of one variant share all settings but `run.seed`, `data.split_seed` and `data.fold`. Those that test other
    texts than each other are folds, whose predictions are put together; the others are repeats.

    Args:
        runs: All runs, each directory once.
        baseline: One of them.
        by_seed: Whether the repeats are one variant; else each is one of its own.

    Raises:
        InputError: Folds that overlap or of which one has more runs than another, or a seed that occurs twice.
    """
    grouped: dict[str, list[Run]] = {}
    for run in [baseline, *(run for run in runs if run is not baseline)]:
        key = digest_of({name: value for name, value in run.settings.items() if name not in LUCK})
        grouped.setdefault(key, []).append(run)
    parts = [repeats_of(own) for own in grouped.values()]
    if by_seed:
        for repeats in parts:
            _require_distinct_seeds(repeats)
    else:
        # The baseline's own repeat first.
        parts = [[repeat] for repeats in parts for repeat in sorted(repeats, key=lambda r: baseline not in r)]
    names = _names(parts, by_seed)
    varying = _varying([repeats[0][0].settings for repeats in parts])
    return [
        Variant(name, tuple(repeats), {key: repeats[0][0].settings[key] for key in varying})
        for name, repeats in zip(names, parts, strict=True)
    ]


def repeats_of(runs: Sequence[Run]) -> list[tuple[Run, ...]]:
    """Arrange the runs of one variant into repeats, each with one run per fold, by split seed and seed.

    Raises:
        InputError: Test splits that overlap without being the same, or folds with different numbers of runs.
    """
    protocols: dict[Any, list[Run]] = {}
    for run in runs:
        # Folds of another split seed are another cut of the same texts: another repeat.
        cut = run.settings[SPLIT_SEED] if run.settings[N_FOLDS] is not None else None
        protocols.setdefault(cut, []).append(run)
    return [repeat for _, own in sorted(protocols.items(), key=lambda item: item[0] or 0) for repeat in _repeats(own)]


def _repeats(runs: Sequence[Run]) -> list[tuple[Run, ...]]:
    folds: dict[frozenset[str], list[Run]] = {}
    for run in runs:
        folds.setdefault(frozenset(run.predictions.text_ids.tolist()), []).append(run)
    owner: dict[str, Run] = {}
    for texts, (first, *_) in folds.items():
        if shared := [text for text in sorted(texts) if text in owner]:
            other = owner[shared[0]]
            found = f"test splits of {other.directory.path} ({len(other.predictions.text_ids):,} texts) and "
            found += f"{first.directory.path} ({len(texts):,}), which share {len(shared):,} texts and are not the same"
            fix = "runs of one --data.split_seed, folds by --data.n_folds and --data.fold, or another --run.experiment"
            raise InputError(found, "one test split, or folds that do not overlap", fix)
        owner |= dict.fromkeys(texts, first)
    ordered = [sorted(own, key=lambda r: (r.settings[SEED], r.settings[SPLIT_SEED])) for own in folds.values()]
    counts = [len(own) for own in ordered]
    if len(set(counts)) > 1:
        few, many = min(ordered, key=len), max(ordered, key=len)
        found = f"{len(few)} run(s) of the fold of {few[0].directory.path}, {len(many)} of {many[0].directory.path}"
        raise InputError(found, "as many runs of every fold", "run the missing folds, or leave runs out")
    ordered.sort(key=lambda own: (own[0].settings[FOLD] or 0, own[0].run_id))
    return list(zip(*ordered, strict=True))


def _require_distinct_seeds(repeats: Sequence[tuple[Run, ...]]) -> None:
    seen: dict[tuple[Any, ...], Run] = {}
    owner: dict[str, Run] = {}
    for run in (run for repeat in repeats for run in repeat):
        luck = tuple(run.settings[name] for name in LUCK)
        if luck in seen:
            found = f"seed {luck[0]} in {seen[luck].directory.path} and in {run.directory.path}, with the same settings"
            raise InputError(found, "runs of a variant with distinct seeds", "--groups none, or leave one out")
        seen[luck] = run
        for weights in run.members:
            if weights in owner:
                found = f"weights {weights[:8]} in {owner[weights].directory.path} and in {run.directory.path}"
                raise InputError(found, "repeats of an ensemble without members in common", "--groups none")
            owner[weights] = run


def _varying(settings: Sequence[Settings]) -> list[str]:
    """Names of the settings that not all share, without those of luck."""
    names = [name for name in dict.fromkeys(key for own in settings for key in own) if name not in LUCK]
    return [name for name in names if len({repr(own.get(name)) for own in settings}) > 1]


def _names(parts: Sequence[Sequence[tuple[Run, ...]]], by_seed: bool) -> list[str]:
    """Name variants: by experiment, where that tells them apart, else by the settings in which they differ."""
    firsts = [repeats[0][0] for repeats in parts]
    if not by_seed:
        return [
            run.run_id if len(repeats[0]) == 1 else f"{run.run_id} (+{len(repeats[0]) - 1} folds)"
            for run, repeats in zip(firsts, parts, strict=True)
        ]
    experiments = [str(run.settings[EXPERIMENT]) for run in firsts]
    if len(set(experiments)) == len(experiments):
        return experiments
    varying = [name for name in _varying([run.settings for run in firsts]) if name != EXPERIMENT]
    names = []
    for experiment, run in zip(experiments, firsts, strict=True):
        told = [f"{name.split('.')[1]}={_short(run.settings.get(name))}" for name in varying]
        names.append(" ".join([experiment, *told]) if experiments.count(experiment) > 1 else experiment)
    usable = len(set(names)) == len(names) and max(map(len, names)) <= MOST_LETTERS
    return names if usable else [run.run_id for run in firsts]


def _short(value: Any) -> str:
    """A setting's value for a name: the last part of a path."""
    return Path(value).name if isinstance(value, str) and "/" in value else str(value)
