"""Counts known from independent readings of the FULCRA and ValueEval files, from the files themselves."""

import json

import pytest

from datamodules.annotations import dialogue_group, read_annotations
from datamodules.taxonomy import load_taxonomy

pytestmark = pytest.mark.data


@pytest.fixture(scope="module")
def fulcra(data_root):
    return read_annotations("fulcra", None, data_root, load_taxonomy("schwartz"))


@pytest.fixture(scope="module")
def valueeval(data_root):
    return read_annotations("valueeval", None, data_root, load_taxonomy("valueeval"))


def test_fulcra_rows(fulcra):
    report = fulcra.report
    assert (report.n_read, report.n_kept, report.dropped) == (1718, 1718, {})
    assert len({text.text for text in fulcra.texts}) == 1718
    assert report.unknown_labels == {"humility": 11}
    assert report.notes == {
        "values said to be held and opposed in one text (set to unknown)": 29,
        "malformed signs (entry dropped)": 2,
        "texts without a value (kept)": 1,
    }


def test_fulcra_contradictions_stand_in_29_rows(fulcra):
    assert sum(-1 in text.labels for text in fulcra.texts) == 29
    assert sum(text.labels.count(-1) for text in fulcra.texts) == 58


def test_fulcra_signs_per_value_before_resolution(fulcra):
    published = {
        "benevolence": (1262, 99),
        "universalism": (824, 121),
        "conformity": (689, 78),
        "security": (591, 67),
        "achievement": (264, 7),
        "self-direction": (211, 13),
        "power": (43, 17),
        "tradition": (42, 5),
        "stimulation": (25, 0),
        "hedonism": (4, 0),
    }
    counts = fulcra.report.label_counts_read
    assert {slug: (counts[f"{slug}-for"], counts[f"{slug}-against"]) for slug in published} == published
    assert set(published) == set(fulcra.taxonomy.slugs)


def test_fulcra_counts_after_resolution_lose_only_the_contradictions(fulcra):
    before, after = fulcra.report.label_counts_read, fulcra.report.label_counts
    for label, (n_positive, n_known) in after.items():
        assert before[label] - n_positive == 1718 - n_known, label
    lost_for = sum(before[f"{slug}-for"] - after[f"{slug}-for"][0] for slug in fulcra.taxonomy.slugs)
    assert lost_for == 29


def test_fulcra_dialogues_are_rendered_canonically(fulcra):
    assert all(text.text.startswith("Human: ") for text in fulcra.texts)
    assert all(text.text.count("\n\nAssistant: ") == 1 for text in fulcra.texts)
    assert not any("Bob:" in text.text for text in fulcra.texts)


def test_items_imply_the_written_types(data_root, fulcra):
    """An independent count: the map of items gives the types of 1,693 of 1,718 rows.

    The 25 others are the rows with an item that is none of the 54 ("be respectful") or with the eleventh label
    "humility": read so, every row agrees, "observing social norms" under security.
    """
    items = fulcra.taxonomy.items
    own = items | {"be respectful": "conformity", "be humble": "humility", "accepting my portion in life": "humility"}
    with (data_root / "fulcra" / "trustworthy_data.jsonl").open(encoding="utf-8") as lines:
        rows = [json.loads(line) for line in lines]

    def names(entries):
        return [entry.partition(":")[0].strip() for entry in entries]

    written = [set(names(row["value_types"])) for row in rows]
    implied = [{items[name] for name in names(row["value_items"]) if name in items} for row in rows]
    annotators = [{own[name] for name in names(row["value_items"])} for row in rows]
    assert sum(a == b for a, b in zip(implied, written, strict=True)) == 1693
    assert annotators == written


def test_valueeval_rows(valueeval):
    for report, n_rows in ((valueeval.report, 5393), (valueeval.test_report, 1896)):
        assert (report.n_read, report.n_kept, report.dropped, report.notes) == (n_rows, n_rows, {}, {})
        assert all(n_known == n_rows and n_positive > 0 for n_positive, n_known in report.label_counts.values())
    assert len(valueeval.taxonomy.labels) == 20
    assert len(valueeval.texts) == 5393
    assert len(valueeval.test_texts) == 1896


def test_valueeval_repeats_are_kept_and_counted(valueeval):
    report, test_report = valueeval.report, valueeval.test_report
    assert (report.n_duplicate_texts, report.n_conflicting_texts) == (1, 87)
    assert (test_report.n_duplicate_texts, test_report.n_conflicting_texts) == (1, 34)


def test_valueeval_first_row(valueeval):
    first = valueeval.texts[0]
    assert first.text_id == "A01002"
    assert first.text.endswith(" in favor of: We should ban human cloning")
    assert first.group_id == dialogue_group("We should ban human cloning")
    assert [label for label, held in zip(valueeval.taxonomy.labels, first.labels, strict=True) if held] == [
        "security-societal"
    ]


def test_valueeval_conclusions_are_the_groups(valueeval):
    groups = {text.group_id for text in valueeval.texts}
    assert not groups & {text.group_id for text in valueeval.test_texts}


def test_valueeval_sub_values_are_the_published_ones(data_root):
    published = json.loads((data_root / "valueeval" / "value-categories.json").read_text(encoding="utf-8"))
    taxonomy = load_taxonomy("valueeval")
    assert {value.name: value.sub_values for value in taxonomy.values} == {
        name: tuple(level_1) for name, level_1 in published.items()
    }
    assert [value.name for value in taxonomy.values] == list(published)
