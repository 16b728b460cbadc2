"""How are YAML files and flags read into a config of any kind?

Precedence: defaults < files left to right < flags, wherever the flags stand on the line.
"""

import reprlib
from collections.abc import Sequence
from dataclasses import fields, is_dataclass
from pathlib import Path
from typing import Any, TypeVar

from jsonargparse import ArgumentParser

from datamodules.errors import InputError
from datamodules.strict_yaml import read_strict_yaml

CONFIG_FIX = "--config"
Kind = TypeVar("Kind")


def add_sections(parser: ArgumentParser, kind: type[Any], plain_help: dict[str, str]) -> None:
    """Add `--config`, one group of flags per section of a config and one flag per plain setting.

    Args:
        parser: Gets the flags.
        kind: The config: a dataclass of dataclasses and plain settings, all with defaults.
        plain_help: Help text of each plain setting.
    """
    parser.add_argument("--config", action="config", help="YAML file with settings; may be given several times")
    defaults = kind()
    for field in fields(kind):
        text = f"{field.type.__doc__}" if is_dataclass(field.type) else plain_help[field.name]
        parser.add_argument(f"--{field.name}", type=field.type, default=getattr(defaults, field.name), help=text)


def config_of(parser: ArgumentParser, namespace: Any, kind: type[Kind]) -> Kind:
    """Build the config from parsed arguments."""
    sections = parser.instantiate(namespace)
    return kind(**{field.name: getattr(sections, field.name) for field in fields(kind)})  # type: ignore[arg-type]


def config_files_first(arguments: Sequence[str], kind: type[Any]) -> list[str]:
    """Move `--config FILE` to the front, in order, so that flags win wherever they stand; check each file.

    Raises:
        InputError: A missing file, or one that is not a YAML mapping of known settings.
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
        check_file(Path(value), kind, CONFIG_FIX)
        files += ["--config", value]
    return files + rest


def check_file(path: Path, kind: type[Any], setting: str) -> None:
    """Check a config file.

    Args:
        path: The file.
        kind: The config.
        setting: The setting that names the file.

    Raises:
        InputError: Not a YAML mapping with known sections and settings.
    """
    if path.suffix == ".gz":
        raise InputError(f"{path}, which is packed", "a YAML file", f"unpack it, or {setting}")
    content = read_strict_yaml(path, setting, f"edit {path}")
    known: dict[str, Any] = {field.name: field.type for field in fields(kind)}
    needed = f"sections {', '.join(known)}"
    if not isinstance(content, dict):
        raise InputError(f"{path}, which holds no mapping", needed, f"edit {path}")
    for section, settings in content.items():
        if section not in known:
            raise InputError(f"section {section!r} in {path}", needed, f"edit {path}")
        if not is_dataclass(known[section]):
            continue
        if not isinstance(settings, dict):
            held = "nothing" if settings is None else reprlib.repr(settings)[:60]
            found = f"section {section} in {path}, which holds {held}"
            raise InputError(found, "settings, indented below it", f"edit {path}")
        names = {field.name for field in fields(known[section])}
        for name in settings:
            if name not in names:
                needed = f"one of {', '.join(sorted(names))}"
                raise InputError(f"setting {section}.{name} in {path}", needed, f"edit {path}")
