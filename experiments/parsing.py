"""How are flags and YAML files read into settings?

Precedence: defaults < files left to right < flags, wherever the flags stand on the line.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import yaml
from jsonargparse import ArgumentParser, set_parsing_settings

from datamodules.errors import InputError
from datamodules.files import read_text
from train.config import Config

CONFIG_FIX = "--config"


def command_parser(verb: str, description: str, usage: str | None = None) -> ArgumentParser:
    """Return a parser that raises instead of exiting and takes help texts from attribute docstrings."""
    set_parsing_settings(docstring_parse_attribute_docstrings=True)
    return ArgumentParser(
        prog=f"imprint {verb}", description=description, usage=usage, exit_on_error=False, allow_abbrev=False
    )


def add_config_sections(parser: ArgumentParser) -> None:
    """Add `--config` and one group of flags per section of the config."""
    parser.add_argument("--config", action="config", help="YAML file with settings; may be given several times")
    defaults = Config()
    for name, kind in Config.__annotations__.items():
        parser.add_argument(f"--{name}", type=kind, default=getattr(defaults, name), help=f"{kind.__doc__}")


def config_from(parser: ArgumentParser, namespace: Any) -> Config:
    """Build the config from parsed arguments."""
    sections = parser.instantiate(namespace)
    return Config(**{name: getattr(sections, name) for name in Config.__annotations__})


def read_config(path: Path) -> Config:
    """Read a config file, such as a run's config.yaml.

    Raises:
        InputError: See `check_config_file`.
    """
    check_config_file(path)
    parser = command_parser("fit", "")
    add_config_sections(parser)
    return config_from(parser, parser.parse_args(["--config", str(path)]))


def files_first(arguments: Sequence[str]) -> list[str]:
    """Move `--config FILE` to the front, in order, so that flags win wherever they stand; check each file.

    Raises:
        InputError: A missing file, or one that is not a YAML mapping of sections.
    """
    files, rest = [], []
    remaining = iter(arguments)
    for argument in remaining:
        if argument == "--config":
            value = next(remaining, None)
            if value is None:
                raise InputError("--config without a file", "a YAML file", CONFIG_FIX)
        elif argument.startswith("--config="):
            value = argument.removeprefix("--config=")
        else:
            rest.append(argument)
            continue
        check_config_file(Path(value))
        files += ["--config", value]
    return files + rest


def check_config_file(path: Path) -> None:
    """Raise InputError unless `path` is a YAML mapping with known sections and settings."""
    try:
        content = yaml.safe_load(read_text(path, CONFIG_FIX))
    except yaml.YAMLError as error:
        first_lines = " ".join(str(error).split())
        raise InputError(f"{path}, which is not YAML ({first_lines})", "a YAML file", CONFIG_FIX) from error
    known = {name: set(kind.__dataclass_fields__) for name, kind in Config.__annotations__.items()}
    if not isinstance(content, dict):
        raise InputError(f"{path}, which holds no mapping", f"sections {', '.join(known)}", CONFIG_FIX)
    for section, fields in content.items():
        if section not in known:
            raise InputError(f"section {section!r} in {path}", f"sections {', '.join(known)}", f"edit {path}")
        if not isinstance(fields, dict):
            found = f"section {section} in {path}, which holds {'nothing' if fields is None else repr(fields)[:60]}"
            raise InputError(found, "settings, indented below it", f"edit {path}")
        for name in fields:
            if name not in known[section]:
                needed = f"one of {', '.join(sorted(known[section]))}"
                raise InputError(f"setting {section}.{name} in {path}", needed, f"edit {path}")
