"""What one row of each published layout says."""

import pytest

from datamodules.dialogue import Dialogue, DialogueError, Turn
from datamodules.preference_layouts import (
    BETTER_WORSE,
    DIALOGUES,
    GPT4_LLM,
    PROMPTED,
    SCORED_TEXTS,
    WEBGPT,
    RowError,
    strip_alpaca_template,
)

HH_ROW = {"chosen": "\n\nHuman: q\n\nAssistant: yes", "rejected": "\n\nHuman: q\n\nAssistant: no"}
WEBGPT_ROW = {
    "question": {"dataset": "eli5", "id": "x", "full_text": "Why?"},
    "answer_0": "low",
    "answer_1": "high",
    "score_0": -0.5,
    "score_1": 0.5,
}
MARKDOWN = "## Human:\nWhy?\n\n\n\n## Assistant:\n{}"
TEMPLATE = "Below is an instruction that describes a task. Write a response.\n\n### Instruction:\n{}\n\n### Response:"
TEMPLATE_WITH_INPUT = (
    "Below is an instruction that describes a task, paired with an input.\n\n"
    "### Instruction:\n{}\n\n### Input:\n{}\n\n### Response:"
)


def said(layout, row, all_pairs=False):
    """Responses of both sides, whether they tie, and the suffix, for each comparison of a row."""
    return [(c.first.response, c.second.response, c.is_tie, c.suffix) for c in layout.parse(row, all_pairs)]


def asked(layout, row):
    """First human turn of both sides, which must agree."""
    (comparison,) = layout.parse(row, False)
    first, second = comparison.first.turns[0], comparison.second.turns[0]
    assert first == second
    return first.text


def reason(layout, row):
    with pytest.raises((RowError, DialogueError)) as caught:
        layout.parse(row, False)
    return caught.value.reason


def scored(*scores):
    answers = [{"response": f"r{i}", "score": score, "source": f"m{i}"} for i, score in enumerate(scores)]
    return {"user_input": TEMPLATE.format("Name a colour."), "responses_and_scores": answers}


class TestDialogues:
    def test_chosen_is_first(self):
        assert said(DIALOGUES, HH_ROW) == [("yes", "no", False, "")]

    @pytest.mark.parametrize(("tie", "is_tie"), [(True, True), (False, False), (None, False)])
    def test_a_row_may_say_that_it_is_a_tie(self, tie, is_tie):
        assert said(DIALOGUES, {**HH_ROW, "tie": tie}) == [("yes", "no", is_tie, "")]

    @pytest.mark.parametrize(
        ("change", "expected"),
        [
            ({"rejected": None}, "not-a-string"),
            ({"rejected": float("nan")}, "not-a-string"),
            ({"rejected": ["no"]}, "not-a-string"),
            ({"rejected": "\n\nHuman: \ud800\n\nAssistant: no"}, "not-unicode"),
            ({"rejected": ""}, "empty-text"),
            ({"chosen": "\n\nHuman: q\n\nAssistant: a\n\nHuman: r"}, "ends-with-human"),
            ({"chosen": "Title\n\nHuman: q\n\nAssistant: a"}, "text-before-first-role"),
            ({"tie": "yes"}, "tie-not-a-boolean"),
        ],
    )
    def test_bad_cells(self, change, expected):
        assert reason(DIALOGUES, {**HH_ROW, **change}) == expected


class TestPrompted:
    def test_plain_texts_are_one_exchange(self):
        row = {"prompt": " Why? ", "chosen": "yes\n", "rejected": ""}
        assert PROMPTED.parse(row, False)[0].first == Dialogue((Turn("human", "Why?"), Turn("assistant", "yes")))
        assert said(PROMPTED, row) == [("yes", "", False, "")]

    @pytest.mark.parametrize("ending", ["", "\n\nAssistant:"])
    @pytest.mark.parametrize("is_repeated", [False, True])
    def test_a_prompt_with_role_markers_is_the_dialogue_so_far(self, ending, is_repeated):
        prompt = "\n\nHuman: q1\n\nAssistant: a1\n\nHuman: q2"
        chosen = f"{prompt}\n\nAssistant: yes" if is_repeated else " yes"
        row = {"prompt": prompt + ending, "chosen": chosen, "rejected": "no"}
        (comparison,) = PROMPTED.parse(row, False)
        so_far = (Turn("human", "q1"), Turn("assistant", "a1"), Turn("human", "q2"))
        assert comparison.first == Dialogue((*so_far, Turn("assistant", "yes")))
        assert comparison.second == Dialogue((*so_far, Turn("assistant", "no")))

    def test_bad_cells(self):
        assert reason(PROMPTED, {"prompt": None, "chosen": "a", "rejected": "b"}) == "not-a-string"


class TestWebGpt:
    @pytest.mark.parametrize(
        ("scores", "expected"),
        [
            ((-0.5, 0.5), ("high", "low", False, "")),
            ((0.75, 0.5), ("low", "high", False, "")),
            ((0, 0.0), ("low", "high", True, "")),
        ],
    )
    def test_the_higher_score_is_chosen_and_equal_scores_tie(self, scores, expected):
        assert said(WEBGPT, {**WEBGPT_ROW, "score_0": scores[0], "score_1": scores[1]}) == [expected]

    @pytest.mark.parametrize("question", [{"full_text": "Why?"}, "Why?"])
    def test_the_question_is_an_object_or_a_text(self, question):
        assert asked(WEBGPT, {**WEBGPT_ROW, "question": question}) == "Why?"

    @pytest.mark.parametrize(
        ("change", "expected"),
        [
            ({"score_0": float("nan")}, "score-not-a-number"),
            ({"score_0": float("inf")}, "score-not-a-number"),
            ({"score_0": -(10**400)}, "score-not-a-number"),
            ({"score_1": None}, "score-not-a-number"),
            ({"score_1": "0.5"}, "score-not-a-number"),
            ({"score_1": True}, "score-not-a-number"),
            ({"answer_0": None}, "not-a-string"),
            ({"question": {"text": "x"}}, "not-a-string"),
        ],
    )
    def test_bad_cells(self, change, expected):
        assert reason(WEBGPT, {**WEBGPT_ROW, **change}) == expected


class TestScoredTexts:
    TEXTS = (MARKDOWN.format(" one"), MARKDOWN.format("two"))

    @pytest.mark.parametrize(
        ("scores", "expected"), [([0.5, 1.5], ("two", "one", False, "")), ([1.0, 1.0], ("one", "two", True, ""))]
    )
    def test_the_higher_score_is_chosen_and_equal_scores_tie(self, scores, expected):
        row = {"text": list(self.TEXTS), "score": scores}
        assert said(SCORED_TEXTS, row) == [expected]
        assert asked(SCORED_TEXTS, row) == "Why?"

    def test_bad_cells(self):
        texts = list(self.TEXTS)
        assert reason(SCORED_TEXTS, {"text": texts[:1], "score": [1, 1]}) == "not-two-answers"
        assert reason(SCORED_TEXTS, {"text": texts, "score": [1]}) == "not-two-scores"
        assert reason(SCORED_TEXTS, {"text": ["no roles", texts[1]], "score": [1, 0]}) == "no-role-marker"


class TestGpt4Llm:
    @pytest.mark.parametrize(
        ("scores", "best", "worst"), [((7, 3, 9.5), "r2", "r1"), ((2, 8, 2, 8), "r1", "r0"), ((1, 2), "r1", "r0")]
    )
    def test_best_is_paired_with_worst(self, scores, best, worst):
        assert said(GPT4_LLM, scored(*scores)) == [(best, worst, False, "")]
        assert asked(GPT4_LLM, scored(*scores)) == "Name a colour."

    def test_all_pairs_are_the_strictly_ordered_ones(self):
        assert said(GPT4_LLM, scored(5, 9, 5), all_pairs=True) == [
            ("r1", "r0", False, "-1-0"),
            ("r1", "r2", False, "-1-2"),
        ]

    @pytest.mark.parametrize("all_pairs", [False, True])
    def test_equal_scores_are_a_tie(self, all_pairs):
        assert said(GPT4_LLM, scored(4, 4, 4), all_pairs) == [("r0", "r1", True, "")]

    def test_bad_cells(self):
        assert reason(GPT4_LLM, scored(4)) == "fewer-than-two-answers"
        assert reason(GPT4_LLM, {**scored(4, 5), "responses_and_scores": "y"}) == "not-a-list-of-answers"
        assert reason(GPT4_LLM, scored(4, None)) == "score-not-a-number"
        assert reason(GPT4_LLM, scored(4, 10**400)) == "score-not-a-number"

    @pytest.mark.parametrize(
        ("text", "stripped"),
        [
            (TEMPLATE.format("Do it.\n\nNow."), "Do it.\n\nNow."),
            (TEMPLATE_WITH_INPUT.format("Add.", "1\n2"), "Add.\n\n1\n2"),
            (TEMPLATE_WITH_INPUT.format("Add.", ""), "Add."),
            ("### Instruction:\nAdd.", "Add."),
            ("Explain what ### Instruction: means", "Explain what ### Instruction: means"),
            ("Plain question?", "Plain question?"),
        ],
    )
    def test_the_template_is_stripped(self, text, stripped):
        assert strip_alpaca_template(text) == stripped


class TestBetterWorse:
    @pytest.mark.parametrize(("more", "question"), [("1 and 2", "Add.\n\n1 and 2"), ("", "Add."), (None, "Add.")])
    def test_the_first_output_is_better(self, more, question):
        row = {"instruction": "Add.", "input": more, "output": ["3", ""]}
        assert said(BETTER_WORSE, row) == [("3", "", False, "")]
        assert asked(BETTER_WORSE, row) == question

    def test_bad_cells(self):
        assert reason(BETTER_WORSE, {"instruction": "Add.", "output": ["3"]}) == "not-two-answers"
        assert reason(BETTER_WORSE, {"instruction": "Add.", "input": 1, "output": ["3", "4"]}) == "not-a-string"
