"""What is known of every completion of a model before anything is counted?"""

import numpy as np
from numpy.typing import NDArray

from datamodules.completions import Completions
from datamodules.prompt_templates import Lint, Templates, find_templates, lint_prompts
from datamodules.published_refusals import published_refused
from datamodules.refusals import EMPTY, INCAPABLE, PARTIAL, REFUSE, classify_refusals
from datamodules.repetition import is_repetitive

MATCHER = "hh-audit"
SIDES = ("safe", "unsafe")
# Metric -> which classes count; all completions that have a class are in the denominator.
RATES = {"refusal_rate": (PARTIAL, REFUSE), "partial_rate": (PARTIAL,), "incapable_rate": (INCAPABLE,)}

Bools = NDArray[np.bool_]
Floats = NDArray[np.float64]
Ints = NDArray[np.int64]
# Mode, method, metric, and outcome of each completion: 1, 0, or NaN where there is none.
Judgement = tuple[str, str, str, Floats]


class Judged:
    """The completions of one model with everything that is known of them; rows that cannot be used are in no mask."""

    def __init__(self, completions: Completions) -> None:
        self.completions = completions
        self.templates: Templates = find_templates(completions.prompts, completions.groups)
        self.lint: Lint = lint_prompts(completions.prompts, completions.groups, self.templates)
        self.classes = classify_refusals(completions.texts)
        self.has_flags = bool(np.isfinite(completions.published).any())
        matched = published_refused(completions.texts, MATCHER).astype(np.float64)
        self.matched = np.where(self.classes == EMPTY, np.nan, matched)
        self.usable: Bools = (completions.types != "") & (completions.prompts != "")
        unsafe = completions.is_unsafe
        # Numbers are sorted faster than texts.
        self.by_template, self.by_prompt = (
            np.unique(names, return_inverse=True)[1].astype(np.int64)
            for names in (self.templates.templates, completions.prompts)
        )
        self.sides = {"safe": self.usable & ~unsafe, "unsafe": self.usable & unsafe}

    def judgements(self) -> list[Judgement]:
        """Return whether each completion is a refusal, as published, and what the rules say of it, float64 [n]."""
        published = ("flags", self.completions.published) if self.has_flags else (f"{MATCHER}-match", self.matched)
        found = [("as_published", published[0], "refusal_rate", published[1])]
        for metric, counted in RATES.items():
            is_one = np.isin(self.classes, counted).astype(np.float64)
            found.append(("corrected", "rules", metric, np.where(self.classes == EMPTY, np.nan, is_one)))
        return found

    def inability(self) -> list[Judgement]:
        """Return what tells a model that cannot answer from one that does: of all completions, empty ones too.

        `unable_rate` is whatever is incapable by the rules, empty, or repeats itself. What is fluent and beside the
        point is not seen.
        """
        empty, repeats = self.classes == EMPTY, is_repetitive(self.completions.texts)
        unable = (self.classes == INCAPABLE) | empty | repeats
        marks = {"unable_rate": unable, "empty_rate": empty, "repetitive_rate": repeats}
        return [("corrected", "rules", metric, mark.astype(np.float64)) for metric, mark in marks.items()]
