"""Which prompts are one template with different groups filled in, and which fills read wrong?

A template is a prompt with its group's term masked, wherever the term stands as a word of its own, in any case. Prompts
that do not hold their group's term, or whose template no other group has, are templates by themselves. Prompts of one
template share its wording, so what they show is not independent.
"""

import re
from collections import Counter
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

MASK = "[group]"
# Groups with fewer shared templates are compared with nobody: XSTest's own focus words share one or two by accident.
FEWEST_SHARED = 5

_NOUNS = r"(?:people|person|persons|men|women|man|woman|individuals|communit(?:y|ies)|characters?|icons|folks|citizens)"
_VOWEL = re.compile(r"\ba (?=[aeiou])", re.IGNORECASE)
_TYPO = re.compile(r"([a-z])\1\1|\b(?:weaker|stronger|smarter|better|worse|less|more|rather|earn less|older) then\b")
_COMPARED = re.compile(r"\bthan men\b|\bthen men\b")


@dataclass(frozen=True, slots=True, eq=False)
class Templates:
    """Prompts by template; n prompts as they occur, repeats included.

    Attributes:
        templates: The masked prompt, or the prompt where it is masked nowhere or shared by no other group, [n] str.
        shared: Whether other groups share the template, bool [n].
        compared: Groups that share at least `FEWEST_SHARED` templates, in sorted order.
    """

    templates: NDArray[np.str_]
    shared: NDArray[np.bool_]
    compared: tuple[str, ...]


def find_templates(prompts: NDArray[np.str_], groups: NDArray[np.str_]) -> Templates:
    """Find the templates of prompts [n] by masking the term of each one's group [n]; an empty group has no term."""
    masked = [mask_group(prompt, group) for prompt, group in zip(prompts.tolist(), groups.tolist(), strict=True)]
    by_template: dict[str, set[str]] = {}
    for text, group in zip(masked, groups.tolist(), strict=True):
        if text:
            by_template.setdefault(text, set()).add(group)
    shared = np.array([bool(text) and len(by_template[text]) > 1 for text in masked], dtype=np.bool_)
    n_shared = Counter(group for own in by_template.values() if len(own) > 1 for group in own)
    compared = tuple(sorted(group for group, n in n_shared.items() if n >= FEWEST_SHARED))
    names = [text if is_shared else prompt for text, is_shared, prompt in zip(masked, shared, prompts, strict=True)]
    return Templates(np.array(names, dtype=np.str_), shared, compared if len(compared) > 1 else ())


def mask_group(prompt: str, group: str) -> str:
    """Return the prompt with the group's term masked; empty where the prompt does not hold it."""
    if not group:
        return ""
    masked, n = re.subn(rf"(?<!\w){re.escape(group)}(?!\w)", MASK, prompt, flags=re.IGNORECASE)
    return " ".join(masked.split()) if n else ""


@dataclass(frozen=True, slots=True, eq=False)
class Lint:
    """What is wrong with a set of prompts.

    Attributes:
        n_rows: Prompts as they occur.
        n_prompts: Distinct prompts.
        n_templates: Templates that groups share.
        samples: How often a prompt of the compared groups usually occurs.
        repeated_groups: Group -> how many times as often its prompts occur as others'; only those that are repeated.
        repeated_templates: Template -> how many times as often it occurs with any group; only those that are repeated.
        flawed: Kind of flaw -> distinct prompts that have it, sorted.
    """

    n_rows: int
    n_prompts: int
    n_templates: int
    samples: int
    repeated_groups: dict[str, int]
    repeated_templates: dict[str, int]
    flawed: dict[str, tuple[str, ...]]

    @property
    def flawed_prompts(self) -> frozenset[str]:
        """All prompts with any flaw."""
        return frozenset(prompt for prompts in self.flawed.values() for prompt in prompts)


def lint_prompts(prompts: NDArray[np.str_], groups: NDArray[np.str_], found: Templates) -> Lint:
    """Look for repeated groups and templates, and for fills that read wrong, among the compared groups' prompts.

    Flaws: `plural-before-noun` (a term that ends in s before "people"), `modifier-alone` (a term that is an adjective
    in other prompts, before "people", and stands without a noun here), `compared-with-men` ("than men", which makes no
    sense for groups that hold men, or for all but women), `a-before-vowel`, and `typo`.

    Args:
        prompts: [n].
        groups: [n].
        found: Their templates.
    """
    used = found.shared & np.isin(groups, found.compared)
    cells = Counter(zip(found.templates[used].tolist(), groups[used].tolist(), strict=True))
    samples = Counter(cells.values()).most_common(1)[0][0] if cells else 0
    modifiers = {g for p, g in zip(prompts[used].tolist(), groups[used].tolist(), strict=True) if _modifies(p, g)}
    flawed: dict[str, set[str]] = {}
    for prompt, group in dict.fromkeys(zip(prompts[used].tolist(), groups[used].tolist(), strict=True)):
        for kind in _flaws(prompt, group, group in modifiers):
            flawed.setdefault(kind, set()).add(prompt)
    return Lint(
        n_rows=len(prompts),
        n_prompts=len(set(prompts.tolist())),
        n_templates=len({template for template, _ in cells}),
        samples=samples,
        repeated_groups=_repeated(cells, samples, key=1),
        repeated_templates=_repeated(cells, samples, key=0),
        flawed={kind: tuple(sorted(own)) for kind, own in sorted(flawed.items())},
    )


def _repeated(cells: Counter[tuple[str, str]], samples: int, key: int) -> dict[str, int]:
    """Group or template -> the factor by which its prompts usually occur more often than others, if twice or more."""
    counts: dict[str, list[int]] = {}
    for cell, n in cells.items():
        counts.setdefault(cell[key], []).append(n)
    factors = {name: round(float(np.median(own)) / samples) for name, own in sorted(counts.items())}
    return {name: factor for name, factor in factors.items() if factor > 1}


def _modifies(prompt: str, group: str) -> bool:
    return re.search(rf"{re.escape(MASK)} {_NOUNS}\b", mask_group(prompt, group)) is not None


def _flaws(prompt: str, group: str, is_modifier: bool) -> list[str]:
    masked = mask_group(prompt, group)
    before_noun = _modifies(prompt, group)
    flaws = []
    if before_noun and group.endswith("s") and not group.endswith("ss"):
        flaws.append("plural-before-noun")
    if is_modifier and not before_noun and not group.endswith("s"):
        flaws.append("modifier-alone")
    if _COMPARED.search(masked) and group.lower() not in ("women", "lesbian", "lesbians", "girls", "female"):
        flaws.append("compared-with-men")
    if _VOWEL.search(prompt):
        flaws.append("a-before-vowel")
    if _TYPO.search(masked):
        flaws.append("typo")
    return flaws
