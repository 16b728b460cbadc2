"""`imprint prevalence` on a tiny run: its numbers are those of the audit table; what is asked for wrongly is told."""

import csv
import io
import json
import re

import pytest

from audits.table import make_table, read_table, write_table
from experiments.cli import main

SHORT = ("--trainer.max_epochs=2", "--trainer.batch_size=16", "--data.name=valueeval", "--track.wandb=disabled")
SETS = ("--audit.datasets=[hh-rlhf,webgpt]", "--audit.noise_floor=false", "--data.allow_empty_values=true")


@pytest.fixture
def run(tiny_run, only_run):
    assert tiny_run(*SHORT, *SETS) == 0
    return only_run()


def report(capsys, *arguments):
    capsys.readouterr()
    assert main(["prevalence", *map(str, arguments)]) == 0
    return capsys.readouterr().out


def test_numbers_are_those_of_the_table_and_steps_add_up(run, capsys):
    rows = list(csv.DictReader(io.StringIO(report(capsys, run, "--datasets", "hh-rlhf", "--format", "csv"))))
    table = read_table(run / "audits" / "table.parquet").to_pandas()
    last = table[(table["step"] == table["step"].max()) & (table["dataset"] == "hh-rlhf") & (table["subset"] == "")]
    counted = last.query("metric == 'prevalence' and method == 'cc' and slice == 'chosen'").set_index("feature")
    assert [row["value"] for row in rows] == list(counted.index)
    for row in rows:
        assert float(row["corrected"]) == counted.loc[row["value"], "estimate"]
        assert int(row["n"]) == counted.loc[row["value"], "n"]
        steps = float(row["published"]) + float(row["by_view"]) + float(row["by_several_values"])
        assert steps == pytest.approx(float(row["corrected"]))


def test_several_data_sets_are_one_table_for_programs(run, capsys):
    from_json = json.loads(report(capsys, run, "--format", "json"))
    from_csv = list(csv.DictReader(io.StringIO(report(capsys, run, "--format", "csv"))))
    keys = [(row["dataset"], row["value"]) for row in from_json["rows"]]
    assert [(row["dataset"], row["value"]) for row in from_csv] == keys
    assert {name for name, _ in keys} == {"hh-rlhf", "webgpt"}
    assert len(keys) == len(set(keys)) == 2 * 20


def test_what_is_unknown_of_thresholds_and_bands_is_told(run, capsys):
    text = report(capsys, run)
    assert "1/L" not in text
    assert "no band" not in text
    assert "publ. is of" not in text
    ledger = [json.loads(line) for line in (run / "ledger.jsonl").read_text().splitlines()]
    for path in [run / row["path"] / "table.parquet" for row in ledger if row["state"] == "done"]:
        rows = [row for row in read_table(path).to_pylist() if row["metric"] != "refused" and row["method"] != "acc"]
        for row in rows:
            row["method"] += "-uncalibrated" if row["method"] == "cc" and row["metric"] == "prevalence" else ""
            row["n"] += 7 if row["mode"] == "as_published" else 0
        write_table(make_table(rows), path)
    text = " ".join(report(capsys, run).split())
    assert "thresholds were not fitted (no known negatives): a value counts where p is above 1/L" in text
    assert "publ. is of 27 responses, the rest of 20: pairs that hold a text" in text
    assert "no band: the audit had no predictions on held-out texts" in text
    path.unlink()
    capsys.readouterr()
    assert main(["prevalence", str(run)]) == 2
    assert f"fix: imprint audit {run} --pending makes it again" in capsys.readouterr().err


def test_text_says_what_was_not_removed_and_every_data_set_has_its_table(run, capsys):
    text = report(capsys, run, "--side", "rejected")
    assert "hh-rlhf, rejected responses" in text
    assert "webgpt, rejected responses" in text
    assert "its errors are not removed" in " ".join(text.split())
    assert max(map(len, text.splitlines())) <= 100


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        (("--step", "12345"), r"no audit of step 12345 in .*; needed one of \d+, \d+; fix: --step"),
        (("--datasets", "alpaca"), "data set alpaca; needed one of hh-rlhf, webgpt"),
        (("--side", "left"), "no prevalence of left responses"),
        (("--format", "pdf"), "format 'pdf'"),
    ],
)
def test_mistakes_are_told(run, capsys, flags, message):
    capsys.readouterr()
    assert main(["prevalence", str(run), *flags]) == 2
    assert re.search(message, capsys.readouterr().err)
