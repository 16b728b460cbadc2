"""How is a YAML file of the user's own read strictly, without running what it may hold?"""

from pathlib import Path
from typing import Any

import yaml

from datamodules.errors import InputError
from datamodules.files import read_text


def read_strict_yaml(path: Path, setting: str, fix: str) -> Any:
    """Read a YAML file as plain data.

    Args:
        path: The file.
        setting: The setting that names the file.
        fix: What mends its content; becomes the `fix` of errors about it.

    Raises:
        InputError: As `read_text`, an empty file, not YAML, a key that occurs twice, a tag that asks for a Python
            object, a date that is none, or nesting without end (the line is named where it is known).
    """
    text = read_text(path, setting)
    try:
        data = yaml.load(text, Loader=_StrictLoader)
    except yaml.YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        line = f", line {mark.line + 1}," if mark else ""
        what = " ".join(str(getattr(error, "problem", None) or error).split())
        raise InputError(f"{path}{line} that is not YAML ({what})", "a YAML file of plain values", fix) from error
    except (ValueError, RecursionError) as error:
        what = "nested too deeply" if isinstance(error, RecursionError) else str(error)
        raise InputError(f"{path} that is not YAML ({what})", "a YAML file of plain values", fix) from error
    if data is None:
        raise InputError(f"nothing in {path}", "a YAML file with content", fix)
    return data


class _StrictLoader(yaml.SafeLoader):
    """Refuses a key that occurs twice, which YAML would settle silently in favour of the last."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        seen = set()
        for key in (key for key, _ in node.value if isinstance(key, yaml.ScalarNode)):
            if key.value in seen:
                raise yaml.constructor.ConstructorError(None, None, f"key {key.value} occurs twice", key.start_mark)
            seen.add(key.value)
        return super().construct_mapping(node, deep)
