"""How does a command read its flags, and the config of a run?"""

from pathlib import Path

from jsonargparse import ArgumentParser, set_parsing_settings

from experiments.config_files import CONFIG_FIX, add_sections, check_file, config_of
from train.config import Config


def command_parser(verb: str, description: str, usage: str | None = None) -> ArgumentParser:
    """Return a parser that raises instead of exiting and takes help texts from attribute docstrings."""
    set_parsing_settings(docstring_parse_attribute_docstrings=True)
    return ArgumentParser(
        prog=f"imprint {verb}", description=description, usage=usage, exit_on_error=False, allow_abbrev=False
    )


def read_config(path: Path) -> Config:
    """Read a config file, such as a run's config.yaml.

    Raises:
        InputError: See `experiments.config_files.check_file`.
    """
    check_file(path, Config, CONFIG_FIX)
    parser = command_parser("fit", "")
    add_sections(parser, Config, {})
    return config_of(parser, parser.parse_args(["--config", str(path)]), Config)
