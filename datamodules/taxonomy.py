"""What is a value?

Taxonomies are versioned data (`taxonomies/*.yaml`, or a YAML file of the user's own), read and checked here. A value
of a signed taxonomy is two labels everywhere: `<slug>-for` and `<slug>-against`.
"""

import re
import reprlib
import unicodedata
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from datamodules.errors import InputError
from datamodules.files import digest_of
from datamodules.strict_yaml import read_strict_yaml

_FOLDER = Path(__file__).parent / "taxonomies"
_FIX = "mend the taxonomy file, or choose another with --data.taxonomy"
_KEYS = ("name", "version", "title", "source", "signed", "values", "groups", "circumplex", "collapse", "items")
# Columns of tables of texts and of scores; a value of that name could not be told from them.
_RESERVED = ("text", "text_id", "group_id", "labels")
_VALUE_KEYS = ("slug", "name", "definition", "sub_values", "accepted")


def slugify(text: str) -> str:
    """Return a name as a slug.

    Lower case; spaces and slashes become hyphens, hyphens stay, other punctuation goes. Runs of hyphens count as one.
    """
    lowered = unicodedata.normalize("NFKC", text).lower()
    hyphenated = re.sub(r"[\s/]+", "-", lowered.strip())
    return re.sub(r"-+", "-", re.sub(r"[^\w-]|_", "", hyphenated)).strip("-")


@dataclass(frozen=True, slots=True)
class Value:
    """One value of a taxonomy.

    Attributes:
        slug: Name in columns, metrics and tables.
        name: Name for readers, as published.
        definition: What counts as the value.
        sub_values: Narrower values that it covers.
        accepted: Other spellings of its label in data files.
    """

    slug: str
    name: str
    definition: str = ""
    sub_values: tuple[str, ...] = ()
    accepted: tuple[str, ...] = ()

    @property
    def spellings(self) -> tuple[str, ...]:
        """Everything that a data file may write for the value, folded as `Taxonomy.resolve` folds it."""
        return tuple(_fold(text) for text in (self.slug, self.name, *self.accepted))


@dataclass(frozen=True, slots=True)
class Taxonomy:
    """A versioned set of values. Build it with `load_taxonomy` or `from_dict`, which check it.

    Attributes:
        name: Slug of the taxonomy.
        version: Version of the data.
        title: Name for readers.
        source: Where the values come from.
        signed: Whether a text can also speak against a value.
        values: The values, in label order.
        groups: Higher-order group -> slugs.
        circumplex: Slugs in circular order, the last beside the first; empty where there is no such order.
        collapse: Slug of a refined value -> slug of the value that sums it up.
        items: Survey item, as annotators write it -> slug.
    """

    name: str
    version: str
    title: str
    source: str
    signed: bool
    values: tuple[Value, ...]
    groups: dict[str, tuple[str, ...]] = field(default_factory=dict)
    circumplex: tuple[str, ...] = ()
    collapse: dict[str, str] = field(default_factory=dict)
    items: dict[str, str] = field(default_factory=dict)

    @property
    def slugs(self) -> tuple[str, ...]:
        """Slugs of the values, in order."""
        return tuple(value.slug for value in self.values)

    @property
    def labels(self) -> tuple[str, ...]:
        """Label names, in order: the slugs; for a signed taxonomy a-for, a-against, b-for, b-against, .."""
        if not self.signed:
            return self.slugs
        return tuple(f"{slug}-{sign}" for slug in self.slugs for sign in ("for", "against"))

    @property
    def digest(self) -> str:
        """Sha256 over everything in the taxonomy, as hex."""
        return digest_of(self.to_dict())

    def resolve(self, written: str) -> str | None:
        """Return the slug that a written label means (slug, name or accepted spelling), or None.

        Case and white space do not matter.
        """
        folded = _fold(written)
        return next((value.slug for value in self.values if folded in value.spellings), None)

    def to_dict(self) -> dict[str, Any]:
        """Return plain lists, dicts, strings and booleans that `from_dict` reads back."""
        plain = asdict(self)
        for value in plain["values"]:
            value.update(sub_values=list(value["sub_values"]), accepted=list(value["accepted"]))
        groups = {group: list(slugs) for group, slugs in self.groups.items()}
        return plain | {"values": list(plain["values"]), "groups": groups, "circumplex": list(self.circumplex)}

    @classmethod
    def from_dict(cls, data: Any, place: str = "the taxonomy") -> "Taxonomy":
        """Build and check a taxonomy from plain data: parsed YAML, or what `to_dict` gave.

        Args:
            data: Keys as the attributes; `name` and `values` are required, and `slug` and `name` of each value.
            place: Where the data come from, for messages.

        Raises:
            InputError: A key, type, slug, name, spelling or reference is wrong; the message says which.
        """
        _check_keys(data, _KEYS, ("name", "values"), place)
        entries = data["values"]
        if not isinstance(entries, list) or not entries:
            raise _bad(f"`values` of {place} is {_shown(entries)}", "a list of at least one value with slug and name")
        version = data.get("version", "1")
        taxonomy = cls(
            name=_string(data, "name", place, required=True),
            version=str(version) if type(version) is int else _string(data, "version", place),
            title=_string(data, "title", place),
            source=_string(data, "source", place),
            signed=_boolean(data, "signed", place),
            values=tuple(_value(entry, f"value {number} of {place}") for number, entry in enumerate(entries, 1)),
            groups={
                group: _strings(slugs, f"group {group} of {place}") for group, slugs in _pairs(data, "groups", place)
            },
            circumplex=_strings(data.get("circumplex", []), f"`circumplex` of {place}"),
            collapse=_string_map(data, "collapse", place),
            items=_string_map(data, "items", place),
        )
        _check_values(taxonomy, place)
        _check_references(taxonomy, place)
        return taxonomy


def bundled_taxonomies() -> tuple[str, ...]:
    """Return the names of the taxonomies that come with the project."""
    return tuple(sorted(path.stem for path in _FOLDER.glob("*.yaml")))


def load_taxonomy(name_or_path: str) -> Taxonomy:
    """Read a bundled taxonomy by name, or the user's own from a YAML file.

    Raises:
        InputError: Neither a bundled name nor a file, not YAML (the line is named), or not a sound taxonomy.
    """
    bundled = bundled_taxonomies()
    path = _FOLDER / f"{name_or_path}.yaml" if name_or_path in bundled else Path(name_or_path)
    if not path.is_file():
        raise InputError(
            f"no taxonomy {name_or_path}",
            f"one of {', '.join(bundled)}, or a YAML file",
            "name one with --data.taxonomy",
        )
    data = read_strict_yaml(path, "--data.taxonomy", _FIX)
    return Taxonomy.from_dict(data, place=str(path))


def _fold(text: str) -> str:
    return "".join(unicodedata.normalize("NFKC", text).casefold().split())


def _bad(found: str, needed: str) -> InputError:
    return InputError(found, needed, _FIX)


def _shown(value: Any) -> str:
    return reprlib.repr(value)[:80]


def _check_keys(data: Any, known: Sequence[str], required: Sequence[str], place: str) -> None:
    if not isinstance(data, Mapping):
        raise _bad(f"{place}, which is not a mapping", f"a mapping with the keys {', '.join(required)}")
    if unknown := [str(key) for key in data if key not in known]:
        raise _bad(f"unknown keys in {place}: {', '.join(unknown)}", f"keys among {', '.join(known)}")
    if missing := [key for key in required if key not in data]:
        raise _bad(f"no {', '.join(missing)} in {place}", f"the keys {', '.join(required)}")


def _string(data: Mapping[str, Any], key: str, place: str, required: bool = False) -> str:
    value = data.get(key, "")
    if not isinstance(value, str) or (required and not value.strip()):
        hint = "" if isinstance(value, str) else " (put it in quotes)"
        raise _bad(f"`{key}` of {place} is {_shown(value)}", f"a {'non-empty ' if required else ''}string{hint}")
    return value


def _boolean(data: Mapping[str, Any], key: str, place: str) -> bool:
    value = data.get(key, False)
    if not isinstance(value, bool):
        raise _bad(f"`{key}` of {place} is {_shown(value)}", "true or false")
    return value


def _strings(value: Any, place: str) -> tuple[str, ...]:
    if not isinstance(value, list) or not all(isinstance(text, str) and text.strip() for text in value):
        raise _bad(f"{place} is {_shown(value)}", "a list of non-empty strings")
    return tuple(value)


def _pairs(data: Mapping[str, Any], key: str, place: str) -> list[tuple[str, Any]]:
    value = data.get(key, {})
    if not isinstance(value, Mapping) or not all(isinstance(name, str) and name.strip() for name in value):
        raise _bad(f"`{key}` of {place} is {_shown(value)}", "a mapping whose keys are non-empty strings")
    return list(value.items())


def _string_map(data: Mapping[str, Any], key: str, place: str) -> dict[str, str]:
    pairs = _pairs(data, key, place)
    return {name: _string({name: target}, name, f"`{key}` of {place}", required=True) for name, target in pairs}


def _value(entry: Any, place: str) -> Value:
    _check_keys(entry, _VALUE_KEYS, ("slug", "name"), place)
    return Value(
        slug=_string(entry, "slug", place, required=True),
        name=_string(entry, "name", place, required=True),
        definition=_string(entry, "definition", place),
        sub_values=_strings(entry.get("sub_values", []), f"`sub_values` of {place}"),
        accepted=_strings(entry.get("accepted", []), f"`accepted` of {place}"),
    )


def _check_slugs(slugs: Sequence[str], what: str) -> None:
    for slug in slugs:
        if not slugify(slug):
            raise _bad(f"{what} {slug!r}, of which no slug is left", "at least one letter or digit")
        if slug != slugify(slug):
            raise _bad(f"{what} {slug!r}", f"the form {slugify(slug)!r} (lower case, words joined by hyphens)")


def _check_distinct(names: Sequence[str], what: str) -> None:
    if doubled := [name for name, count in Counter(names).items() if count > 1]:
        raise _bad(f"{', '.join(doubled)} more than once in {what}", "each only once")


def _check_values(taxonomy: Taxonomy, place: str) -> None:
    _check_slugs((taxonomy.name,), f"taxonomy name in {place}:")
    _check_slugs(taxonomy.slugs, f"slug in {place}:")
    _check_distinct(taxonomy.slugs, f"the slugs of {place}")
    _check_distinct([_fold(value.name) for value in taxonomy.values], f"the names of {place}")
    owners: dict[str, str] = {}
    for value in taxonomy.values:
        for spelling, written in zip(value.spellings, (value.slug, value.name, *value.accepted), strict=True):
            if spelling in _RESERVED:
                raise _bad(f"{written!r} in {place}, which names a column of its own", "another slug, name or spelling")
            if (owner := owners.setdefault(spelling, value.slug)) != value.slug:
                raise _bad(
                    f"spelling {written!r} in {place} for both {owner} and {value.slug}", "one value for each spelling"
                )
    if clashing := [label for label in taxonomy.labels if taxonomy.signed and label in taxonomy.slugs]:
        raise _bad(
            f"slug {', '.join(clashing)} in {place}, which is also a label of a signed value", "slugs of another form"
        )


def _check_references(taxonomy: Taxonomy, place: str) -> None:
    _check_slugs(list(taxonomy.groups), f"group in {place}:")
    _check_slugs(list(taxonomy.collapse), f"refined value in {place}:")
    _check_distinct([_fold(item) for item in taxonomy.items], f"the items of {place}")
    used = [(f"group {group}", slugs) for group, slugs in taxonomy.groups.items()]
    used.append(("`circumplex`", taxonomy.circumplex))
    for what, slugs in used:
        if not slugs and what != "`circumplex`":
            raise _bad(f"{what} of {place} without a value", "at least one value, or no such group")
        _check_distinct(slugs, f"{what} of {place}")
        _check_known(slugs, taxonomy, f"{what} of {place}")
    _check_known(tuple(taxonomy.items.values()), taxonomy, f"`items` of {place}")
    for refined, target in taxonomy.collapse.items():
        if refined in taxonomy.slugs and target != refined:
            raise _bad(
                f"`collapse` of {place} takes the value {refined} to {target}", "a value collapses to itself only"
            )
        if target in taxonomy.collapse and target not in taxonomy.slugs:
            raise _bad(
                f"`collapse` of {place} takes {refined} to {target}, itself collapsed", "targets among the values"
            )
        _check_known((target,), taxonomy, f"`collapse` of {place}")


def _check_known(slugs: Sequence[str], taxonomy: Taxonomy, what: str) -> None:
    if unknown := [slug for slug in slugs if slug not in taxonomy.slugs]:
        raise _bad(f"unknown values in {what}: {', '.join(unknown)}", f"slugs among {', '.join(taxonomy.slugs)}")
