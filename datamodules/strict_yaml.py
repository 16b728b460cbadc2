"""How is a YAML file of the user's own read strictly, without running what it may hold?"""

from pathlib import Path
from typing import Any

import yaml

from datamodules.errors import InputError
from datamodules.files import first_line, is_unicode, read_text

_MOST_DEEP = 50


def read_strict_yaml(path: Path, setting: str, fix: str) -> Any:
    """Read a YAML file as plain data.

    Args:
        path: The file.
        setting: The setting that names the file.
        fix: What mends its content; becomes the `fix` of errors about it.

    Raises:
        InputError: As `read_text`, an empty file, not YAML, a key that occurs twice, a tag that asks for a Python
            object, a date that is none, an endless number, half a surrogate pair, or nesting without end (the line is
            named where it is known).
    """
    text = read_text(path, setting)
    try:
        data = yaml.load(text, Loader=_StrictLoader)
    except yaml.YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        line = f", line {mark.line + 1}," if mark else ""
        what = " ".join(str(getattr(error, "problem", None) or error).split())
        raise InputError(f"{path}{line} that is not YAML ({what})", "a YAML file of plain values", fix) from error
    except ValueError as error:
        raise InputError(
            f"{path} that is not YAML ({first_line(error)})", "a YAML file of plain values", fix
        ) from error
    if data is None:
        raise InputError(f"nothing in {path}", "a YAML file with content", fix)
    return data


class _StrictLoader(yaml.SafeLoader):
    """Refuses what YAML allows and nothing here means.

    A key that occurs twice (YAML settles it silently in favour of the last), half a surrogate pair in a string,
    a whole number that no setting can be, nesting without end.
    """

    _depth = 0

    def compose_node(self, parent: yaml.Node | None, index: Any) -> yaml.Node | None:
        self._depth += 1
        if self._depth > _MOST_DEEP:
            mark = self.peek_event().start_mark  # type: ignore[no-untyped-call]
            raise yaml.composer.ComposerError(None, None, "nested too deeply", mark)
        node = super().compose_node(parent, index)
        self._depth -= 1
        return node

    def construct_scalar(self, node: yaml.ScalarNode | yaml.MappingNode) -> Any:
        text = super().construct_scalar(node)
        if not is_unicode(text):
            raise yaml.constructor.ConstructorError(None, None, "half a surrogate pair", node.start_mark)
        return text

    def construct_yaml_int(self, node: yaml.ScalarNode) -> int:
        number = int(super().construct_yaml_int(node))
        if number.bit_length() > 63:
            raise yaml.constructor.ConstructorError(None, None, "a number beyond 64 bits", node.start_mark)
        return number

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        seen = set()
        for key in (key for key, _ in node.value if isinstance(key, yaml.ScalarNode)):
            if key.value in seen:
                raise yaml.constructor.ConstructorError(None, None, f"key {key.value} occurs twice", key.start_mark)
            seen.add(key.value)
        return super().construct_mapping(node, deep)


_StrictLoader.add_constructor("tag:yaml.org,2002:int", _StrictLoader.construct_yaml_int)
