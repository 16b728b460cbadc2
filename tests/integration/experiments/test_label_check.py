"""`imprint data check --labels` finds planted errors, says what it is worth and writes all suspects."""

import csv
import json
import re

import numpy as np
import pytest

import experiments.label_check
from datamodules.annotation_layouts import SAMPLE_AGREEMENT
from datamodules.annotations import read_annotations
from datamodules.taxonomy import load_taxonomy
from experiments.cli import main
from experiments.label_check import check_labels, excerpt
from train.progress import Progress

CUES = {"civility": "polite thanks", "wisdom": "book learn", "duty": "promise law"}
FILLER = ["the", "of", "and", "to", "in", "it", "that", "for", "on", "with", "as", "at", "by", "from"]


def count_words(texts, progress):
    """A stand-in for sentence embeddings: how often each word occurs."""
    words = sorted({word for text in texts for word in text.split()})
    counts = np.array([[text.split().count(word) for word in words] for text in texts], dtype=float)
    return counts / np.linalg.norm(counts, axis=1, keepdims=True)


@pytest.fixture
def quick(monkeypatch):
    monkeypatch.setattr(experiments.label_check, "embedded", count_words)


@pytest.fixture
def table(tmp_path):
    """Texts whose words give their values away; rows 5 and 9 are labelled wrongly, and row 60 repeats row 0."""
    rng = np.random.default_rng(0)
    rows = []
    for i in range(60):
        held = [slug for k, slug in enumerate(CUES) if (i + k) % 3 == 0]
        cues = " ".join(CUES[slug] for slug in held)
        rows.append({"text": f"{cues} {' '.join(rng.choice(FILLER, 6))} n{i}", "labels": held, "id": f"row-{i}"})
    rows[5]["labels"], rows[9]["labels"] = [], ["civility", "wisdom"]
    rows.append({"text": rows[0]["text"].upper(), "labels": ["duty"], "id": "row-60"})
    path = tmp_path / "table.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


FLAGS = ("--taxonomy", "value-imprint", "--id_column", "id", "--labels")


def test_planted_errors_are_the_first_suspects(quick, table, tmp_path, capsys):
    output = tmp_path / "out" / "suspects.csv"
    assert main(["data", "check", str(table), *FLAGS, "--top", "1", "--output", str(output)]) == 0
    out = capsys.readouterr().out
    lines = out.splitlines()
    with output.open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert {(row["text_id"], row["label"], row["given"], row["suggested"]) for row in rows[:2]} == {
        ("row-5", "wisdom", "0", "1"),
        ("row-9", "wisdom", "1", "0"),
    }
    assert rows[0]["text"].startswith(("book learn", "polite thanks"))
    assert [row["rank"] for row in rows] == [str(k) for k in range(1, len(rows) + 1)]
    assert float(rows[0]["margin"]) >= float(rows[1]["margin"])
    (first,) = (line for line in lines if line.startswith("   1. "))
    verdict = "given, looks absent" if rows[0]["given"] == "1" else "not given, looks present"
    assert first == (
        f"   1. {rows[0]['text_id']}  wisdom: {verdict} (out-of-fold probability {float(rows[0]['probability']):.2f})"
    )
    assert not any(line.startswith("   2. ") for line in lines)
    assert "Not judged, for want of texts with and without them: empathy, information-seeking, justice" in out
    assert "Suspects are labels for a second look, not errors" in out
    assert "Texts that occur again with other labels: 1, in 2 rows" in out
    assert "  row-0: civility; row-60: duty" in lines
    assert f"{len(rows)} suspects written to" in out


def test_jsonl_holds_the_same_and_a_second_run_too(quick, table, tmp_path):
    for name in ("a.jsonl", "b.jsonl", "c.csv"):
        assert main(["data", "check", str(table), *FLAGS, "--output", str(tmp_path / name)]) == 0
    assert (tmp_path / "a.jsonl").read_bytes() == (tmp_path / "b.jsonl").read_bytes()
    rows = [json.loads(line) for line in (tmp_path / "a.jsonl").read_text().splitlines()]
    with (tmp_path / "c.csv").open(newline="") as file:
        assert [{k: str(v) for k, v in row.items()} for row in rows] == list(csv.DictReader(file))


def test_one_label_a_text(quick, tmp_path, capsys):
    names = {"civility": "Civility/Tolerance", "wisdom": "Wisdom/Knowledge", "duty": "Duty/Accountability"}
    rows = [[f"{CUES[slug]} n{i}", names[slug]] for i, slug in enumerate([*CUES] * 12)]
    rows[4][1] = names["duty"]
    rows += [[rows[7][0], names["civility"]], [rows[8][0].upper(), names["wisdom"]]]
    path = tmp_path / "single.csv"
    with path.open("w", newline="") as file:
        csv.writer(file).writerows([["Text", "Label"], *rows])
    assert main(["data", "check", str(path), "--labels", "--output", str(tmp_path / "s.jsonl")]) == 0
    out = capsys.readouterr().out
    suspects = [json.loads(line) for line in (tmp_path / "s.jsonl").read_text().splitlines()]
    first = suspects[0]
    assert "value-imprint-8" not in [row["text_id"] for row in suspects], "it was given two labels"
    assert (first["text_id"], first["label"], first["given"], first["suggested"]) == (
        "value-imprint-5",
        "duty",
        1,
        "wisdom",
    )
    assert "   1. value-imprint-5  duty: given, looks like wisdom" in out
    assert "Texts that were given several labels, in rows that were merged: 1 (not judged)" in out
    assert "  value-imprint-8: civility, wisdom" in out
    assert "value-imprint-9: duty; value-imprint-38: wisdom" in out


def test_a_name_of_annotated_data_is_read_too(capsys, tiny_root):
    assert main(["data", "check", "sample"]) == 0
    assert "430 rows read, 430 texts kept" in capsys.readouterr().out
    assert main(["data", "check", "valueeval", "--root", str(tiny_root)]) == 0
    assert "120 texts kept" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("flags", "text"),
    [
        (("--labels", "--output", "suspects.txt"), r"--output suspects\.txt; needed a name that ends in \.csv or"),
        (("--output", "suspects.csv"), "--output without --labels"),
        (("--labels", "--top", "-1"), "--top -1; needed 0 or more"),
        (("--labels", "--folds", "1"), "1 folds; needed at least 2; fix: --folds"),
        (("--labels", "--folds", "100"), "61 texts in 60 groups for 100 folds"),
    ],
)
def test_mistakes(quick, table, capsys, flags, text):
    assert main(["data", "check", str(table), *FLAGS[:-1], *flags]) == 2
    error = capsys.readouterr().err
    assert error.count("imprint: error:") == 1
    assert re.search(text, error), error


def test_the_checked_file_is_not_overwritten(quick, table, capsys):
    before = table.read_bytes()
    assert main(["data", "check", str(table), *FLAGS, "--output", str(table)]) == 2
    assert "as input and as output" in capsys.readouterr().err
    assert table.read_bytes() == before


def test_pairs_have_no_labels(tmp_path, capsys):
    path = tmp_path / "pairs.jsonl"
    path.write_text(json.dumps({side: f"Human: a\n\nAssistant: {side}" for side in ("chosen", "rejected")}) + "\n")
    assert main(["data", "check", str(path), "--labels"]) == 2
    assert "preference pairs, which carry no labels" in capsys.readouterr().err


def test_an_excerpt_is_one_line_with_beginning_and_end():
    assert excerpt("a\n\n b") == "a b"
    text = excerpt("begin " + "x " * 100 + "end")
    assert len(text) <= 92
    assert text.startswith("begin x")
    assert text.endswith("x end")


@pytest.mark.slow
def test_labels_on_which_annotators_differed_are_suspected_more_often():
    taxonomy = load_taxonomy("value-imprint")
    data = read_annotations("sample", None, None, taxonomy)
    found = check_labels(data, 5, 0, Progress("off"))
    rows = {row["text_id"]: row for row in map(json.loads, SAMPLE_AGREEMENT.read_text().splitlines())}
    differed = np.array(
        [
            [
                (label in rows[text.text_id]["first"]) != (label in rows[text.text_id]["second"])
                for label in found.labels
            ]
            for text in data.texts
        ]
    )
    assert differed.any(axis=1).sum() == 39
    assert differed[found.quality.texts, found.quality.labels].mean() > 3 * differed.mean()


def test_notes_in_a_file_of_suspects_are_not_overwritten(quick, table, tmp_path, capsys):
    output = tmp_path / "suspects.csv"
    output.write_text("my notes")
    for flags, message in (((), "notes are never overwritten; fix: --output"), (("--seed=-1",), "--seed -1; needed 0")):
        assert main(["data", "check", str(table), *FLAGS, "--output", str(output), *flags]) == 2
        assert message in capsys.readouterr().err
    assert output.read_text() == "my notes"
