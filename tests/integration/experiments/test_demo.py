"""The main job with the bundled encoder on the embedded sample."""

import json
from collections import Counter

import pandas as pd
import pytest

from audits.table import read_table
from datamodules.annotations import read_annotations
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


def test_the_sample_is_as_its_datasheet_says():
    taxonomy = load_taxonomy("value-imprint")
    data = read_annotations("sample", None, None, taxonomy)
    positives = [
        [label for label, state in zip(taxonomy.labels, text.labels, strict=True) if state] for text in data.texts
    ]
    assert Counter(map(len, positives)) == {0: 31, 1: 133, 2: 127, 3: 29}
    counts = Counter(label for labels in positives for label in labels)
    assert min(counts[label] for label in taxonomy.labels) >= 40
    assert len({text.text for text in data.texts}) == len(data.texts) == 320
    groups = Counter(text.group_id for text in data.texts)
    assert Counter(groups.values()) == {1: 288, 2: 16}


def test_the_csv_holds_the_dominant_value_of_each_text():
    path = read_sample_csv_path()
    frame = pd.read_csv(path, dtype=str, keep_default_na=False)
    taxonomy = load_taxonomy("value-imprint")
    rows = [json.loads(line) for line in path.with_suffix(".jsonl").read_text(encoding="utf-8").splitlines()]
    expected = [(row["text"], row["labels"][0]) for row in rows if row["labels"]]
    assert [(text, taxonomy.resolve(label)) for text, label in frame.itertuples(index=False)] == expected


def read_sample_csv_path():
    from datamodules.annotation_layouts import SAMPLE

    return SAMPLE.with_suffix(".csv")
