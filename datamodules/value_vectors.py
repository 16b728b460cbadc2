"""Which value vectors are in a file, of whose answers to which prompts?

Two layouts. FULCRA's panel, one file per model: `prompt`, `answer`, `reward`, `value_reward` (ten numbers in its order
of the values), `safety_issues` and two stored distances. And a plain table, csv, jsonl or parquet: `model`,
`prompt_id`, for every value one column named by its slug (or two, `<slug>-for` and `<slug>-against`, whose difference
it is), and where known `reward`, `length` and `tags` (a list, or text with semicolons). What `imprint score` writes is
such a table too: without `model` the file's name is the model, without `prompt_id` the `text_id` is the prompt, and of
a classifier with several taxonomies the columns are `<taxonomy>.<slug>-for`.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from datamodules.dialogue import normalise
from datamodules.errors import InputError
from datamodules.files import digest_of, file_digest
from datamodules.reward_file import cell_number
from datamodules.tabular import Table, cell_text, is_missing, read_table_file
from datamodules.taxonomy import Taxonomy

Floats = NDArray[np.float64]
Bools = NDArray[np.bool_]

FIX = "--vectors"
PANEL = "fulcra-panel"
_PANEL_COLUMNS = ("prompt", "value_reward")
# Stored distance -> the distance it is, to which target.
STORED = {"e_distance": ("l2", "evaluation"), "h_distance": ("l1", "evaluation")}
_PREFIXES = ("harmless_test_", "openai_")


@dataclass(frozen=True, slots=True, eq=False)
class ValueVectors:
    """Value vectors of answers; n rows, K values.

    Attributes:
        name: Name of the data set in tables.
        digest: Of the files, which says what the numbers were computed from.
        layout: `panel` or `table`.
        slugs: Values, in the order of the columns [K].
        models: Who answered, [n] str.
        prompts: Id of the prompt, [n] str.
        vectors: In [-1, 1], float64 [n, K].
        rewards: float64 [n], NaN where missing; None where the file has none.
        lengths: Length of the answer, float64 [n], NaN where missing; None where the file has none.
        length_name: What the length is.
        tag_names: Names of the tags, sorted.
        tags: Which row has which, bool [n, n_tags].
        stored: Distances as the file gives them: column -> float64 [n], NaN where missing.
        n_read: Rows in the files.
        n_left_out: Rows without a value vector.
    """

    name: str
    digest: str
    layout: str
    slugs: tuple[str, ...]
    models: NDArray[np.str_]
    prompts: NDArray[np.str_]
    vectors: Floats
    rewards: Floats | None
    lengths: Floats | None
    length_name: str
    tag_names: tuple[str, ...]
    tags: Bools
    stored: dict[str, Floats]
    n_read: int
    n_left_out: int

    @property
    def model_names(self) -> tuple[str, ...]:
        """The models, in order of appearance."""
        return tuple(dict.fromkeys(self.models.tolist()))


@dataclass(frozen=True, slots=True)
class _Row:
    model: str
    prompt: str
    vector: tuple[float, ...]
    reward: float
    length: float
    tags: tuple[str, ...]
    stored: tuple[float, ...]


def read_value_vectors(paths: Sequence[Path], taxonomy: Taxonomy) -> ValueVectors:
    """Read one or several files of one layout.

    Args:
        paths: The files.
        taxonomy: The values; its order is that of the vectors.

    Raises:
        InputError: A file that cannot be read or is of neither layout, files of both, a value outside [-1, 1], a cell
            that is no number, no prompt, a prompt twice of one model, or no vector at all.
    """
    tables = [read_table_file(path, FIX) for path in dict.fromkeys(paths)]
    layouts = [_layout(table, taxonomy) for table in tables]
    if len(set(layouts)) != 1:
        raise InputError("files of both layouts", "files of one", FIX)
    columns = {table.path: [_columns_of(slug, table.columns, taxonomy) for slug in taxonomy.slugs] for table in tables}
    rows: list[_Row] = []
    n_read = 0
    for table in tables:
        n_read += len(table.rows)
        for number, cells in enumerate(table.rows, 1):
            place = f"row {number} of {table.path}"
            read = (
                _panel_row(cells, place, table.path)
                if layouts[0] == "panel"
                else _row(cells, place, table, columns[table.path])
            )
            if read is not None:
                rows.append(read)
    if not rows:
        raise InputError(f"no value vector in {tables[0].path}", "at least one", FIX)
    _require_distinct(rows)
    name = PANEL if layouts[0] == "panel" else tables[0].path.name.split(".")[0]
    digest = digest_of([file_digest(table.path) for table in tables])
    return _collected(rows, name, digest, layouts[0], taxonomy.slugs, n_read)


def _collected(
    rows: list[_Row], name: str, digest: str, layout: str, slugs: tuple[str, ...], n_read: int
) -> ValueVectors:
    tag_names = tuple(sorted({tag for row in rows for tag in row.tags}))
    rewards, lengths = (np.array([getattr(row, key) for row in rows]) for key in ("reward", "length"))
    stored = np.array([row.stored for row in rows], dtype=np.float64).reshape(len(rows), -1)
    return ValueVectors(
        name=name,
        digest=digest,
        layout=layout,
        slugs=slugs,
        models=np.array([row.model for row in rows]),
        prompts=np.array([row.prompt for row in rows]),
        vectors=np.array([row.vector for row in rows], dtype=np.float64),
        rewards=None if np.isnan(rewards).all() else rewards,
        lengths=None if np.isnan(lengths).all() else lengths,
        length_name="n_characters" if layout == "panel" else "length",
        tag_names=tag_names,
        tags=np.array([[tag in row.tags for tag in tag_names] for row in rows], dtype=np.bool_).reshape(len(rows), -1),
        stored=dict(zip(STORED, stored.T, strict=True)) if stored.shape[1] else {},
        n_read=n_read,
        n_left_out=n_read - len(rows),
    )


def _layout(table: Table, taxonomy: Taxonomy) -> str:
    if set(_PANEL_COLUMNS) <= set(table.columns):
        return "panel"
    missing = [] if {"prompt_id", "text_id"} & set(table.columns) else ["prompt_id"]
    missing += [slug for slug in taxonomy.slugs if not _columns_of(slug, table.columns, taxonomy)]
    if missing:
        needed = (
            f"prompt_id (or text_id) and a column per value ({', '.join(taxonomy.slugs)}; or SLUG-for and SLUG-against)"
        )
        raise InputError(f"no column {', '.join(missing)} in {table.path}", needed, f"rename its columns, or {FIX}")
    return "table"


def _columns_of(slug: str, columns: Sequence[str], taxonomy: Taxonomy) -> tuple[str, ...]:
    """Columns that tell a value: one, or for and against; none where it is missing."""
    for name in (slug, f"{taxonomy.name}.{slug}"):
        for names in ((name,), (f"{name}-net",), (f"{name}-for", f"{name}-against")):
            if set(names) <= set(columns):
                return names
    return ()


def _row(cells: dict[str, Any], place: str, table: Table, columns: Sequence[Sequence[str]]) -> _Row | None:
    """Read a row of a plain table, each value from its columns; None where a value is missing."""
    values = []
    for names in columns:
        first, *second = (_number(cells.get(name), name, place) for name in names)
        values.append(first - second[0] if second else first)
    if any(math.isnan(value) for value in values):
        return None
    model = cell_text(cells.get("model")) if "model" in table.columns else table.path.name.split(".")[0]
    prompt_column = "prompt_id" if "prompt_id" in table.columns else "text_id"
    prompt = cell_text(cells.get(prompt_column))
    if not model or not prompt:
        raise InputError(f"{place} without {prompt_column if model else 'model'}", "both in every row", FIX)
    reward, length = (_number(cells.get(name), name, place) for name in ("reward", "length"))
    return _Row(model, prompt, _bounded(values, place), reward, length, _tags(cells.get("tags"), place), ())


def _panel_row(cells: dict[str, Any], place: str, path: Path) -> _Row | None:
    """Read a row of FULCRA's panel; None where it has no vector. The model is told by the name of the file."""
    vector = cells.get("value_reward")
    if is_missing(vector):
        return None
    # In the order of FULCRA, which is that of the taxonomy.
    if not isinstance(vector, list) or len(vector) != 10:
        raise InputError(f"value_reward of {place}, which is no list of ten numbers", "ten numbers", FIX)
    values = [_number(value, "value_reward", place) for value in vector]
    if any(math.isnan(value) for value in values):
        raise InputError(f"a missing number in value_reward of {place}", "ten numbers", FIX)
    prompt, answer = cell_text(cells.get("prompt")), cells.get("answer")
    if not prompt:
        raise InputError(f"{place} without prompt", "one in every row", FIX)
    model = path.name.split(".jsonl")[0]
    for prefix in _PREFIXES:
        model = model.removeprefix(prefix)
    return _Row(
        model,
        digest_of(normalise(prompt))[:16],
        _bounded(values, place),
        _number(cells.get("reward"), "reward", place),
        float(len(answer)) if isinstance(answer, str) else math.nan,
        _tags(cells.get("safety_issues"), place),
        tuple(_number(cells.get(name), name, place) for name in STORED),
    )


def _bounded(values: list[float], place: str) -> tuple[float, ...]:
    if outside := [value for value in values if not -1 <= value <= 1]:
        raise InputError(f"value {outside[0]:g} in {place}", "values in [-1, 1]", f"scale them, or {FIX}")
    return tuple(values)


def _number(cell: Any, name: str, place: str) -> float:
    """Return a cell as number, NaN where missing."""
    value = math.nan if is_missing(cell) else cell_number(cell)
    if value is None or math.isinf(value):
        raise InputError(f"{name} of {place}, which is no number", "a finite number, or nothing", f"mend it, or {FIX}")
    return float(value)


def _tags(cell: Any, place: str) -> tuple[str, ...]:
    if is_missing(cell):
        return ()
    parts = cell if isinstance(cell, list) else str(cell).split(";")
    if not all(isinstance(part, str) for part in parts):
        raise InputError(f"tags of {place}, which are no texts", "a list of texts, or text with semicolons", FIX)
    return tuple(dict.fromkeys(part.strip() for part in parts if part.strip()))


def _require_distinct(rows: list[_Row]) -> None:
    seen: set[tuple[str, str]] = set()
    for row in rows:
        if (row.model, row.prompt) in seen:
            found = f"prompt {row.prompt} twice of model {row.model}"
            raise InputError(found, "one answer of each model to each prompt", f"remove one of them, or {FIX}")
        seen.add((row.model, row.prompt))
