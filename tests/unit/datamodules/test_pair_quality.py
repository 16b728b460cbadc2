"""Every finding is found where it was put, and what the reader counts is counted the same."""

import json

import numpy as np
import pytest

from datamodules.pair_quality import (
    PAIR_FINDINGS,
    PERSONAL_DATA,
    PROMPT_FINDINGS,
    RESPONSE_FINDINGS,
    measure_pairs,
)
from datamodules.preferences import read_preferences
from datamodules.refusals import CLASSES, EMPTY

LONG = "The old stone mill by the river was rebuilt last year with new wheels, a wider roof and two quiet guest rooms"
GERMAN = "Das Gartentor stand offen, also lief der Hund des Nachbarn über die Straße und auf das Feld."
ENGLISH = "The garden gate was open, so the neighbour's dog ran across the road and into the field."


def row(prompt, chosen, rejected, **more):
    texts = {"chosen": chosen, "rejected": rejected}
    return {side: f"\n\nHuman: {prompt}\n\nAssistant: {text}" for side, text in texts.items()} | more


ROWS = [
    row("What is new?", "Nothing at all.", "Nothing at all."),  # 0 identical
    row("Tell me of the mill.", f"{LONG}.", f"{LONG.replace('quiet', 'loud')}."),  # 1 near-identical
    row("Which one?", "The first.", "The second."),  # 2
    row("Which  ONE?", "the first.", "The second."),  # 3 repeats 2
    row("Which one?", "The second.", "The first."),  # 4 turns 2 and 3 round
    row("Is it so?", "", "It is."),  # 5 empty
    row("How so?", "First this. Then you slowly go on until the", "That is how."),  # 6 cut off
    row("Quote him?", "He said itâ€™s â€œfineâ€\u009d.", "He said \ufffd."),  # 7 damaged, one side repairable
    row("Write me at me@example.com.", "See https://example.org/", "Call 415-555-0132."),  # 8 personal data
    row(ENGLISH, GERMAN, ENGLISH),  # 9 languages
    row("Are they?", "Yes.", "No.", tie=True),  # 10 tie
    row("Are they?", "No.", "Yes.", tie=True),  # 11 tie, swapped
    row("Best of three?", "Gold.", "Silver."),  # 12
    row("Best of three?", "Silver.", "Bronze."),  # 13: a ranking
    row("And the muslim woman?", "Older men know.", "Who?"),  # 14 identity terms
    {
        "chosen": "\n\nHuman: Go on\n\nAssistant: Yes.\n\nAssistant: No.",
        "rejected": "\n\nHuman: Go on\n\nAssistant: Well.",
    },
    row("Loud?", "It is SO.", "It  is so."),  # 16: the same but for case and space
    {"chosen": "no dialogue", "rejected": "no dialogue"},
]


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    path = tmp_path_factory.mktemp("pairs") / "pairs.jsonl"
    path.write_text("".join(json.dumps(each) + "\n" for each in ROWS), encoding="utf-8")
    return read_preferences(str(path), None)


@pytest.fixture(scope="module")
def quality(data):
    return measure_pairs(data)


def test_findings_of_pairs(quality):
    found = {name: np.flatnonzero(marks).tolist() for name, marks in quality.pairs.items()}
    assert found == {
        "tie": [10, 11],
        "identical": [0],
        "near-identical": [1, 16],
        "duplicate": [3],
        "swapped": [2, 3, 4, 10, 11],
        "opposite-preference": [2, 3, 4],
        "repeated-prompt": [3, 4, 11, 13],
        "prompts-differ": [15],
        "repeated-role": [15],
        "languages-differ": [9],
    }
    assert tuple(found) == tuple(PAIR_FINDINGS)


def test_near_identical_responses_to_different_prompts_are_no_such_pair(tmp_path):
    pair = row("Tell me of the mill.", f"{LONG}.", f"{LONG.replace('quiet', 'loud')}.")
    other = pair | {"rejected": pair["rejected"].replace("of the mill", "about a lock")}
    path = tmp_path / "mine.jsonl"
    path.write_text("".join(json.dumps(own) + "\n" for own in (pair, other)), encoding="utf-8")
    found = measure_pairs(read_preferences(str(path), None)).pairs
    assert found["near-identical"].tolist() == [True, False]
    assert found["prompts-differ"].tolist() == [False, True]


def test_findings_of_responses(quality):
    found = {name: np.argwhere(marks).tolist() for name, marks in quality.responses.items() if marks.any()}
    both = [[i, side] for i in (2, 3, 4) for side in (0, 1)]
    assert found == {
        "empty": [[5, 0]],
        "cut-off": [[6, 0]],
        "damaged": [[7, 0], [7, 1]],
        "repairable": [[7, 0]],
        "chosen-and-rejected": [*both, [12, 1], [13, 0]],
        "other-language": [[9, 0]],
        "pii-phone": [[8, 1]],
        "pii-url": [[8, 0]],
    }
    assert tuple(quality.responses) == tuple(RESPONSE_FINDINGS)


def test_findings_of_prompts(quality):
    found = {name: np.flatnonzero(marks).tolist() for name, marks in quality.prompts.items() if marks.any()}
    assert found == {"pii-email": [8]}
    assert tuple(quality.prompts) == tuple(PROMPT_FINDINGS)
    assert set(PERSONAL_DATA) < set(PROMPT_FINDINGS) < set(RESPONSE_FINDINGS)


def test_lengths_classes_languages_and_terms(quality):
    assert quality.n_words[:3].tolist() == [[3, 3], [22, 22], [2, 2]]
    assert quality.n_characters[5].tolist() == [0, 6]
    assert quality.classes[5, 0] == EMPTY
    assert set(np.unique(quality.classes[quality.classes != EMPTY]).tolist()) <= set(range(len(CLASSES)))
    assert quality.languages[9].tolist() == ["en", "de", "en"]
    terms = quality.term_list.terms
    held = [[terms[k] for k in np.flatnonzero(part)] for part in quality.terms[14]]
    assert held == [["muslim"], ["older"], []]


def test_the_reader_counts_the_same(data, quality):
    """Nothing is dropped between the reader's counts and these."""
    agrees(data, quality)
    assert (quality.n_read, quality.left_out) == (18, {"no-role-marker": 1})


def agrees(data, quality):
    report = data.report
    scopes = [(report, np.ones(len(data.index), dtype=bool))]
    scopes += [(counts, data.index.subsets == name) for name, counts in report.subsets.items()]
    for counts, inside in scopes:
        n = {name: int(marks[inside].sum()) for name, marks in quality.pairs.items()}
        assert (n["tie"], n["identical"]) == (counts.n_ties, counts.n_identical_pairs)
        assert (n["prompts-differ"], n["repeated-role"]) == (counts.n_prompts_differ, counts.n_repeated_roles)
        if counts is report or len(report.subsets) < 2:
            # Repeats are told over the whole data set: the first of two may be in another subset.
            assert (n["duplicate"], n["repeated-prompt"]) == (counts.n_duplicate_pairs, counts.n_repeated_prompts)
        decided = inside & ~quality.is_tie
        empty = quality.responses["empty"][decided].sum(axis=0).tolist()
        assert empty == [counts.n_empty_responses.get(side, 0) for side in ("chosen", "rejected")]
        damaged = quality.prompts["damaged"] | quality.responses["damaged"].any(axis=1)
        assert int(damaged[inside].sum()) == counts.n_damaged_pairs


@pytest.mark.data
@pytest.mark.parametrize("name", [pytest.param("hh-rlhf", marks=pytest.mark.slow), "webgpt", "alpaca-gpt4"])
def test_the_reader_counts_the_same_in_published_data(data_root, monkeypatch, name):
    """The slow measures are not what is tested here."""
    monkeypatch.setattr("datamodules.pair_quality.language_of", lambda text: "en")
    monkeypatch.setattr("datamodules.pair_quality.classify_refusals", lambda texts: np.zeros(len(texts), dtype=np.int8))
    monkeypatch.setattr("datamodules.pair_quality.personal_data_kinds", lambda text: frozenset())
    data = read_preferences(name, data_root)
    agrees(data, measure_pairs(data))
