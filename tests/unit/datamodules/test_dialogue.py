"""Parsing rule, canonical rendering, views and normalisation of dialogues."""

import pytest

from datamodules.dialogue import (
    Dialogue,
    DialogueError,
    Turn,
    normalise,
    parse_canonical,
    parse_hh,
    parse_markdown_roles,
    parse_turns,
    view_parts,
)


def dialogue(*texts: str) -> Dialogue:
    """Alternating turns, the first of them human."""
    return Dialogue(tuple(Turn("human" if i % 2 == 0 else "assistant", text) for i, text in enumerate(texts)))


def test_hh_layout_gives_turns_and_canonical_text():
    parsed = parse_hh(
        "\n\nHuman: What is dew?\n\nAssistant: Water.\n\nIt condenses at night.\n\nHuman: ok \n\nAssistant:  Bye"
    )
    assert parsed == dialogue("What is dew?", "Water.\n\nIt condenses at night.", "ok", "Bye")
    assert parsed.render() == (
        "Human: What is dew?\n\nAssistant: Water.\n\nIt condenses at night.\n\nHuman: ok\n\nAssistant: Bye"
    )
    assert parsed.response == "Bye"


def test_leading_blank_line_is_optional_and_more_blank_lines_do_not_matter():
    assert parse_hh("Human: a\n\n\n\nAssistant: b\n") == parse_hh("\n\nHuman: a\n\nAssistant: b") == dialogue("a", "b")


@pytest.mark.parametrize(
    "answer",
    [
        "The Assistant: a play in two acts",
        "First line\nAssistant: second line",
        "Human: is a word",
        "Assistant: said twice",
        "One.\n\nHumans: all of us",
        "One.\n\nthe Human: a study",
        "One.\n\nhuman: lower case",
        "## Human:\nmarkdown",
    ],
)
def test_marker_inside_a_paragraph_is_text(answer):
    assert parse_hh(f"\n\nHuman: q\n\nAssistant: {answer}") == dialogue("q", answer)


def test_consecutive_turns_of_one_role_stay_apart():
    parsed = parse_hh("\n\nHuman: q\n\nAssistant: one\n\nAssistant: two")
    assert parsed.turns == (Turn("human", "q"), Turn("assistant", "one"), Turn("assistant", "two"))
    assert view_parts(parsed, "prompt") == ("", "Human: q\n\nAssistant: one")
    assert view_parts(parsed, "response") == ("", "two")
    assert view_parts(parsed, "exchange") == ("Human: q\n\n", "Assistant: two")


def test_empty_turns_are_turns():
    assert parse_hh("\n\nHuman: q\n\nAssistant: ") == dialogue("q", "")
    assert parse_hh("\n\nHuman: q\n\nAssistant:") == dialogue("q", "")
    assert parse_hh("\n\nHuman:\n\nAssistant: a") == dialogue("", "a")


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("", "empty-text"),
        (" \n\n", "empty-text"),
        ("just some prose", "no-role-marker"),
        ("said in passing: Human: a", "no-role-marker"),
        ("A title\n\nHuman: a\n\nAssistant: b", "text-before-first-role"),
        ("\n\nHuman: a\n\nAssistant: b\n\nHuman: c", "ends-with-human"),
        ("\n\nHuman: a", "ends-with-human"),
        ("\n\nAssistant: b", "no-human-turn"),
    ],
)
def test_texts_that_are_no_dialogue_are_refused_by_reason(text, reason):
    with pytest.raises(DialogueError) as caught:
        parse_hh(text)
    assert caught.value.reason == reason
    assert isinstance(caught.value, ValueError)


def test_a_dialogue_cannot_be_built_without_its_two_roles():
    with pytest.raises(DialogueError, match="no-human-turn"):
        Dialogue(())
    with pytest.raises(DialogueError, match="ends-with-human"):
        Dialogue((Turn("human", "a"),))


def test_an_assistant_may_speak_first():
    parsed = parse_hh("\n\nAssistant: Hello!\n\nHuman: q\n\nAssistant: a")
    assert parsed.render() == "Assistant: Hello!\n\nHuman: q\n\nAssistant: a"


def test_turns_of_a_bare_prompt_may_end_with_a_human():
    assert parse_turns("\n\nHuman: a\n\nAssistant: b\n\nHuman: c")[-1] == Turn("human", "c")


def test_markdown_layout():
    text = "## Human:\nWhy is it so?\n\nReally.\n\n\n\n## Assistant:\n It is [1].\n\n## Sources\nnone\n\nHuman: error"
    parsed = parse_markdown_roles(text)
    assert parsed == dialogue("Why is it so?\n\nReally.", "It is [1].\n\n## Sources\nnone\n\nHuman: error")
    assert parse_markdown_roles("## Human:\nq\n\n## Assistant:") == dialogue("q", "")


@pytest.mark.parametrize("text", ["Human: q\n\nAssistant: a", "## Human: q\n\n## Assistant: a", "# Human:\nq"])
def test_other_layouts_are_not_markdown(text):
    with pytest.raises(DialogueError, match="no-role-marker"):
        parse_markdown_roles(text)


@pytest.mark.parametrize(
    "parsed", [dialogue("a", "b"), dialogue("a", "b", "c", ""), dialogue("", "one\n\ntwo\nAssistant: three")]
)
def test_parsing_inverts_rendering(parsed):
    assert parse_canonical(parsed.render()) == parsed


@pytest.mark.parametrize(
    "text", ["\n\nHuman: a\n\nAssistant: b", "Human:a\n\nAssistant: b", "Human: a\n\nAssistant: b "]
)
def test_other_spellings_of_a_dialogue_are_not_canonical(text):
    with pytest.raises(DialogueError, match="not-canonical"):
        parse_canonical(text)


def test_views_of_a_dialogue():
    parsed = dialogue("q1", "a1", "q2", "a2")
    assert view_parts(parsed, "dialogue") == ("", "Human: q1\n\nAssistant: a1\n\nHuman: q2\n\nAssistant: a2")
    assert view_parts(parsed, "prompt") == ("", "Human: q1\n\nAssistant: a1\n\nHuman: q2")
    assert view_parts(parsed, "response") == ("", "a2")
    assert view_parts(parsed, "exchange") == ("Human: q2\n\n", "Assistant: a2")


def test_exchange_of_one_exchange_is_the_dialogue():
    parsed = dialogue("q", "a")
    assert "".join(view_parts(parsed, "exchange")) == parsed.render()


def test_normalise_folds_case_space_and_compatibility_forms():
    assert normalise("  \uff21\uff22\uff23\u00a0Straße\n\t\ufb01n ") == "abc strasse fin"
    assert normalise("resume") != normalise("résumé")
