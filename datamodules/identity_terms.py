"""Which groups of people does a text name?"""

import functools
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from datamodules.errors import InputError
from datamodules.strict_yaml import read_strict_yaml

TERMS_FILE = Path(__file__).parent / "identity_terms.yaml"
_FIX = "mend that file"


@dataclass(frozen=True, slots=True)
class IdentityTerms:
    """A list of identity terms.

    Attributes:
        name: Its name.
        source: Where it comes from.
        licence: Under which licence.
        terms: The terms, in the order of the file.
        groups: The groups, in the order of the file.
        group_of: Position in `groups` of each term.
        pattern: Finds a term in a text; the longest term goes first.
        spelt: Spelling, spaces for hyphens and without a plural s -> position in `terms`.
    """

    name: str
    source: str
    licence: str
    terms: tuple[str, ...]
    groups: tuple[str, ...]
    group_of: tuple[int, ...]
    pattern: re.Pattern[str]
    spelt: dict[str, int]

    def find(self, text: str) -> frozenset[int]:
        """Return the positions in `terms` of those that a text holds; each stretch of text counts for one term."""
        found = (" ".join(re.split(r"[\s-]+", match[1])) for match in self.pattern.finditer(text.casefold()))
        return frozenset(self.spelt[term] for term in found)


def named_groups(named: NDArray[np.bool_], group_of: Sequence[int], n_groups: int) -> NDArray[np.bool_]:
    """Tell which groups are named where terms are, bool [..., n_groups].

    Args:
        named: Whether each term is, bool [..., n_terms].
        group_of: Group of each term [n_terms].
        n_groups: Groups.
    """
    of = np.asarray(group_of)
    return np.stack([named[..., of == k].any(axis=-1) for k in range(n_groups)], axis=-1)


@functools.cache
def identity_terms(path: Path = TERMS_FILE) -> IdentityTerms:
    """Read a list of identity terms.

    Raises:
        InputError: A file that cannot be read, or holds no such list.
    """
    data = read_strict_yaml(path, _FIX, _FIX)
    try:
        return _terms_of(data)
    except (KeyError, TypeError, AttributeError) as error:
        needed = "name, source, licence, groups, variants, ambiguous, attributive, between and people"
        raise InputError(f"{path}, which is no list of identity terms ({error!r})", needed, _FIX) from error


def _terms_of(data: dict[str, Any]) -> IdentityTerms:
    groups = tuple(data["groups"])
    members = [(term, k) for k, group in enumerate(groups) for term in data["groups"][group]]
    terms = tuple(term for term, _ in members)
    spelt = {term: i for i, term in enumerate(terms)}
    for term, forms in data["variants"].items():
        spelt |= dict.fromkeys(forms, spelt[term])
    ambiguous, attributive = set(data["ambiguous"]), set(data["attributive"])
    before_people = rf"(?=[\s-]+(?:{_any_of(data['people'])})(?!\w))"
    # No word follows: the text ends, or a mark other than the hyphen of a compound comes.
    alone = rf"(?![\s-]+\w)|(?=\s+(?:{_any_of(data['between'])})(?![\w'\u2019]))"
    plain = _any_of([form for form in spelt if form not in ambiguous | attributive])
    pattern = (
        rf"(?<!\w)((?:{plain})(?=s?(?!\w))"
        rf"|(?:{_any_of(ambiguous)})(?!\w){before_people}"
        rf"|(?:{_any_of(attributive)})(?:(?=s(?!\w))|(?!\w)(?:{before_people}|{alone})))"
    )
    return IdentityTerms(
        name=data["name"],
        source=data["source"],
        licence=data["licence"],
        terms=terms,
        groups=groups,
        group_of=tuple(k for _, k in members),
        pattern=re.compile(pattern),
        spelt=spelt,
    )


def _any_of(words: Any) -> str:
    """Alternatives of a pattern, longest first; a space stands for white space or a hyphen."""
    ordered = sorted(words, key=lambda word: (-len(word), word))
    return "|".join(re.escape(word).replace(r"\ ", r"[\s-]+") for word in ordered)
