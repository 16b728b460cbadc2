"""How does a command read its flags, and the config of a run?"""

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


def read_config(path: Path) -> Config:
    """Read a config file, such as a run's config.yaml; of an ensemble, an `EnsembleRunConfig`.

    Raises:
        InputError: See `experiments.config_files.check_file`.
    """
    content = read_strict_yaml(path, CONFIG_FIX, f"edit {path}")
    is_ensemble = isinstance(content, dict) and "ensemble" in content
    kind = EnsembleRunConfig if is_ensemble else Config
    check_file(path, kind, CONFIG_FIX)
    parser = command_parser("fit", "")
    add_sections(parser, kind, {})
    return config_of(parser, parser.parse_args(["--config", str(path)]), kind)
