"""The main job with the bundled encoder on the embedded sample."""

import json
import re
from collections import Counter

import pandas as pd
import pytest
from sklearn.metrics import cohen_kappa_score

from audits.table import read_table
from datamodules.annotation_layouts import SAMPLE, SAMPLE_AGREEMENT
from datamodules.annotations import read_annotations
from datamodules.preferences import read_preferences
from datamodules.taxonomy import load_taxonomy
from experiments.cli import main


def run_demo(tmp_path, *flags):
    folders = [f"--run.root={tmp_path / 'runs'}", f"--run.cache_dir={tmp_path / 'cache'}"]
    assert main(["fit", "--config", "experiments/demo.yaml", "--track.wandb=disabled", *folders, *flags]) == 0
    (run,) = (tmp_path / "runs").iterdir()
    return run


def test_two_steps_of_the_demo_and_scores_of_a_text(tmp_path, capsys):
    flags = ("--trainer.max_epochs=1", "--trainer.limit_train_batches=2", "--audit.datasets=[sample-webgpt]")
    run = run_demo(tmp_path, *flags)
    out = capsys.readouterr().out
    assert "embedded sample" in out
    texts = tmp_path / "texts.csv"
    texts.write_text("text\nHow do I learn to read music?\n")
    command = next(line.split() for line in out.splitlines() if line.strip().startswith("imprint score"))[1:]
    command[command.index("texts.jsonl")] = str(texts)
    command[command.index("scores.parquet")] = str(tmp_path / "scores.parquet")
    assert main(command) == 0
    assert len(pd.read_parquet(tmp_path / "scores.parquet")) == 1
    assert run.is_dir()


@pytest.mark.slow
def test_the_demo_learns(tmp_path):
    run = run_demo(tmp_path)
    lines = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
    val = [line["val/ap_macro"] for line in lines if "val/ap_macro" in line]
    (test,) = [line for line in lines if "test/ap_macro" in line]
    assert len(val) == 6
    assert val[-1] > val[0] + 0.2
    # Guessing gives the mean prevalence of the values, about .2.
    assert test["test/ap_macro"] > 0.6
    audited = [read_table(path / "table.parquet") for path in (run / "audits").glob("*-*")]
    assert len(audited) == 6
    names = {"sample-hh-rlhf", "sample-webgpt", "sample-alpaca-gpt4"}
    assert all(set(table["dataset"].to_pylist()) == names for table in audited)


DATASHEET = (SAMPLE.parent / "DATASHEET.md").read_text(encoding="utf-8")


def json_lines(path):
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]


def test_the_sample_is_as_its_datasheet_says():
    taxonomy = load_taxonomy("value-imprint")
    data = read_annotations("sample", None, None, taxonomy)
    positives = [
        [label for label, state in zip(taxonomy.labels, text.labels, strict=True) if state] for text in data.texts
    ]
    n = Counter(map(len, positives))
    assert f"{n[0]} texts without a value, {n[1]} with one, {n[2]} with two, {n[3]} with three" in flowed(DATASHEET)
    counts = Counter(label for labels in positives for label in labels)
    listed = ", ".join(f"{counts[label]} {label.replace('n-s', 'n s')}" for label in taxonomy.labels)
    assert listed in flowed(DATASHEET)
    assert min(counts[label] for label in taxonomy.labels) >= 60
    assert len({text.text for text in data.texts}) == len(data.texts) == 430
    groups = Counter(Counter(text.group_id for text in data.texts).values())
    assert set(groups) == {1, 2}
    assert f"({groups[2]} groups of two)" in DATASHEET


def test_the_agreement_is_as_the_datasheet_says():
    rows = json_lines(SAMPLE_AGREEMENT)
    final = {row["text_id"]: set(row["labels"]) for row in json_lines(SAMPLE)}
    assert [row["text_id"] for row in rows] == list(final)
    kappas = []
    for value in load_taxonomy("value-imprint").labels:
        first, second = ([value in row[who] for row in rows] for who in ("first", "second"))
        both = sum(a and b for a, b in zip(first, second, strict=True))
        kappas.append(cohen_kappa_score(first, second))
        assert f"| {value} | {sum(first)} | {sum(second)} | {both} | {kappas[-1]:.2f} |" in DATASHEET
    assert f"The mean kappa is {sum(kappas) / len(kappas):.2f}." in DATASHEET
    differing = [row for row in rows if set(row["first"]) != set(row["second"])]
    assert f"differ ({len(differing)} of {len(rows)} texts)" in flowed(DATASHEET)
    for row in rows:
        if row not in differing:
            assert final[row["text_id"]] == set(row["first"])


def test_the_preference_samples_hold_what_the_datasheet_lists():
    for name in ("sample-hh-rlhf", "sample-webgpt", "sample-alpaca-gpt4"):
        report = read_preferences(name, None).report
        ties = f", {report.n_ties} of them ties" if report.n_ties else ""
        assert re.search(rf"`{name}\.jsonl?` .*\| {report.n_pairs} (pairs|prompts){ties}", DATASHEET)
        assert report.n_pairs >= 45


def flowed(text: str) -> str:
    """Text without its line breaks."""
    return " ".join(text.split())


def test_the_csv_holds_the_dominant_value_of_each_text():
    path = SAMPLE.with_suffix(".csv")
    frame = pd.read_csv(path, dtype=str, keep_default_na=False)
    taxonomy = load_taxonomy("value-imprint")
    expected = [(row["text"], row["labels"][0]) for row in json_lines(SAMPLE) if row["labels"]]
    assert [(text, taxonomy.resolve(label)) for text, label in frame.itertuples(index=False)] == expected
