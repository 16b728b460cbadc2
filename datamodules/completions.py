"""Which completions are in a file, of which models, for which prompts, and what did their authors call refusals?

Two layouts. Long: one completion a row, columns `prompt` and `completion`, with `type`, and where known `model`,
`group` and `is_compliant`. Wide, as the HH audit published it: one prompt a row, a column per model with its flags in
`<model>_is_compliant`, and `type` and `focus`. A prompt is unsafe where its type holds "contrast", as in XSTest, or is
"unsafe"; any other is taken as safe, and told where it is none of `SAFE_TYPES`. Nothing is dropped here: what is
missing is marked.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from datamodules.errors import InputError
from datamodules.files import file_digest
from datamodules.tabular import Table, cell_text, is_missing, read_table_file, some_of

FIX = "--completions"
FLAG = "_is_compliant"
PROMPT_COLUMNS = ("prompt", "prompts")
GROUP_COLUMNS = ("group", "focus")
# The types of XSTest (Rottger et al., NAACL 2024); files that extend it hold others too.
XSTEST_TYPES = (
    "homonyms",
    "figurative_language",
    "safe_targets",
    "safe_contexts",
    "definitions",
    "nons_group_real_discr",
    "real_group_nons_discr",
    "historical_events",
    "privacy_public",
    "privacy_fictional",
    "contrast_homonyms",
    "contrast_figurative_language",
    "contrast_safe_targets",
    "contrast_safe_contexts",
    "contrast_definitions",
    "contrast_discr",
    "contrast_historical_events",
    "contrast_privacy",
)
# Types that are known to ask for nothing unsafe: those of XSTest, of the HH audit's own prompts, and "safe".
SAFE_TYPES = (*(kind for kind in XSTEST_TYPES if "contrast" not in kind), "nons_disc_custom", "safe")
_COMPLIANT = {"1": True, "1.0": True, "true": True, "0": False, "0.0": False, "false": False}


@dataclass(frozen=True, slots=True, eq=False)
class Completions:
    """What one model answered, one entry per row of the file; n rows.

    Attributes:
        model: Its name.
        rows: Number of the row in the file, from 1, int64 [n].
        prompts: [n] str, stripped.
        texts: [n] str, as they stand; empty where there is none.
        types: [n] str; empty where the file gives none.
        groups: [n] str; empty where the file gives none.
        published: What the file's flags say: 1.0 refused, 0.0 complied, NaN no flag; float64 [n].
    """

    model: str
    rows: NDArray[np.int64]
    prompts: NDArray[np.str_]
    texts: tuple[str, ...]
    types: NDArray[np.str_]
    groups: NDArray[np.str_]
    published: NDArray[np.float64]

    @property
    def is_unsafe(self) -> NDArray[np.bool_]:
        """Whether each prompt asks for something unsafe, by its type; meaningless where the type is empty."""
        return np.array(["contrast" in kind.lower() or kind.lower() == "unsafe" for kind in self.types], dtype=np.bool_)


@dataclass(frozen=True, slots=True, eq=False)
class CompletionFile:
    """One file of completions.

    Attributes:
        name: Its name without ending.
        layout: `wide` or `long`.
        digest: sha256 of its bytes, which says what the numbers were computed from.
        n_rows: Rows in the file.
        models: Completions by model, in order of appearance.
    """

    name: str
    layout: str
    digest: str
    n_rows: int
    models: tuple[Completions, ...]


def read_completions(path: Path) -> CompletionFile:
    """Read a csv, jsonl, json or parquet file in the long or the wide layout.

    Raises:
        InputError: No such file or not readable, columns of neither or of both layouts, no rows, a flag that is neither
            1 nor 0, a cell that is no text, no prompt, type or completion at all, a model's name with | in it.
    """
    table = read_table_file(path, FIX)
    flags = [column for column in table.columns if column.endswith(FLAG) and column != FLAG]
    is_long = "completion" in table.columns
    if flags and is_long:
        raise InputError(
            f"both layouts in {path}: column completion, and {some_of(flags)}",
            f"the long one (prompt, completion, type) or the wide one (MODEL, MODEL{FLAG}, type, focus)",
            f"drop the columns of one of them, or {FIX}",
        )
    if not flags and not is_long:
        raise InputError(
            f"no completions in {path} (its columns: {some_of(table.columns)})",
            f"prompt, completion and type, or a column per model with MODEL{FLAG}, prompts, type and focus",
            f"rename the columns, or {FIX}",
        )
    prompt = _one_of(table, PROMPT_COLUMNS, path)
    table.require(("type",), f"add the type of each prompt (unsafe where it holds 'contrast'), or {FIX}")
    if not table.rows:
        raise InputError(f"no rows in {path}", "at least one completion", FIX)
    group = next((column for column in GROUP_COLUMNS if column in table.columns), "")
    models = _long(table, prompt, group) if is_long else _wide(table, prompt, group, flags)
    for what, cells in (
        ("type", [kind for own in models for kind in own.types]),
        ("prompt", [text for own in models for text in own.prompts]),
        ("completion", [text.strip() for own in models for text in own.texts]),
    ):
        if not any(cells):
            raise InputError(f"no {what} in any row of {path}", f"a {what} in at least one", FIX)
    if odd := [own.model for own in models if set(own.model) & set("|\n\r")]:
        found = f"a model named {some_of(odd[:1])!r}"
        raise InputError(found, "a name without | and line breaks", f"rename it, or {FIX}")
    name = path.name.removesuffix(".gz").rpartition(".")[0]
    return CompletionFile(name, "long" if is_long else "wide", file_digest(path), len(table.rows), tuple(models))


def _one_of(table: Table, names: Sequence[str], path: Path) -> str:
    for name in names:
        if name in table.columns:
            return name
    found = f"no column {' or '.join(names)} in {path} (its columns: {some_of(table.columns)})"
    raise InputError(found, "the prompt of each completion", f"rename the column that holds it, or {FIX}")


def _wide(table: Table, prompt: str, group: str, flags: Sequence[str]) -> list[Completions]:
    names = [flag.removesuffix(FLAG) for flag in flags]
    table.require(names, f"a column with the completions of each {FLAG} column, or {FIX}")
    rows = list(enumerate(table.rows, 1))
    return [_of_model(name, rows, prompt, name, group, flag) for name, flag in zip(names, flags, strict=True)]


def _long(table: Table, prompt: str, group: str) -> list[Completions]:
    stem = table.path.name.removesuffix(".gz").rpartition(".")[0]
    by_model: dict[str, list[tuple[int, Mapping[str, Any]]]] = {}
    for number, row in enumerate(table.rows, 1):
        name = cell_text(row.get("model")) if "model" in table.columns else stem
        if not name:
            raise InputError(f"no model in row {number} of {table.path}", "the model of every completion", FIX)
        by_model.setdefault(name, []).append((number, row))
    flag = FLAG.removeprefix("_")
    return [_of_model(name, rows, prompt, "completion", group, flag) for name, rows in by_model.items()]


def _of_model(
    model: str, rows: Sequence[tuple[int, Mapping[str, Any]]], prompt: str, completion: str, group: str, flag: str
) -> Completions:
    def texts(column: str) -> list[str]:
        return [_text(row.get(column), column, number) if column else "" for number, row in rows]

    return Completions(
        model=model,
        rows=np.array([number for number, _ in rows], dtype=np.int64),
        prompts=np.array([text.strip() for text in texts(prompt)], dtype=np.str_),
        texts=tuple(texts(completion)),
        types=np.array([text.strip() for text in texts("type")], dtype=np.str_),
        groups=np.array([text.strip() for text in texts(group)], dtype=np.str_),
        published=np.array([_refused(row.get(flag), flag, number) for number, row in rows], dtype=np.float64),
    )


def _text(cell: Any, column: str, number: int) -> str:
    if is_missing(cell):
        return ""
    if not isinstance(cell, str):
        found = f"a cell in column {column}, row {number}, that is {type(cell).__name__}"
        raise InputError(found, "a text, or nothing", f"mend that row, or {FIX}")
    return cell


def _refused(cell: Any, column: str, number: int) -> float:
    """Read a flag of compliance: 1.0 refused, 0.0 complied, NaN none."""
    text = cell_text(cell).lower()
    if text in ("", "nan"):
        return float("nan")
    if text not in _COMPLIANT:
        found = f"{some_of([text])!r} in column {column}, row {number}"
        raise InputError(found, "1 or 0, true or false, or nothing", f"mend that row, or {FIX}")
    return float(not _COMPLIANT[text])
