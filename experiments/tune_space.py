"""What is searched? Settings of `imprint fit`, each with a range or a list of choices."""

import itertools
import math
from collections.abc import Mapping
from dataclasses import dataclass, fields, replace
from types import MappingProxyType, NoneType
from typing import Any, get_args, get_type_hints

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
from experiments.tune_config import StudyConfig
from train.check_config import ACTS_UNDER, RANGES, acts, check_config, check_ranges, setting_of
from train.config import Config

# What decides about the texts and metric that trials are compared on stays the same in all of them.
SEARCHED_SECTIONS = ("data", "model", "optim", "trainer")
SEARCHED_DATA = ("view", "truncation", "max_length")
NOT_SEARCHED = ("trainer.monitor", "trainer.accelerator", "trainer.save_top_k", "trainer.save_last")
RANGE_KEYS = ("low", "high", "log", "step")
# Draws without a new result, after which no more are tried.
MOST_REDRAWS = 5000

Values = Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class Space:
    """Checked settings with what they may be.

    Attributes:
        distributions: Per setting, in the order of the file.
        conditions: Of a setting that acts under some choices of another one only: that one, and those choices.
    """

    distributions: Mapping[str, BaseDistribution]
    conditions: Mapping[str, tuple[str, tuple[Any, ...]]]

    def acting(self, settings: Values) -> dict[str, Any]:
        """Leave out what does nothing beside the others, such as the width of a hidden layer where there is none."""
        return {
            name: value
            for name, value in settings.items()
            if name not in self.conditions or settings.get(self.conditions[name][0]) in self.conditions[name][1]
        }

    @property
    def size(self) -> float:
        """How many distinct trials there are; infinite with a continuous range."""
        sizes = {name: _n_values(distribution) for name, distribution in self.distributions.items()}
        for choice in dict.fromkeys(choice for choice, _ in self.conditions.values()):
            bound = {name: values for name, (own, values) in self.conditions.items() if own == choice}
            sizes[choice] = sum(
                math.prod(_n_values(self.distributions[name]) for name, values in bound.items() if value in values)
                for value in _extremes(self.distributions[choice])
            )
        return math.prod(size for name, size in sizes.items() if name not in self.conditions)

    @property
    def in_order(self) -> dict[str, BaseDistribution]:
        """What is drawn, in an order that does not depend on the file's."""
        return dict(sorted(self.distributions.items()))

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
            settings = study.ask(self.in_order).params
            if self.acting(settings) not in map(self.acting, drawn):
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
    distributions = {name: _entry(config, name, entry) for name, entry in config.tune.space.items()}
    space = Space(MappingProxyType(distributions), MappingProxyType(_conditions(config, distributions)))
    _check_together(config, space)
    return space


def _conditions(
    config: Config, distributions: Mapping[str, BaseDistribution]
) -> dict[str, tuple[str, tuple[Any, ...]]]:
    """Find the settings that act under some choices only of another one that is searched, too."""
    found = {}
    for name in (name for name in distributions if name in ACTS_UNDER):
        choice, _ = ACTS_UNDER[name]
        if choice in distributions:
            choices = _extremes(distributions[choice])
            under = tuple(value for value in choices if acts(with_settings(config, {choice: value}), name))
            if 0 < len(under) < len(choices):
                found[name] = choice, under
    return found


def _check_together(config: Config, space: Space) -> None:
    """Check the ends of each entry with those of every other, and all others as they could be.

    Raises:
        InputError: Settings that could not be in one trial.
    """
    possible = some_settings(config, space)
    ends = {name: _extremes(distribution) for name, distribution in space.distributions.items()}
    pairs = itertools.combinations(ends, 2) if len(ends) > 1 else [(name, name) for name in ends]
    for one, other in pairs:
        for a, b in itertools.product(ends[one], ends[other]):
            try:
                check_config(with_settings(config, space.acting({**possible, one: a, other: b})))
            except InputError as error:
                fix = f"the entries under space, in the section tune, or {error.fix}"
                raise InputError(f"tune.space, which allows {error.found}", error.needed, fix) from error


def some_settings(config: Config, space: Space) -> dict[str, Any]:
    """Return settings that a trial could have, to check that it could run: the config's own where it may have them."""
    chosen = {}
    for name, distribution in space.distributions.items():
        own = setting_of(config, name)
        match distribution:
            case CategoricalDistribution(choices=choices):
                chosen[name] = own if own in choices else choices[0]
            case FloatDistribution() | IntDistribution():
                is_inside = own is not None and distribution.low <= own <= distribution.high
                chosen[name] = own if is_inside else distribution.low
    return chosen


def _entry(config: Config, name: str, entry: Any) -> BaseDistribution:
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
