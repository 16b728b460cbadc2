"""How does a command read its flags, and the config of a run?"""

from collections.abc import Sequence
from pathlib import Path

from jsonargparse import ArgumentParser, set_parsing_settings

from datamodules.strict_yaml import read_strict_yaml
from experiments.config_files import CONFIG_FIX, add_sections, check_file, config_of
from train.config import Config
from train.ensemble_config import EnsembleRunConfig


def command_parser(verb: str, description: str, usage: str | None = None) -> ArgumentParser:
    """Return a parser that raises instead of exiting and takes help texts from attribute docstrings."""
    set_parsing_settings(docstring_parse_attribute_docstrings=True)
    return ArgumentParser(
        prog=f"imprint {verb}", description=description, usage=usage, exit_on_error=False, allow_abbrev=False
    )


def read_config(path: Path, flags: Sequence[str] = ()) -> Config:
    """Read a config file, such as a run's config.yaml; of an ensemble, an `EnsembleRunConfig`.

    Args:
        path: The file.
        flags: Settings that win over the file's, as on a command line.

    Raises:
        InputError: See `experiments.config_files.check_file`.
    """
    content = read_strict_yaml(path, CONFIG_FIX, f"edit {path}")
    is_ensemble = isinstance(content, dict) and "ensemble" in content
    kind = EnsembleRunConfig if is_ensemble else Config
    check_file(path, kind, CONFIG_FIX)
    parser = command_parser("fit", "")
    add_sections(parser, kind, {})
    return config_of(parser, parser.parse_args(["--config", str(path), *flags]), kind)


def read_flags(flags: Sequence[str]) -> Config:
    """Return the defaults with the settings of some flags."""
    parser = command_parser("fit", "")
    add_sections(parser, Config, {})
    return config_of(parser, parser.parse_args(list(flags)), Config)


def split_flags(arguments: Sequence[str], prefix: str) -> tuple[list[str], list[str]]:
    """Take the flags that begin with a prefix, with their values, out of a command line.

    Returns:
        Those flags and values, and everything else, both in the order of the command line.
    """
    taken: list[str] = []
    rest: list[str] = []
    is_value = False
    for argument in arguments:
        is_flag = argument.startswith(prefix)
        (taken if is_flag or (is_value and not argument.startswith("--")) else rest).append(argument)
        is_value = is_flag and "=" not in argument
    return taken, rest
