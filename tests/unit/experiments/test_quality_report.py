"""The report fits a screen, shows counts with their shares, and names what does not occur."""

import json

import pytest

from audits.dataset_quality import DatasetQuality
from datamodules.pair_quality import measure_pairs
from datamodules.preferences import read_preferences
from experiments.quality_report import quality_report


def report_of(tmp_path, rows):
    path = tmp_path / "mine.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return quality_report(DatasetQuality().rows(measure_pairs(read_preferences(str(path), None))))


def row(i, chosen="It is so.", rejected="That is not it.", **more):
    texts = {"chosen": chosen, "rejected": rejected}
    return {side: f"\n\nHuman: Question {i}?\n\nAssistant: {text}" for side, text in texts.items()} | more


def line(report, start):
    (found,) = [line for line in report.splitlines() if line.strip().startswith(start)]
    return " ".join(found.split())


def test_counts_shares_and_what_is_absent(tmp_path):
    rows = [row(i, subset="one" if i < 6 else "two") for i in range(8)]
    rows[0] |= row(0, "Same.", "Same.")
    rows[7] |= row(7, "", "Mail me@example.com now.")
    report = report_of(tmp_path, [*rows, {"chosen": "x", "rejected": "y"}])
    lines = report.splitlines()
    assert len(lines) <= 40
    assert max(map(len, lines)) <= 100
    assert lines[0] == "mine: 8 pairs in 8 clusters of prompts; 1 of 9 rows left out"
    assert line(report, "identical sides") == "identical sides 1 (12.5%) 1 (16.7%) 0"
    assert line(report, "empty") == "empty 1 / 0 0 1 / 0"
    assert line(report, "email") == "email (prompt / chosen / rejected) 0 / 0 / 1 0 0 / 0 / 1"
    absent = report[report.index("none: ") :]
    assert "sides in two languages; empty" not in absent
    assert "look mis-decoded" in absent
    assert "ssn" in absent
    assert "me@example.com" not in report
    assert "nan" not in report


def test_ties_alone(tmp_path):
    report = report_of(tmp_path, [row(i, tie=True) for i in range(4)])
    assert "4 ties, whose sides are in the table alone" in report
    assert "nan" not in report
    assert "chosen has more words" in report[report.index("none: ") :]


def test_undefined_is_a_dash(tmp_path):
    rows = [row(i, tie=i % 2 == 0, subset="even" if i % 2 == 0 else "odd") for i in range(8)]
    report = report_of(tmp_path, rows)
    assert line(report, "mean log ratio").split()[-2:] == ["-", "-0.22"]
    assert "nan" not in report


@pytest.mark.parametrize(("n_subsets", "shown"), [(4, True), (5, False)])
def test_many_subsets_do_not_fit(tmp_path, n_subsets, shown):
    report = report_of(tmp_path, [row(i, subset=f"part-{i % n_subsets}") for i in range(20)])
    assert ("part-0" in report) is shown
    assert (f"{n_subsets} subsets, each with rows of its own" in report) is not shown
    assert max(map(len, report.splitlines())) <= 100


def test_differences_are_told_with_their_sign(tmp_path):
    rows = [row(i, "Well, one should start at once with the", "It is so.") for i in range(12)]
    report = report_of(tmp_path, rows)
    assert "Holm p < 0.05: cut-off +100.0" in " ".join(report.split())
