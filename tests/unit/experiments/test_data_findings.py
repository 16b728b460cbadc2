"""Do findings on data tell counts with their denominators, what differs most, and where there is nothing to compare?"""

import io
import json

import pytest
from rich.console import Console

from audits.dataset_quality import DatasetQuality
from audits.pair_refusals import pair_refusal_table
from datamodules.pair_quality import measure_pairs
from datamodules.preferences import read_preferences
from experiments.data_findings import counted, data_finding
from experiments.summary import SAMPLE_NOTE, print_data_audits
from train.data_audits import DATA_AUDITS, DataAudit

REFUSAL = "I'm sorry, but I can't help with that."


def audits_of(data, folder, is_new=True):
    tables = {"dataset-quality": DatasetQuality().rows(measure_pairs(data)), "refusals": pair_refusal_table(data)}
    return [DataAudit(name, data.name, folder / name, tables[name], is_new) for name in DATA_AUDITS]


@pytest.fixture
def made(tmp_path):
    def make(pairs, name="mine"):
        path = tmp_path / f"{name}.jsonl"
        texts = [[f"\n\nHuman: Question {i}?\n\nAssistant: {t}" for t in own] for i, own in enumerate(pairs)]
        rows = [dict(zip(("chosen", "rejected"), own, strict=True)) for own in texts]
        path.write_text("".join(json.dumps(row) + "\n" for row in rows))
        return audits_of(read_preferences(str(path), None), tmp_path)

    return make


def printed(audits, shown=None):
    console = Console(width=100, file=io.StringIO())
    print_data_audits(audits, shown, console)
    return console.file.getvalue()


def test_what_is_told_of_each_audit(made):
    pairs = [(f"It is {i} in all, or so.", REFUSAL) for i in range(30)]
    pairs += [("Same words.", "Same words."), ("", "Some words.")]
    quality, refusals = map(data_finding, made(pairs))
    assert quality.startswith("dataset-quality of mine: 1 of 32 pairs with identical sides; 1 of 64 responses empty; ")
    assert "chosen has more words in 0% [" in quality
    assert "of 31 pairs of unequal length" in quality
    # 30 of 31 pairs whose sides both have a class.
    assert "most different: refuse, chosen minus rejected -96.8 points of 31 pairs, Holm p < 0.001" in quality
    assert refusals.startswith("refusals of mine: refused 0.0% of 31 chosen vs 93.8% of 32 rejected (-96.8 points, p <")
    assert "; not understood or known 0.0% of 31 chosen vs 0.0% of 32 rejected (" in refusals


def test_nothing_to_compare(made):
    quality, refusals = map(data_finding, made([("One thing.", "Two things.")]))
    assert "no finding, class or term is more frequent on one side" in quality
    assert "refused 0.0% of 1 chosen vs 0.0% of 1 rejected" in refusals
    assert "nan" not in quality + refusals


def test_ties_alone(tmp_path):
    path = tmp_path / "ties.jsonl"
    row = {"question": "Ask?", "answer_0": "Answer one.", "answer_1": "Answer two.", "score_0": 0.0, "score_1": 0.0}
    path.write_text(json.dumps(row) + "\n")
    data = read_preferences(str(path), None)
    assert data.index.is_tie.all()
    quality, refusals = map(data_finding, audits_of(data, tmp_path))
    assert quality.endswith("0 of 2 responses empty; no pair states a preference")
    assert refusals == "refusals of ties: no pair states a preference"


def test_they_are_counted_and_found_again(made, tmp_path):
    audits = made([("One.", "Two.")])
    old = DataAudit(audits[1].audit, "mine", audits[1].folder, audits[1].table, is_new=False)
    assert counted([audits[0], old]) == "2 audits of data: 1 made now, 1 there before"
    assert counted([old]) == "1 audit of data: 0 made now, 1 there before"
    lines = printed([audits[0], old]).splitlines()
    assert lines[0] == "2 audits of data: 1 made now, 1 there before"
    assert [line for line in lines if line.startswith("  ")] == [f"  {tmp_path / name}" for name in DATA_AUDITS]
    assert printed([]) == ""


def test_the_note_on_samples_is_given_once(tmp_path):
    audits = audits_of(read_preferences("sample-webgpt", None), tmp_path)
    assert printed(audits).count(SAMPLE_NOTE) == 1
    assert SAMPLE_NOTE not in printed(audits, shown=audits[0].table)
