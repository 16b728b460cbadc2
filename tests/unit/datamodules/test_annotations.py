import json
from pathlib import Path

import pytest

from datamodules import annotation_layouts
from datamodules.annotations import (
    dialogue_group,
    read_annotations,
    read_fulcra,
    read_sample,
    read_value_imprint,
    read_valueeval,
)
from datamodules.errors import InputError
from datamodules.taxonomy import Taxonomy, load_taxonomy


@pytest.fixture(scope="module")
def imprint():
    return load_taxonomy("value-imprint")


@pytest.fixture(scope="module")
def schwartz():
    return load_taxonomy("schwartz")


@pytest.fixture(scope="module")
def three():
    values = [{"slug": slug, "name": slug.title()} for slug in ("calm", "zeal", "wit")]
    return Taxonomy.from_dict({"name": "three", "values": values})


def write(path: Path, text: str) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(text.encode("utf-8"))
    return path


def write_lines(path: Path, rows: list[dict]) -> Path:
    return write(path, "".join(json.dumps(row) + "\n" for row in rows))


def states(text, taxonomy):
    """Label -> state, of the labels that are not 0."""
    return {label: state for label, state in zip(taxonomy.labels, text.labels, strict=True) if state != 0}


def fulcra_row(*entries, dialogue="Human: Why?\nBob: Because."):
    return {"dialogue": dialogue, "value_items": [], "value_types": list(entries)}


def valueeval_files(folder, arguments, labels):
    """Write a pair of files; returns their paths."""
    head = "Argument ID\tConclusion\tStance\tPremise\n"
    return (
        write(folder / "arguments-training.tsv", head + "".join("\t".join(row) + "\n" for row in arguments)),
        write(folder / "labels-training.tsv", "".join("\t".join(row) + "\n" for row in labels)),
    )


def adds_up(report):
    return report.n_read == report.n_kept + sum(report.dropped.values())


# --- groups


def test_dialogue_group_is_the_first_human_turn():
    a = dialogue_group("\n\nHuman: How  are you?\n\nAssistant: Fine.\n\nHuman: Good.\n\nAssistant: Yes.")
    assert a == dialogue_group("Human: how are YOU?\n\nAssistant: Tired.")
    assert a != dialogue_group("Human: Who are you?\n\nAssistant: Fine.")


def test_dialogue_group_of_other_texts_is_the_whole_text():
    assert dialogue_group("One  text") == dialogue_group("one text\n")
    assert dialogue_group("One text") != dialogue_group("Another text")
    assert dialogue_group("Human: \n\nAssistant: a") != dialogue_group("Human: \n\nAssistant: b")


# --- Value Imprint


def test_value_imprint_single_positive_rest_unknown(tmp_path, imprint):
    path = write(
        tmp_path / "v.csv",
        'Text,Label\r\n"\n\nHuman: Say ""hi"", please\n\nAssistant: hi",Civility/Tolerance\r\n'
        "plain,Wisdom/Knowledge\r\n",
    )
    texts, report = read_value_imprint(path, imprint)
    assert [text.text_id for text in texts] == ["value-imprint-1", "value-imprint-2"]
    assert texts[0].text == 'Human: Say "hi", please\n\nAssistant: hi'
    assert texts[0].labels == (1, -1, -1, -1, -1, -1, -1)
    assert texts[1].labels == (-1, -1, -1, -1, -1, -1, 1)
    assert texts[0].source == "value-imprint"
    assert report.label_counts["civility"] == (1, 1)
    assert report.label_counts["duty"] == (0, 0)


def test_value_imprint_drops_are_counted(tmp_path, imprint):
    rows = ["a,Wisdom/Knowledge", ",Wisdom/Knowledge", "   ,Wisdom/Knowledge", "b,", "c,Bravery", "d,Bravery", "e,Pity"]
    texts, report = read_value_imprint(write(tmp_path / "v.csv", "\n".join(["Text,Label", *rows])), imprint)
    assert [text.text for text in texts] == ["a"]
    assert report.dropped == {"empty text": 2, "empty label": 1, "unknown label": 3}
    assert report.unknown_labels == {"Bravery": 2, "Pity": 1}
    assert (report.n_read, report.n_kept) == (7, 1)
    assert adds_up(report)


def test_the_words_na_and_null_are_texts(tmp_path, imprint):
    texts, _ = read_value_imprint(write(tmp_path / "v.csv", "Text,Label\nNA,duty\nnull,duty\nnan,duty\n"), imprint)
    assert [text.text for text in texts] == ["NA", "null", "nan"]


def test_repeated_texts_without_ids_become_one(tmp_path, imprint):
    rows = ["a,duty", "b,duty", "a,duty", "a,wisdom", "a,wisdom", "A,duty", "A ,justice"]
    texts, report = read_value_imprint(write(tmp_path / "v.csv", "\n".join(["Text,Label", *rows])), imprint)
    assert [text.text_id for text in texts] == ["value-imprint-1", "value-imprint-2", "value-imprint-6"]
    assert texts[0].labels == (-1, 1, -1, -1, -1, -1, 1)
    # Normalised: the third, fifth and sixth rows repeat text and labels, the fourth and seventh bring other labels.
    assert (report.n_duplicate_texts, report.n_conflicting_texts) == (3, 2)
    assert report.label_counts_read["duty"] == 4
    assert report.label_counts["duty"] == (3, 3)
    assert adds_up(report)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("text,Label\na,duty\n", "no column Text in"),
        ("", "no header line"),
        ("Text,Label\n", "nothing to keep in"),
        ("Text,Label\n,duty\n", "1 empty text"),
        ("Text,Label\na,duty,more\n", "3 cells in the row that starts at line 2"),
        ('Text,Label\n"x\ny",duty\nonly one cell\n', "1 cells in the row that starts at line 4"),
        ('Text,Label\nok,duty\n"never closed,duty\n', "in the row that starts at line 3"),
        ("Text,Text\na,duty\n", "a column name twice"),
    ],
)
def test_bad_value_imprint_files(tmp_path, imprint, content, message):
    with pytest.raises(InputError) as raised:
        read_value_imprint(write(tmp_path / "v.csv", content), imprint)
    assert message in str(raised.value)
    assert "--data.path" in raised.value.fix


def test_all_labels_unknown_lists_found_and_accepted(tmp_path, imprint):
    with pytest.raises(InputError) as raised:
        read_value_imprint(write(tmp_path / "v.csv", "Text,Label\na,Power\nb,Power\nc,Face\n"), imprint)
    assert "Power (2), Face (1)" in raised.value.found
    assert "Civility/Tolerance" in raised.value.needed
    assert "--data.taxonomy" in raised.value.fix


def test_bytes_that_are_not_utf8_name_the_line(tmp_path, imprint):
    (tmp_path / "v.csv").write_bytes(b"Text,Label\ncaf\xe9,duty\n")
    with pytest.raises(InputError, match=r"not UTF-8 in .* line 2"):
        read_value_imprint(tmp_path / "v.csv", imprint)


def test_layout_and_taxonomy_must_agree_on_signs(tmp_path, imprint, schwartz):
    with pytest.raises(InputError, match=r"a signed taxonomy, schwartz, for --data.name value-imprint"):
        read_value_imprint(tmp_path / "v.csv", schwartz)
    with pytest.raises(InputError, match=r"an unsigned taxonomy, value-imprint, for --data.name fulcra"):
        read_fulcra(tmp_path / "f.jsonl", imprint)


# --- FULCRA


def test_fulcra_signs_and_canonical_rendering(tmp_path, schwartz):
    row = fulcra_row("power: +1", "security: -1", "hedonism: 1", dialogue="Human: One\ntwo\nBob: Three\n\nfour\n")
    (text,), report = read_fulcra(write_lines(tmp_path / "f.jsonl", [row]), schwartz)
    assert text.text == "Human: One\ntwo\n\nAssistant: Three\n\nfour"
    assert states(text, schwartz) == {"power-for": 1, "security-against": 1, "hedonism-for": 1}
    assert text.group_id == dialogue_group("Human: ONE two\n\nAssistant: else")
    assert report.label_counts["power-for"] == (1, 1)


@pytest.mark.parametrize("sign", ["1+", "=1", "", "2", "0", "+-1"])
def test_fulcra_malformed_signs_are_dropped_and_counted(tmp_path, schwartz, sign):
    rows = [fulcra_row(f"conformity: {sign}", "power: +1"), fulcra_row("power", dialogue="Human: a\nBob: b")]
    texts, report = read_fulcra(write_lines(tmp_path / "f.jsonl", rows), schwartz)
    assert states(texts[0], schwartz) == {"power-for": 1}
    assert report.notes["malformed signs (entry dropped)"] == 2
    assert report.n_kept == 2


def test_fulcra_both_signs_of_a_value_are_unknown(tmp_path, schwartz):
    rows = [fulcra_row("power: +1", "power: -1", "security: +1", "security: +1")]
    (text,), report = read_fulcra(write_lines(tmp_path / "f.jsonl", rows), schwartz)
    assert states(text, schwartz) == {"power-for": -1, "power-against": -1, "security-for": 1}
    assert report.notes == {"values said to be held and opposed in one text (set to unknown)": 1}
    assert report.label_counts_read["power-for"] == report.label_counts_read["power-against"] == 1
    assert report.label_counts_read["security-for"] == 1
    assert report.label_counts["power-for"] == (0, 0)


def test_fulcra_humility_is_an_unknown_label_and_not_conformity(tmp_path, schwartz):
    (text,), report = read_fulcra(write_lines(tmp_path / "f.jsonl", [fulcra_row("humility: +1", "power: 1")]), schwartz)
    assert states(text, schwartz) == {"power-for": 1}
    assert report.unknown_labels == {"humility": 1}


def test_fulcra_rows_without_values_and_without_dialogue(tmp_path, schwartz):
    rows = [
        fulcra_row("power: +1"),
        fulcra_row(dialogue="Human: a\nBob: b"),
        fulcra_row("power: +1", dialogue=""),
        fulcra_row("power: +1", dialogue="Bob: b"),
        fulcra_row("power: +1", dialogue="Human: b"),
        {"dialogue": "Human: c\nBob: d", "value_types": None},
    ]
    texts, report = read_fulcra(write_lines(tmp_path / "f.jsonl", rows), schwartz)
    assert [text.text_id for text in texts] == ["fulcra-1", "fulcra-2"]
    assert set(texts[1].labels) == {0}
    assert report.notes == {"texts without a value (kept)": 1}
    assert report.dropped == {"empty text": 1, "not a dialogue of Human and Bob": 2, "no labels": 1}
    assert adds_up(report)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("{}\n", "no column dialogue, value_types"),
        ("not json\n", "line 1, is not JSON"),
        ("[1]\n", "begins with an array"),
        ('{"dialogue": "Human: a\\nBob: b", "value_types": 5}\n', "5 as value_types of row 1"),
        ('{"dialogue": "Human: a\\nBob: b", "value_types": []}\n', "no label that holds"),
    ],
)
def test_bad_fulcra_files(tmp_path, schwartz, content, message):
    with pytest.raises(InputError) as raised:
        read_fulcra(write(tmp_path / "f.jsonl", content), schwartz)
    assert message in str(raised.value)


# --- ValueEval

LABELS = [["Argument ID", "Wit", "Calm", "Zeal"], ["A1", "1", "0", "1"], ["A2", "0", "0", "0"]]
ARGUMENTS = [
    ["A1", 'We should "rest" ', "in favor of", 'it is "calm'],
    ["A2", "We should  REST", "against", "no time"],
]


def test_valueeval_text_labels_and_group(tmp_path, three):
    texts, report = read_valueeval(*valueeval_files(tmp_path, ARGUMENTS, LABELS), three)
    assert [text.text_id for text in texts] == ["A1", "A2"]
    assert texts[0].text == 'it is "calm in favor of: We should "rest"'
    assert texts[0].labels == (0, 1, 1)
    assert texts[1].labels == (0, 0, 0)
    assert texts[1].group_id == dialogue_group("We  should REST")
    assert sorted(report.files) == ["arguments-training.tsv", "labels-training.tsv"]
    assert report.label_counts == {"calm": (0, 2), "zeal": (1, 2), "wit": (1, 2)}


def test_valueeval_rows_in_one_file_only_are_counted(tmp_path, three):
    arguments = [*ARGUMENTS, ["A3", "c", "against", "p"], ["A4", "c", "against", ""]]
    labels = [*LABELS, ["A4", "1", "0", "0"], ["A9", "1", "0", "0"]]
    texts, report = read_valueeval(*valueeval_files(tmp_path, arguments, labels), three)
    assert [text.text_id for text in texts] == ["A1", "A2"]
    assert report.dropped == {"no labels": 1, "empty text": 1}
    assert report.notes == {"labels without an argument": 1}
    assert adds_up(report)


def test_valueeval_repeats_have_ids_and_are_kept(tmp_path, three):
    arguments = [[text_id, "c", "against", "p"] for text_id in ("A1", "A2", "A3")]
    labels = [*LABELS, ["A3", "0", "0", "0"]]
    texts, report = read_valueeval(*valueeval_files(tmp_path, arguments, labels), three)
    assert len(texts) == 3
    assert (report.n_duplicate_texts, report.n_conflicting_texts) == (1, 1)
    assert report.dropped == {}


@pytest.mark.parametrize(
    ("arguments", "labels", "message"),
    [
        ([*ARGUMENTS, ARGUMENTS[0]], LABELS, "Argument ID A1 twice"),
        (ARGUMENTS, [*LABELS, LABELS[1]], "Argument ID A1 twice"),
        ([["", "c", "against", "p"]], LABELS, "no Argument ID in row 1"),
        (ARGUMENTS, [row[:3] for row in LABELS], "no column Zeal in"),
        (ARGUMENTS, [["Argument ID", "Wit", "wit", "Calm"], ["A1", "0", "0", "1"]], "columns Wit and wit"),
        (ARGUMENTS, [LABELS[0], ["A1", "2", "0", "1"]], "'2' as Wit of A1"),
        (ARGUMENTS, [LABELS[0], ["A1", "", "0", "1"]], "'' as Wit of A1"),
        (ARGUMENTS, [LABELS[0], ["B1", "1", "0", "1"]], "nothing to keep"),
    ],
)
def test_bad_valueeval_files(tmp_path, three, arguments, labels, message):
    with pytest.raises(InputError) as raised:
        read_valueeval(*valueeval_files(tmp_path, arguments, labels), three)
    assert message in str(raised.value)


def test_valueeval_column_of_no_value_is_an_unknown_label(tmp_path, three):
    labels = [[*LABELS[0], "Spite"], [*LABELS[1], "1"], [*LABELS[2], "0"]]
    _, report = read_valueeval(*valueeval_files(tmp_path, ARGUMENTS, labels), three)
    assert report.unknown_labels == {"Spite": 1}


# --- the sample


def sample_row(text_id, labels, text="Human: a\n\nAssistant: b", group_id="g1"):
    return {"text_id": text_id, "group_id": group_id, "labels": labels, "text": text}


def test_sample_is_multi_label(tmp_path, imprint):
    rows = [sample_row("s1", ["wisdom", "duty"]), sample_row("s2", [], text="other"), sample_row("s3", ["joy", "duty"])]
    texts, report = read_sample(imprint, write_lines(tmp_path / "s.jsonl", rows))
    assert [text.text_id for text in texts] == ["s1", "s2", "s3"]
    assert states(texts[0], imprint) == {"wisdom": 1, "duty": 1}
    assert set(texts[1].labels) == {0}
    assert texts[0].group_id == "g1"
    assert report.unknown_labels == {"joy": 1}
    assert report.n_conflicting_texts == 1


def test_sample_ids_are_unique(tmp_path, imprint):
    rows = [sample_row("s1", ["duty"]), sample_row("s1", ["duty"])]
    with pytest.raises(InputError, match=r"ids that occur twice in .*: s1"):
        read_sample(imprint, write_lines(tmp_path / "s.jsonl", rows))


# --- by name


def test_read_by_name_under_a_root(tmp_path, imprint, schwartz, three):
    write(tmp_path / "value-imprint" / "human_values_annotation_groundtruth.csv", "Text,Label\na,duty\n")
    write_lines(tmp_path / "fulcra" / "trustworthy_data.jsonl", [fulcra_row("power: +1")])
    arguments, labels = valueeval_files(tmp_path / "valueeval", ARGUMENTS, LABELS)
    (tmp_path / "valueeval" / "arguments-validation.tsv").write_bytes(arguments.read_bytes().replace(b"A", b"V"))
    (tmp_path / "valueeval" / "labels-validation.tsv").write_bytes(labels.read_bytes().replace(b"A", b"V"))
    for name, taxonomy in (("value-imprint", imprint), ("fulcra", schwartz)):
        data = read_annotations(name, None, tmp_path, taxonomy)
        assert (data.name, len(data.texts), data.test_texts, data.is_sample) == (name, 1, None, False)
    with pytest.raises(InputError, match="no column Argument ID"):
        read_annotations("valueeval", None, tmp_path, three)
    header = "Argument ID\tConclusion\tStance\tPremise\n"
    write(tmp_path / "valueeval" / "arguments-validation.tsv", f"{header}V1\tc\tagainst\tp\n")
    write(tmp_path / "valueeval" / "labels-validation.tsv", "Argument ID\tWit\tCalm\tZeal\nV1\t0\t0\t1\n")
    data = read_annotations("valueeval", None, tmp_path, three)
    assert [text.text_id for text in data.texts] == ["A1", "A2"]
    assert [text.text_id for text in data.test_texts] == ["V1"]
    assert data.test_report.n_read == 1


def test_path_overrides_the_root(tmp_path, imprint):
    path = write(tmp_path / "elsewhere.csv", "Text,Label\na,duty\n")
    assert len(read_annotations("value-imprint", path, tmp_path / "absent", imprint).texts) == 1


@pytest.mark.parametrize(
    ("name", "taxonomy_name", "message"),
    [
        ("value-imprint", "value-imprint", "no data root"),
        ("fulcra", "schwartz", "no data root"),
        ("valueeval", "valueeval", "no data root"),
        ("table", "value-imprint", "no file for --data.name table"),
        ("valueevil", "value-imprint", "one of sample, value-imprint, fulcra, valueeval, hh-quality, table"),
    ],
)
def test_missing_root_path_or_name(name, taxonomy_name, message):
    with pytest.raises(InputError) as raised:
        read_annotations(name, None, None, load_taxonomy(taxonomy_name))
    assert message in str(raised.value)
    assert "--data." in raised.value.fix


@pytest.mark.parametrize(
    ("name", "taxonomy_name"),
    [("value-imprint", "value-imprint"), ("fulcra", "schwartz"), ("valueeval", "valueeval")],
)
def test_missing_file_names_flags_and_variable(tmp_path, name, taxonomy_name):
    with pytest.raises(InputError) as raised:
        read_annotations(name, None, tmp_path, load_taxonomy(taxonomy_name))
    assert str(tmp_path) in raised.value.found
    assert all(setting in raised.value.fix for setting in ("--data.path", "--data.root", "IMPRINT_DATA"))


def test_sample_takes_no_path(tmp_path, imprint):
    with pytest.raises(InputError, match="the sample is embedded"):
        read_annotations("sample", tmp_path / "s.jsonl", None, imprint)


# --- the report


def test_report_as_json_and_for_the_console(tmp_path, schwartz):
    rows = [fulcra_row("power: +1", *(f"strange value number {n}: +1" for n in range(30)))]
    _, report = read_fulcra(write_lines(tmp_path / "f.jsonl", rows), schwartz)
    plain = json.loads(json.dumps(report.to_dict()))
    assert plain["label_counts"]["power-for"] == [1, 1]
    assert plain["unknown_labels"]["strange value number 29"] == 1
    lines = report.lines()
    assert lines[0] == "fulcra (f.jsonl): 1 rows read, 1 texts kept"
    assert "strange value number 9 1 and 20 more" in " ".join(" ".join(lines).split())
    assert max(map(len, lines)) <= 100


def test_the_embedded_sample_reads_clean(imprint):
    data = read_annotations("sample", None, None, imprint)
    report = data.report
    assert data.is_sample
    assert len(data.texts) >= 280
    assert (report.dropped, report.unknown_labels) == ({}, {})
    assert (report.n_duplicate_texts, report.n_conflicting_texts) == (0, 0)
    assert min(n_positive for n_positive, _ in report.label_counts.values()) >= 40
    assert sum(text.labels.count(1) >= 2 for text in data.texts) >= len(data.texts) / 4
    assert report.notes["texts without a value (kept)"] > 0


def test_the_embedded_sample_in_the_value_imprint_layout(imprint):
    multi_label = {text.text: text.labels for text in read_annotations("sample", None, None, imprint).texts}
    path = Path(annotation_layouts.__file__).parent / "samples" / "sample-annotations.csv"
    data = read_annotations("value-imprint", path, None, imprint)
    assert data.is_sample
    assert (data.report.dropped, data.report.unknown_labels) == ({}, {})
    for text in data.texts:
        assert multi_label[text.text][text.labels.index(1)] == 1
