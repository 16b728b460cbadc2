"""Which values are wished for? Target vectors as data, each with where it comes from."""

import functools
import math
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from datamodules.errors import InputError
from datamodules.strict_yaml import read_strict_yaml
from datamodules.taxonomy import Taxonomy, load_taxonomy, slugify

Floats = NDArray[np.float64]

# Whose values value vectors have.
TAXONOMY = "schwartz"
TARGETS_FILE = Path(__file__).parent / "target_vectors.yaml"
_KEYS = ("name", "title", "source", "licence", "values", "weights")


@dataclass(frozen=True, slots=True)
class TargetVector:
    """How much of each value is wished for.

    Attributes:
        name: Slug in tables.
        title: Name for readers.
        source: Where the numbers come from.
        licence: Under which licence.
        values: Slug -> what is wished for, in [-1, 1]; a value that is not listed counts in no distance.
        weights: Slug -> how much the value counts in the smooth distance; 1 where it is not listed.
    """

    name: str
    title: str
    source: str
    licence: str
    values: dict[str, float]
    weights: dict[str, float]

    def vector(self, slugs: tuple[str, ...]) -> Floats:
        """Return the target in the order of `slugs`, float64 [K], NaN for a value that it says nothing of."""
        return np.array([self.values.get(slug, math.nan) for slug in slugs])

    def weight(self, slugs: tuple[str, ...]) -> Floats:
        """Return the weights in the order of `slugs`, float64 [K]."""
        return np.array([self.weights.get(slug, 1.0) for slug in slugs])


@functools.cache
def read_targets(path: Path | None = None, fix: str = "--target_vectors") -> tuple[TargetVector, ...]:
    """Read the bundled target vectors, or a file of the user's own in the same layout.

    Args:
        path: YAML file with `taxonomy` and `targets`; the bundled one when left out.
        fix: The setting that names it.

    Raises:
        InputError: A file that cannot be read, an unknown key, value or taxonomy, a number outside its range, a target
            without values, source or licence, or a name twice.
    """
    place = TARGETS_FILE if path is None else path
    data = read_strict_yaml(place, fix, f"mend it, or {fix}")
    if not isinstance(data, dict) or set(data) != {"taxonomy", "targets"} or not isinstance(data["targets"], list):
        raise _bad(f"{place}, which is no list of targets", "the keys taxonomy and targets", fix)
    if data["taxonomy"] != TAXONOMY:
        needed = f"taxonomy: {TAXONOMY}, whose values value vectors have"
        raise _bad(f"{place} with the taxonomy {data['taxonomy']!r}", needed, fix)
    taxonomy = load_taxonomy(TAXONOMY)
    targets = tuple(
        _target(entry, taxonomy, f"target {k} of {place}", fix) for k, entry in enumerate(data["targets"], 1)
    )
    names = [target.name for target in targets]
    if not names or len(set(names)) < len(names):
        raise _bad(f"{place} with the targets {', '.join(names) or 'none'}", "at least one, of distinct names", fix)
    return targets


def find_target(name: str, path: Path | None, fix: str) -> TargetVector:
    """Return one target by name; InputError where there is none of it."""
    targets = read_targets(path)
    found = [target for target in targets if target.name == name]
    if not found:
        raise InputError(f"target {name!r}", f"one of {', '.join(target.name for target in targets)}", fix)
    return found[0]


def _target(entry: Any, taxonomy: Taxonomy, place: str, fix: str) -> TargetVector:
    if not isinstance(entry, dict) or not set(entry) <= set(_KEYS):
        raise _bad(f"{place}, which is no target", f"the keys {', '.join(_KEYS)}", fix)
    texts = {key: entry.get(key) for key in ("name", "title", "source", "licence")}
    if empty := [key for key, text in texts.items() if not isinstance(text, str) or not text.strip()]:
        raise _bad(f"{place} without {empty[0]}", "a text there, so that readers know where the numbers come from", fix)
    name = str(texts["name"])
    if slugify(name) != name:
        raise _bad(f"{place}, named {name!r}", f"a name such as {slugify(name) or 'mine'!r}", fix)
    values = _numbers(entry.get("values"), taxonomy, -1.0, f"values of {place}", fix)
    weights = _numbers(entry.get("weights", {}), taxonomy, 0.0, f"weights of {place}", fix)
    if not values:
        raise _bad(f"no values of {place}", "at least one", fix)
    if stray := [slug for slug in weights if slug not in values]:
        raise _bad(f"a weight of {stray[0]}, which {place} does not wish for", "weights of its own values", fix)
    if not any(weights.get(slug, 1.0) > 0 for slug in values):
        raise _bad(f"weights of {place} that are all 0", "one above 0", fix)
    return TargetVector(name, str(texts["title"]), str(texts["source"]), str(texts["licence"]), values, weights)


def _numbers(entry: Any, taxonomy: Taxonomy, low: float, place: str, fix: str) -> dict[str, float]:
    """Return slug -> number; weights have no upper end."""
    if not isinstance(entry, Mapping):
        raise _bad(f"{place}, which are no numbers by value", "slug: number", fix)
    high = 1.0 if low < 0 else math.inf
    numbers = {}
    for written, number in entry.items():
        slug = taxonomy.resolve(str(written))
        if slug is None or slug in numbers:
            what = "twice" if slug in numbers else f"which is no value of {taxonomy.name}"
            raise _bad(f"{written!r} among the {place}, {what}", f"each of {', '.join(taxonomy.slugs)} once", fix)
        is_number = isinstance(number, int | float) and not isinstance(number, bool) and math.isfinite(number)
        if not is_number or not low <= number <= high:
            raise _bad(f"{number!r} for {slug} among the {place}", f"a number in [{low:g}, {high:g}]", fix)
        numbers[slug] = float(number)
    return numbers


def _bad(found: str, needed: str, fix: str) -> InputError:
    return InputError(found, needed, f"mend it, or {fix}")
