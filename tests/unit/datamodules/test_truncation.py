"""What a cut after n pre-tokens hides."""

import pytest

from datamodules.truncation import TruncationBound, truncation_bound

PROMPT = "\n\nHuman: one two"
"""Six GPT-2 pre-tokens: two line breaks, "Human", ":", " one", " two"."""
CHOSEN = f"{PROMPT}\n\nAssistant: yes"
REJECTED = f"{PROMPT}\n\nAssistant: no"


@pytest.mark.parametrize(
    ("n", "n_identical", "n_answer_lost"),
    [
        (6, 1, 1),
        (7, 1, 0),
        (10, 1, 0),  # up to the colon behind "Assistant"
        (11, 0, 0),
    ],
)
def test_a_pair_is_identical_until_the_answers_part_and_lost_while_the_prompt_fills_the_cut(
    n, n_identical, n_answer_lost
):
    assert truncation_bound([CHOSEN], [REJECTED], [PROMPT], n) == TruncationBound(1, n_identical, n_answer_lost)


def test_space_in_front_of_a_text_counts():
    assert truncation_bound([CHOSEN.strip()], [REJECTED.strip()], [PROMPT.strip()], 9).n_identical == 0
    assert truncation_bound([CHOSEN], [REJECTED], [PROMPT], 9).n_identical == 1
    assert truncation_bound(["a"], [" a"], [""], 9).n_identical == 0


def test_texts_shorter_than_the_cut_are_compared_whole():
    assert truncation_bound(["a", "a"], ["a", "a b"], ["", ""], 50) == TruncationBound(2, 1, 0)


def test_no_pairs_give_zero_of_zero():
    assert truncation_bound([], [], [], 5) == TruncationBound(0, 0, 0)


def test_wrong_arguments_are_refused():
    with pytest.raises(ValueError, match="n is 0"):
        truncation_bound(["a"], ["b"], ["c"], 0)
    with pytest.raises(ValueError, match="zip"):
        truncation_bound(["a"], ["b"], [], 3)
