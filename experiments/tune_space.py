"""What is searched? Settings of `imprint fit`, each with a range or a list of choices."""

import itertools
import math
from collections.abc import Mapping
from dataclasses import dataclass, field, fields, replace
from types import MappingProxyType, NoneType
from typing import Any, Literal, get_args, get_type_hints

from jsonargparse import ArgumentParser
from optuna import create_study
from optuna.distributions import (
    BaseDistribution,
    CategoricalDistribution,
    FloatDistribution,
    IntDistribution,
)
from optuna.samplers import RandomSampler

from datamodules.errors import InputError
from datamodules.files import digest_of
from train.check_config import RANGES, check_config, check_ranges
from train.config import Config

# What decides about the texts and metric that trials are compared on stays the same in all of them.
SEARCHED_SECTIONS = ("data", "model", "optim", "trainer")
SEARCHED_DATA = ("view", "truncation", "max_length")
NOT_SEARCHED = ("trainer.monitor", "trainer.accelerator", "trainer.save_top_k", "trainer.save_last")
RANGE_KEYS = ("low", "high", "log", "step")
# Draws without a new result, after which no more are tried.
MOST_REDRAWS = 5000

Values = Mapping[str, Any]


@dataclass
class TuneConfig:
    """The search (`imprint tune`)."""

    space: dict[str, dict[str, Any]] = field(default_factory=dict)
    """Settings to search, as section.setting: {low, high} with log or step, or {choices}."""
    metric: str = "auto"
    """Validation metric to optimise, which also picks the checkpoint; auto is trainer.monitor."""
    seeds: int = 1
    """Runs per trial, with seeds from run.seed on; the value of a trial is their mean."""
    pruner: Literal["median", "halving", "none"] = "median"
    """Stop a trial early that is below the median of the others, or out in successive halving, at a validation."""
    pruner_startup: int = 5
    """Trials that are finished before one may be stopped (`median`)."""
    pruner_warmup: int = 1
    """Validations of each trial before it may be stopped."""
    audit: Literal["best-only", "none", "all"] = "best-only"
    """Trials whose checkpoints are audited after training; a trial that was stopped early never is."""
    top_k: int = 5
    """Best trials among which the second stage chooses (max_ece, max_instability)."""
    max_ece: float | None = None
    """Second stage: largest val/ece_macro of a trial that may be chosen."""
    max_instability: float | None = None
    """Second stage: largest mean share of audit decisions that differ between its best checkpoint and the one before;
    the top_k trials are audited for it."""
    stale_hours: float = 12.0
    """A trial of another machine is taken for dead after so long without a sign of life, and run again."""


@dataclass
class StudyConfig(Config):
    """Everything that `imprint tune` reads."""

    tune: TuneConfig = field(default_factory=TuneConfig)


@dataclass(frozen=True, slots=True)
class Space:
    """Checked settings with what they may be.

    Attributes:
        distributions: Per setting, in the order of the file.
    """

    distributions: Mapping[str, BaseDistribution]

    @property
    def size(self) -> float:
        """How many distinct settings there are; infinite with a continuous range."""
        return math.prod(_n_values(distribution) for distribution in self.distributions.values())

    @property
    def digest(self) -> str:
        """Digest of the settings and what they may be, as hex."""
        return digest_of(self.to_dict())

    def to_dict(self) -> dict[str, dict[str, Any]]:
        """Return plain nested values, as in the file."""
        found: dict[str, dict[str, Any]] = {}
        for name, distribution in self.distributions.items():
            match distribution:
                case CategoricalDistribution():
                    found[name] = {"choices": list(distribution.choices)}
                case FloatDistribution() | IntDistribution():
                    values = {key: getattr(distribution, key) for key in RANGE_KEYS}
                    # What is left out is None or False, which a low of 0 equals.
                    found[name] = {key: own for key, own in values.items() if own is not None and own is not False}
        return found

    def plan(self, n: int, seed: int) -> list[dict[str, Any]]:
        """Draw distinct settings at random; the first are the same whatever `n` is.

        Args:
            n: How many; no more than `size`.
            seed: Seed of the draw.
        """
        study = create_study(sampler=RandomSampler(seed=seed))
        drawn: list[dict[str, Any]] = []
        for _ in range(n + MOST_REDRAWS):
            if len(drawn) == n:
                break
            settings = study.ask(dict(self.distributions)).params
            if settings not in drawn:
                drawn.append(settings)
        return drawn


def with_settings(config: Config, settings: Values) -> Config:
    """Return a config with some settings changed.

    Args:
        config: Stays as it is.
        settings: `section.setting` -> value of the right type.
    """
    sections: dict[str, dict[str, Any]] = {}
    for name, value in settings.items():
        section, setting = name.split(".")
        sections.setdefault(section, {})[setting] = value
    return replace(config, **{name: replace(getattr(config, name), **changed) for name, changed in sections.items()})


def read_space(config: StudyConfig) -> Space:
    """Check what is to be searched.

    Raises:
        InputError: Nothing to search; an entry that names no setting, or one on which trials could not be compared; a
            range or choice of the wrong type or outside what the setting allows.
    """
    if not config.tune.space:
        raise InputError("no setting to search", "at least one in the section tune, under space", "--config")
    check_config(config)
    space = Space(MappingProxyType({name: _entry(config, name, entry) for name, entry in config.tune.space.items()}))
    _check_together(config, space)
    return space


def _check_together(config: Config, space: Space) -> None:
    """Check the ends of each entry with those of every other: some settings act only under some choice of another.

    Raises:
        InputError: The first two of which some values could not be in one trial.
    """
    possible = with_settings(config, some_settings(config, space))
    ends = {name: _extremes(distribution) for name, distribution in space.distributions.items()}
    pairs = itertools.combinations(ends, 2) if len(ends) > 1 else [(name, name) for name in ends]
    for one, other in pairs:
        for settings in ({one: a, other: b} for a, b in itertools.product(ends[one], ends[other])):
            try:
                check_config(with_settings(possible, settings))
            except InputError as error:
                told = " and ".join(f"{name} {value}" for name, value in settings.items())
                fix = f"narrow {' or '.join(settings)} under space, in the section tune"
                raise InputError(f"tune.space with {told}: {error.found}", error.needed, fix) from error


def some_settings(config: Config, space: Space) -> dict[str, Any]:
    """Return settings that a trial could have, to check that it could run: the config's own where it may have them."""
    chosen = {}
    for name, distribution in space.distributions.items():
        section, setting = name.split(".")
        own = getattr(getattr(config, section), setting)
        match distribution:
            case CategoricalDistribution(choices=choices):
                chosen[name] = own if own in choices else choices[0]
            case FloatDistribution() | IntDistribution():
                is_inside = own is not None and distribution.low <= own <= distribution.high
                chosen[name] = own if is_inside else distribution.low
    return chosen


def _entry(config: StudyConfig, name: str, entry: Any) -> BaseDistribution:
    """Check one entry."""
    hint = _setting_type(name)
    where = f"tune.space.{name}"
    fix = f"the entry {name} under space, in the section tune"
    if not isinstance(entry, Mapping) or not (set(entry) == {"choices"} or {"low", "high"} <= set(entry)):
        raise InputError(f"{where} {entry!r}"[:160], "low and high (with log or step), or choices", fix)
    if unknown := [key for key in entry if key not in (*RANGE_KEYS, "choices")]:
        raise InputError(f"{where} with {unknown[0]!r}", f"no more than {', '.join(RANGE_KEYS)}, or choices", fix)
    distribution = _choices(where, entry, hint, fix) if "choices" in entry else _range(where, entry, hint, fix)
    for value in _extremes(distribution):
        try:
            check_ranges(with_settings(config, {name: value}), RANGES)
        except InputError as error:
            raise InputError(f"{where} with {error.found}", error.needed, fix) from error
    return distribution


def _setting_type(name: str) -> Any:
    """Return the type of a setting that may be searched."""
    section, _, setting = name.partition(".")
    kinds: dict[str, Any] = {part.name: part.type for part in fields(Config)}
    known = {part.name for part in fields(kinds[section])} if section in SEARCHED_SECTIONS else set()
    if setting not in known:
        needed = f"section.setting of the sections {', '.join(SEARCHED_SECTIONS)}"
        raise InputError(f"tune.space.{name}, which names no setting to search", needed, f"rename or remove {name}")
    if name in NOT_SEARCHED or (section == "data" and setting not in SEARCHED_DATA):
        why = "trials that differ in it could not be compared" if section == "data" else "it is the same for all trials"
        needed = f"other settings; of data, {', '.join(SEARCHED_DATA)}"
        raise InputError(f"tune.space.{name}: {why}", needed, f"set --{name} instead")
    return get_type_hints(kinds[section])[setting]


def _choices(where: str, entry: Values, hint: Any, fix: str) -> CategoricalDistribution:
    listed = entry["choices"]
    if not isinstance(listed, list) or not listed:
        raise InputError(f"{where} with choices {listed!r}"[:160], "a list of at least one", fix)
    choices = [_typed(where, value, hint, fix) for value in listed]
    if any(isinstance(value, list | dict) for value in choices):
        raise InputError(f"{where} with a list among its choices", "plain values", fix)
    if len({repr(value) for value in choices}) < len(choices):
        raise InputError(f"{where} with the same choice twice", "distinct choices", fix)
    return CategoricalDistribution(choices)


def _range(where: str, entry: Values, hint: Any, fix: str) -> BaseDistribution:
    kinds = {hint, *get_args(hint)} - {NoneType}
    if not kinds & {int, float}:
        raise InputError(f"{where} with a range", "choices: the setting is no number", fix)
    is_whole = float not in kinds
    low, high = (_number(where, entry, key, is_whole, fix) for key in ("low", "high"))
    step = _number(where, entry, "step", is_whole, fix) if entry.get("step") is not None else None
    log = entry.get("log", False)
    problems = {
        "log that is neither true nor false": not isinstance(log, bool),
        f"low {low} above high {high}": low > high,
        f"log and low {low}": bool(log) and low <= 0,
        "log and step": bool(log) and step is not None,
        f"step {step}": step is not None and step <= 0,
    }
    for problem in (text for text, there in problems.items() if there):
        raise InputError(f"{where} with {problem}", "low <= high, a positive step, log only above 0 without step", fix)
    if is_whole:
        whole_step = 1 if step is None else int(step)
        high = low + (high - low) // whole_step * whole_step
        return IntDistribution(int(low), int(high), log=log, step=whole_step)
    if step is not None:
        # The last step inside, as Optuna would cut it with a warning.
        high = low + math.floor((high - low) / step + 1e-9) * step
    return FloatDistribution(low, high, log=log, step=step)


def _number(where: str, entry: Values, key: str, is_whole: bool, fix: str) -> float:
    value = entry[key]
    is_number = isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)
    if not is_number or (is_whole and value != int(value)):
        hint = " (YAML reads 1e-4 as a text: write 1.0e-4)" if isinstance(value, str) else ""
        raise InputError(f"{where} with {key} {value!r}{hint}", f"a {'whole ' if is_whole else ''}number", fix)
    return int(value) if is_whole else float(value)


def _typed(where: str, value: Any, hint: Any, fix: str) -> Any:
    """Return a choice as the setting's type."""
    parser = ArgumentParser(exit_on_error=False)
    parser.add_argument("--value", type=hint)
    try:
        return parser.parse_object({"value": value}).value
    except Exception as error:  # jsonargparse raises several kinds
        allowed = [each for each in get_args(hint) if isinstance(each, str)]
        needed = f"one of {', '.join(allowed)}" if allowed else f"{getattr(hint, '__name__', hint)}"
        raise InputError(f"{where} with choice {value!r}", needed, fix) from error


def _extremes(distribution: BaseDistribution) -> tuple[Any, ...]:
    match distribution:
        case CategoricalDistribution(choices=choices):
            return choices
        case FloatDistribution(low=low, high=high) | IntDistribution(low=low, high=high):
            return low, high
    return ()


def _n_values(distribution: BaseDistribution) -> float:
    match distribution:
        case CategoricalDistribution(choices=choices):
            return len(choices)
        case IntDistribution() as d:
            return (d.high - d.low) // d.step + 1
        case FloatDistribution(step=None) as d:
            return 1 if d.low == d.high else math.inf
        case FloatDistribution(low=low, high=high, step=float(step)):
            return round((high - low) / step) + 1
    return math.inf
