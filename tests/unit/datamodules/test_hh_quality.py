"""Labels of the audit of hh-rlhf: three exclusive verdicts on the chosen response; nothing is guessed."""

import csv

import pytest

from datamodules.annotations import FIX, read_annotations
from datamodules.errors import InputError
from datamodules.hh_quality import NO_AGREEMENT, PROMPTS_REPAIRED, RESPONSES_REPAIRED, read_hh_quality
from datamodules.taxonomy import load_taxonomy

COLUMNS = ("", "id", "prompt", "chosen_response", "rejected_response", "lablej")
ASK = "\n\nHuman: May I park here?\n\nAssistant:"
AGAIN = "\n\nHuman: May I park here?\n\nAssistant: Perhaps.\n\nHuman: And there?\n\nAssistant:"


@pytest.fixture(scope="module")
def quality():
    return load_taxonomy("hh-quality")


@pytest.fixture
def read(tmp_path, quality):
    """Read rows of (prompt, chosen response, label)."""

    def reading(*rows, taxonomy=quality):
        path = tmp_path / "labels.csv"
        with path.open("w", encoding="utf-8", newline="") as file:
            writer = csv.writer(file)
            writer.writerow(COLUMNS)
            for i, (prompt, chosen, label) in enumerate(rows):
                writer.writerow([i, 118_000 + i, prompt, chosen, " A rejected answer.", label])
        return read_hh_quality(path, taxonomy, FIX)

    return reading


def test_the_taxonomy_is_three_verdicts_with_definitions_and_provenance(quality):
    assert quality.labels == ("acceptable", "unhelpful", "harmful")
    assert not quality.signed
    assert all(len(value.definition) > 60 for value in quality.values)
    assert "2411.08243" in quality.source
    assert [quality.resolve(label) for label in ("harmless", "performance", "irrelevant")] == [None] * 3


def test_the_verdict_holds_and_the_others_do_not(read):
    texts, report = read(
        (ASK, " You may.", "acceptable"), (AGAIN, " No idea.", " Unhelpful "), (ASK, " Hm.", "harmful")
    )
    assert [text.labels for text in texts] == [(1, 0, 0), (0, 1, 0), (0, 0, 1)]
    assert report.label_counts == {"acceptable": (1, 3), "unhelpful": (1, 3), "harmful": (1, 3)}


def test_the_text_is_the_chosen_response_to_the_prompt(read):
    (text,), _ = read((AGAIN, " No idea.", "unhelpful"))
    assert text.text == ("Human: May I park here?\n\nAssistant: Perhaps.\n\nHuman: And there?\n\nAssistant: No idea.")


def test_rows_of_one_prompt_or_one_opening_are_one_group(read):
    other = "\n\nHuman: What is a toll?\n\nAssistant:"
    texts, _ = read((ASK, " Yes.", "acceptable"), (AGAIN, " No.", "harmful"), (other, " A fee.", "acceptable"))
    first, second, third = (text.group_id for text in texts)
    assert first == second != third


def test_what_is_no_verdict_is_counted_and_left_out(read):
    texts, report = read(
        (ASK, " Yes.", "acceptable"), (ASK, " No.", ""), (ASK, " Well.", "performance"), (ASK, " So.", "harmless")
    )
    assert len(texts) == 1
    assert report.dropped == {"not labelled": 1, "unknown label": 2}
    assert report.unknown_labels == {"performance": 1, "harmless": 1}
    assert report.n_read == report.n_kept + sum(report.dropped.values())


def test_damage_is_mended_field_by_field_and_only_where_it_is(read):
    question = "\n\nHuman: What’s a “toll”?\n\nAssistant:"  # noqa: RUF001 - as people write it
    answer = " It’s a fee – for a road."  # noqa: RUF001
    (mended, sound), report = read(
        (question, answer.encode().decode("mac_roman"), "acceptable"),
        (question, " C’est ça, √9 is 3.", "harmful"),  # noqa: RUF001
    )
    assert mended.text.endswith(answer.strip())
    assert "What’s a “toll”?" in mended.text  # noqa: RUF001
    assert sound.text.endswith("C’est ça, √9 is 3.")  # noqa: RUF001
    assert (report.notes[PROMPTS_REPAIRED], report.notes[RESPONSES_REPAIRED]) == (0, 1)
    assert report.n_damaged_texts == 0


def test_one_pass_of_labels_is_said_to_tell_no_agreement(read):
    _, report = read((ASK, " Yes.", "acceptable"), (ASK, " No.", "harmful"))
    assert report.notes[NO_AGREEMENT] == 0
    assert any("no agreement of annotators can be told" in line for line in report.lines())


def test_a_response_that_is_labelled_again_tells_how_far_the_annotator_agrees(read):
    texts, report = read((ASK, " Yes.", "acceptable"), (ASK, "  yes.", "harmful"), (ASK, " Yes.", "acceptable"))
    assert len(texts) == 3
    assert NO_AGREEMENT not in report.notes
    assert report.notes["responses labelled a second time"] == 2
    assert (report.n_duplicate_texts, report.n_conflicting_texts) == (1, 1)


def test_a_row_that_is_no_dialogue_is_counted(read):
    _, report = read((ASK, " Yes.", "acceptable"), ("May I park here?", " Yes.", "harmful"))
    assert report.dropped == {"no dialogue of Human and Assistant": 1}


def test_other_files_and_taxonomies_are_refused(read, tmp_path, quality):
    with pytest.raises(InputError, match=r"a signed taxonomy, schwartz, for --data\.name hh-quality"):
        read((ASK, " Yes.", "acceptable"), taxonomy=load_taxonomy("schwartz"))
    with pytest.raises(InputError, match="only unknown labels"):
        read((ASK, " Yes.", "fine"))
    path = tmp_path / "other.csv"
    path.write_text("prompt,lablej\nx,harmful\n")
    with pytest.raises(InputError, match="no column chosen_response"):
        read_hh_quality(path, quality, FIX)
    with pytest.raises(InputError, match="imprint data fetch hh-quality --root DIR"):
        read_annotations("hh-quality", None, None, quality)
