"""What is wrong with preference pairs, or worth knowing of them, that needs no model to see?

Measured on every pair as the reader gives it, before anything is left out: the counts of the read report are among
these. No text is kept. The prompt of a pair is that of its first side.
"""

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from itertools import chain, pairwise
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray

from datamodules.dialogue import Dialogue, normalise, said_before, view_parts
from datamodules.encoding_damage import is_damaged
from datamodules.encoding_repair import repaired
from datamodules.files import key_of
from datamodules.identity_terms import IdentityTerms, identity_terms
from datamodules.language import UNDETERMINED, language_of
from datamodules.pair_likeness import NEAR, chosen_and_rejected, likeness, repeats, swapped
from datamodules.personal_data import KINDS, personal_data_kinds
from datamodules.portions import portions
from datamodules.preference_data import PreferenceData
from datamodules.preference_pairs import PreferencePair
from datamodules.refusals import classify_refusals
from datamodules.response_ending import seems_cut_off
from datamodules.text_features import words_of

Bools = NDArray[np.bool_]
Ints = NDArray[np.int64]
T = TypeVar("T")

PERSONAL_DATA = tuple(f"pii-{kind}" for kind in KINDS)
# Finding -> what it means. Of pairs, of responses, and of prompts.
PAIR_FINDINGS = {
    "tie": "no side is preferred",
    "identical": "both sides have the same canonical text",
    "near-identical": f"not identical; same prompt, and the responses share {NEAR:.0%} of their distinct words",
    "duplicate": "an earlier pair has the same normalised texts on the same sides",
    "swapped": "another pair has the same normalised texts on the other sides",
    "opposite-preference": "swapped, and both pairs state a preference",
    "repeated-prompt": "an earlier pair has the same normalised prompt",
    "prompts-differ": "the sides have different canonical prompts",
    "repeated-role": "a side has two turns of one role in a row",
    "languages-differ": "the languages of both responses could be told, and are different",
}
RESPONSE_FINDINGS = {
    "empty": "no text",
    "cut-off": "seems to stop in mid-sentence",
    "damaged": "looks decoded with the wrong encoding",
    "repairable": "damaged, and a safe repair changes it",
    "chosen-and-rejected": "chosen in one pair and rejected in another, under the same prompt (rankings do that)",
    "other-language": "the languages of response and request could be told, and are different",
    **{name: f"holds what looks like: {kind}" for name, kind in zip(PERSONAL_DATA, KINDS, strict=True)},
}
PROMPT_FINDINGS = {name: RESPONSE_FINDINGS[name] for name in ("empty", "damaged", "repairable", *PERSONAL_DATA)}


@dataclass(frozen=True, slots=True, eq=False)
class PairQuality:
    """What was measured of the n pairs of a data set. Side 0 is chosen (or a), side 1 rejected (or b).

    Attributes:
        dataset: Name of the data set.
        pair_ids: [n] str.
        subsets: [n] str.
        clusters: Number of the prompt's cluster, int64 [n].
        is_tie: bool [n].
        n_read: Rows in the files.
        left_out: Reason -> rows that state no pair.
        pairs: Finding of `PAIR_FINDINGS` -> bool [n].
        responses: Finding of `RESPONSE_FINDINGS` -> bool [n, 2].
        prompts: Finding of `PROMPT_FINDINGS` -> bool [n].
        n_words: Words of the responses, int64 [n, 2].
        n_characters: Their characters, int64 [n, 2].
        classes: Position in `refusals.CLASSES`, int8 [n, 2]; `refusals.EMPTY` for empty responses.
        languages: Codes of the request (the last human turn) and of both responses, str [n, 3].
        terms: Whether prompt and responses hold an identity term, bool [n, 3, n_terms].
        term_list: The terms.
    """

    dataset: str
    pair_ids: NDArray[np.str_]
    subsets: NDArray[np.str_]
    clusters: Ints
    is_tie: Bools
    n_read: int
    left_out: dict[str, int]
    pairs: dict[str, Bools]
    responses: dict[str, Bools]
    prompts: dict[str, Bools]
    n_words: Ints
    n_characters: Ints
    classes: NDArray[np.int8]
    languages: NDArray[np.str_]
    terms: Bools
    term_list: IdentityTerms


@dataclass(frozen=True, slots=True)
class _Facts:
    """What one pair says by itself; of prompt, first and second response where there are three of a kind."""

    identical: bool
    near_identical: bool
    prompts_differ: bool
    repeated_role: bool
    keys: tuple[int, int, int]
    empty: tuple[bool, ...]
    cut_off: tuple[bool, ...]
    damaged: tuple[bool, ...]
    repairable: tuple[bool, ...]
    personal_data: tuple[frozenset[str], ...]
    n_words: tuple[int, int]
    n_characters: tuple[int, int]
    languages: tuple[str, ...]
    terms: tuple[frozenset[int], ...]


def measure_pairs(data: PreferenceData, advance: Callable[[int], None] | None = None) -> PairQuality:
    """Read a data set and measure its pairs.

    Args:
        data: The data set.
        advance: Told how many pairs were measured since it was last told.
    """
    term_list = identity_terms()
    facts: list[_Facts] = []
    classes = []
    for portion in portions(data.read(), _n_characters):
        facts += [_facts_of(pair, term_list) for pair in portion]
        responses = [(pair.first.response, pair.second.response) for pair in portion]
        classes.append(classify_refusals(list(chain.from_iterable(responses))).reshape(-1, 2))
        if advance is not None:
            advance(len(portion))
    index, report = data.index, data.report
    languages = np.array([fact.languages for fact in facts])
    terms = np.zeros((len(facts), 3, len(term_list.terms)), dtype=np.bool_)
    for i, fact in enumerate(facts):
        for part, found in enumerate(fact.terms):
            terms[i, part, list(found)] = True
    pairs, responses_found, prompts = _findings(facts, index.is_tie, languages)
    return PairQuality(
        dataset=data.name,
        pair_ids=index.pair_ids,
        subsets=index.subsets,
        clusters=np.unique(index.cluster_ids, return_inverse=True)[1].astype(np.int64),
        is_tie=index.is_tie,
        n_read=report.n_read,
        left_out=dict(report.unparsable),
        pairs=pairs,
        responses=responses_found,
        prompts=prompts,
        n_words=np.array([fact.n_words for fact in facts], dtype=np.int64),
        n_characters=np.array([fact.n_characters for fact in facts], dtype=np.int64),
        classes=np.concatenate(classes),
        languages=languages,
        terms=terms,
        term_list=term_list,
    )


def _n_characters(pair: PreferencePair) -> int:
    return len(pair.first.response) + len(pair.second.response)


def _facts_of(pair: PreferencePair, term_list: IdentityTerms) -> _Facts:
    """Measure one pair; what is identical and whose prompts differ is told as the read report tells it."""
    first, second = pair.first, pair.second
    texts = [first.render(), second.render()]
    prompts = [view_parts(dialogue, "prompt")[1] for dialogue in (first, second)]
    # Fields as they are read: what a prompt says, without the markers that its rendering adds.
    parts = (said_before(first), first.response, second.response)
    request = next(turn.text for turn in reversed(first.turns) if turn.role == "human")
    identical = texts[0] == texts[1]
    same_prompt = normalise(prompts[0]) == normalise(prompts[1])
    damaged = tuple(is_damaged(part) for part in parts)
    keys = (normalise(prompts[0]), *(normalise(text) for text in texts))
    return _Facts(
        identical=identical,
        near_identical=not identical and same_prompt and likeness(first.response, second.response) >= NEAR,
        prompts_differ=prompts[0] != prompts[1],
        repeated_role=any(_repeats_a_role(dialogue) for dialogue in (first, second)),
        keys=(key_of(keys[0]), key_of(keys[1]), key_of(keys[2])),
        empty=tuple(not part.strip() for part in parts),
        cut_off=tuple(seems_cut_off(part) for part in parts),
        damaged=damaged,
        repairable=tuple(bad and repaired(part) != part for bad, part in zip(damaged, parts, strict=True)),
        personal_data=tuple(personal_data_kinds(part) for part in parts),
        n_words=(len(words_of(parts[1])), len(words_of(parts[2]))),
        n_characters=(len(parts[1]), len(parts[2])),
        languages=tuple(language_of(part) for part in (request, *parts[1:])),
        terms=tuple(term_list.find(part) for part in parts),
    )


def _repeats_a_role(dialogue: Dialogue) -> bool:
    return any(a.role == b.role for a, b in pairwise(dialogue.turns))


def _findings(
    facts: list[_Facts], is_tie: Bools, languages: NDArray[np.str_]
) -> tuple[dict[str, Bools], dict[str, Bools], dict[str, Bools]]:
    """Put together what was found of pairs [n], responses [n, 2] and prompts [n]."""
    keys = np.array([fact.keys for fact in facts], dtype=np.uint64)
    sides = keys[:, 1:]
    opposite = np.zeros(len(facts), dtype=np.bool_)
    opposite[~is_tie] = swapped(sides[~is_tie])
    told = languages != UNDETERMINED
    pairs = {
        "tie": is_tie,
        "identical": np.array([fact.identical for fact in facts]),
        "near-identical": np.array([fact.near_identical for fact in facts]),
        "duplicate": repeats(sides),
        "swapped": swapped(sides),
        "opposite-preference": opposite,
        "repeated-prompt": repeats(keys[:, 0]),
        "prompts-differ": np.array([fact.prompts_differ for fact in facts]),
        "repeated-role": np.array([fact.repeated_role for fact in facts]),
        "languages-differ": told[:, 1] & told[:, 2] & (languages[:, 1] != languages[:, 2]),
    }
    parts = {
        "empty": _table(fact.empty for fact in facts),
        "cut-off": _table(fact.cut_off for fact in facts),
        "damaged": _table(fact.damaged for fact in facts),
        "repairable": _table(fact.repairable for fact in facts),
    }
    for name, kind in zip(PERSONAL_DATA, KINDS, strict=True):
        parts[name] = _table(tuple(kind in found for found in fact.personal_data) for fact in facts)
    responses = {name: found[:, 1:] for name, found in parts.items()}
    responses["chosen-and-rejected"] = chosen_and_rejected(sides, is_tie)
    responses["other-language"] = told[:, 1:] & told[:, :1] & (languages[:, 1:] != languages[:, :1])
    return (
        pairs,
        {name: responses[name] for name in RESPONSE_FINDINGS},
        {name: parts[name][:, 0] for name in PROMPT_FINDINGS},
    )


def _table(rows: Iterable[tuple[bool, ...]]) -> Bools:
    return np.array(list(rows), dtype=np.bool_)
