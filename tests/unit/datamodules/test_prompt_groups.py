"""Are groups looked for in prompts, and nowhere else?"""

import json

import numpy as np
import pytest

from datamodules.identity_terms import identity_terms
from datamodules.preferences import read_preferences
from datamodules.prompt_groups import named_terms


def test_terms_of_prompts_of_both_speakers_and_not_of_responses(tmp_path):
    start = "\n\nHuman: {}\n\nAssistant: {}\n\nHuman: {}\n\nAssistant: {}"
    texts = [
        ("Hello", "Hi", "What do Sikhs eat?", "Ask a Buddhist."),
        ("Hello", "Deaf people sign.", "Why?", "For a young man."),
        ("Hello", "Hi", "Where is white paper sold?", "In a shop."),
    ]
    path = tmp_path / "pairs.jsonl"
    rows = [{"chosen": start.format(*t), "rejected": start.format(*t[:3], "Canadians know.")} for t in texts]
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    told = []
    found = named_terms(read_preferences(str(path), None), told.append)
    terms = identity_terms().terms
    assert [[terms[k] for k in np.flatnonzero(row)] for row in found] == [["sikh"], ["deaf"], []]
    assert sum(told) == 3


@pytest.mark.data
def test_hh_rlhf_names_groups_in_a_twelfth_of_its_prompts(data_root):
    data = read_preferences("hh-rlhf", data_root)
    found = named_terms(data)
    assert found.any(axis=1).sum() == 396
    by_term = dict(zip(identity_terms().terms, found.sum(axis=0).tolist(), strict=True))
    assert (by_term["black"], by_term["american"], by_term["jewish"]) == (66, 40, 32)
