"""A user's mistake gives one clear message and exit code 2, and leaves nothing half-written."""

import json
import re

import numpy as np
import pandas as pd
import pyarrow.parquet as pq
import pytest

from experiments.cli import VERBS, main

TINY = ("--trainer.max_epochs=1", "--trainer.limit_train_batches=2", "--track.wandb=disabled", "--audit.enabled=false")


def written(tmp_path, content: str | bytes, name="texts.csv"):
    path = tmp_path / name
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    return path


def fails(capsys, code: int, text: str) -> None:
    captured = capsys.readouterr()
    assert code == 2
    lines = [line for line in captured.err.splitlines() if line.startswith("imprint: error:")]
    assert len(lines) == 1, captured.err
    assert re.search(text, lines[0]), lines[0]
    assert "Traceback" not in captured.err


@pytest.mark.parametrize(
    ("content", "text"),
    [
        (None, r"found no file at .*nothing\.csv; needed .*; fix: .*--data\.path"),
        ("Words,Label\nhi,Duty\n", r"no column Text .*its columns: Words, Label.*needed the columns Text, Label"),
        ("Text,Label\n", r"nothing to keep .*needed at least one text with labels"),
        ("Text,Label\nhi there,Courage\n", r"Courage.*needed.*Civility"),
        ("Text,Label\nhi there,\n", r"nothing to keep .*1 empty label"),
        (b"Text,Label\n\xff\xfe bad,Duty\n", r"not UTF-8 in .*line 2; needed UTF-8"),
        ('Text,Label\n"   ",Duty\n', r"nothing to keep .*empty text"),
        ("Text,Label\none,Duty,more\n", r"3 cells in the row that starts at line 2"),
        ("Text,Label\nsame words,Duty\nother words,Duty\n", r"2 texts in 2 group\(s\); needed at least 3 groups"),
        (
            "Text,Label\n" + "".join(f"words number {i},Duty\n" for i in range(30)),
            r"none carries civility, empathy, .*needed at least one text for every value; .*allow_empty_values",
        ),
    ],
    ids=[
        "missing",
        "columns",
        "empty",
        "unknown label",
        "empty label",
        "not utf-8",
        "empty text",
        "cells",
        "too few",
        "no positives",
    ],
)
def test_annotation_files(tiny_run, capsys, tmp_path, content, text):
    path = tmp_path / "nothing.csv" if content is None else written(tmp_path, content)
    code = tiny_run("--data.name=value-imprint", f"--data.path={path}", "--model.loss=wan", *TINY)
    fails(capsys, code, text)
    assert not (tmp_path / "runs").exists()


def test_duplicated_ids(tiny_run, capsys, tmp_path):
    rows = [{"id": "a", "text": f"text {i}", "labels": ["duty"]} for i in range(9)]
    path = written(tmp_path, "\n".join(map(json.dumps, rows)), "texts.jsonl")
    flags = ("--data.taxonomy=value-imprint", "--data.label_column=labels", "--data.id_column=id")
    code = tiny_run("--data.name=table", f"--data.path={path}", *flags, *TINY)
    fails(capsys, code, r"ids that occur twice in .*: a; needed one row per id")


@pytest.mark.parametrize(
    ("flags", "text"),
    [
        (("--data.name=fulcra", "--data.root=/no/such/folder"), r"/no/such/folder"),
        (("--data.name=value-imprint",), r"loss bce.*needed a loss for single positives; fix: --model\.loss wan"),
        (("--data.name=valueeval", "--data.taxonomy=schwartz"), r"a signed taxonomy, schwartz, .*--data\.taxonomy"),
        (("--data.name=valueeval", "--data.taxonomy=mine.yaml"), r"mine\.yaml"),
        (("--data.name=table",), r"taxonomy"),
        (("--model.encoder=/no/model",), r"encoder '/no/model'"),
        (("--model.loss=hinge",), r"--model\.loss"),
        (("--modle.loss=wan",), r"modle"),
        (("--data.max_length=4000",), r"max_length 4000, but the encoder reads 128"),
        (("--data.max_length=many",), r"--data\.max_length.*many"),
        (("--data.val_fraction=0.9",), r"val_fraction 0\.9"),
        (("--optim.warmup_fraction=1",), r"warmup_fraction 1"),
        (("--audit.enabled=true", "--audit.datasets=[hh]"), r"preference data 'hh'"),
        (("--audit.enabled=true", "--audit.datasets=[]"), r"no data set to audit"),
        (("--audit.enabled=true", "--audit.audits=[refusal]"), r"audit 'refusal'"),
        (("--trainer.accelerator=gpu",), r"no GPU"),
        (("--trainer.max_epochs=0",), r"trainer\.max_epochs 0; needed a whole number from 1"),
        (("--trainer.batch_size=-4",), r"trainer\.batch_size -4"),
        (("--trainer.gradient_clip=-1",), r"trainer\.gradient_clip -1"),
        (("--trainer.val_check_interval=2",), r"a share of an epoch in \(0, 1\]"),
        (("--trainer.save_top_k=0",), r"-1 \(all\) or a whole number from 1"),
        (("--optim.lr_head=.nan",), r"optim\.lr_head nan"),
        (("--model.dropout=1.5",), r"model\.dropout 1\.5"),
        (("--run.seed=-1",), r"run\.seed -1"),
        (("--run.experiment=../up",), r"run\.experiment '\.\./up'; needed at most 60 letters"),
        (("--trainer.monitor=val/f1",), r"metric val/f1,.*needed one of val/loss, .*val/ap_macro"),
        (("--track.wandb=online",), r"no W&B login.*fix: wandb login, or --track\.wandb offline"),
        (("--config=none.yaml",), r"no file at none\.yaml"),
    ],
)
def test_settings(tiny_run, capsys, tmp_path, monkeypatch, flags, text):
    monkeypatch.setattr("torch.cuda.is_available", lambda: False)
    monkeypatch.setattr("wandb.login", lambda **_: False)
    code = tiny_run("--data.name=sample", *TINY, *flags)
    fails(capsys, code, text)
    assert not (tmp_path / "runs").exists()


def test_a_forgotten_data_root_names_the_setting(tiny_encoder, tmp_path, monkeypatch, capsys):
    monkeypatch.delenv("IMPRINT_DATA", raising=False)
    flags = [f"--model.encoder={tiny_encoder}", f"--run.root={tmp_path / 'runs'}", *TINY]
    code = main(["fit", "--config", "experiments/valueeval.yaml", *flags])
    fails(capsys, code, r"no data root.*IMPRINT_DATA.*imprint data fetch valueeval --root DIR")
    assert not (tmp_path / "runs").exists()


@pytest.mark.parametrize("verb", ["fitt", "--version", "tunes"])
def test_an_unknown_verb_lists_the_verbs(verb, capsys):
    fails(capsys, main([verb]), f"one of {', '.join(VERBS)}")


@pytest.fixture
def checkpoint(tiny_run, only_run):
    assert tiny_run("--data.name=sample", *TINY) == 0
    return only_run() / "checkpoints" / "last.ckpt"


def texts_file(tmp_path, rows):
    return written(tmp_path, "\n".join(map(json.dumps, rows)), "texts.jsonl")


def test_score_writes_one_row_per_text(checkpoint, tmp_path, capsys):
    rows = [{"text": "why is the law fair"}, {"text": "sleep " * 200}, {"text": "why is the law fair"}]
    path = texts_file(tmp_path, rows)
    output = tmp_path / "scores.parquet"
    assert main(["score", "--checkpoint", str(checkpoint), "--input", str(path), "--output", str(output)]) == 0
    assert "1 of them cut at 48 tokens" in capsys.readouterr().out
    table = pq.read_table(output).to_pandas()
    assert table["text_id"].tolist() == ["0", "1", "2"]
    assert table["wisdom"].between(0, 1).all()
    assert table["wisdom_on"].dtype == np.bool_
    assert table.loc[0].drop("text_id").equals(table.loc[2].drop("text_id"))
    assert len(table.columns) == 1 + 2 * 7


def test_scores_do_not_depend_on_how_many_texts_are_held_at_once(checkpoint, tmp_path, monkeypatch):
    words = ["why", "is", "the", "law", "fair", "sleep", "learn", "polite"]
    path = texts_file(tmp_path, [{"text": " ".join(words[: 1 + i % 8])} for i in range(20)])
    command = ["score", "--checkpoint", str(checkpoint), "--input", str(path), "--precision", "float32"]
    whole, parts = tmp_path / "whole.parquet", tmp_path / "parts.parquet"
    assert main([*command, "--output", str(whole)]) == 0
    monkeypatch.setattr("experiments.score_command.TEXTS_AT_ONCE", 3)
    monkeypatch.setattr("datamodules.portions.CHARACTERS_AT_ONCE", 30)
    assert main([*command, "--output", str(parts)]) == 0
    assert pq.ParquetFile(parts).num_row_groups > 3
    one, other = (pq.read_table(file).to_pandas() for file in (whole, parts))
    assert one["text_id"].tolist() == [str(i) for i in range(20)]
    pd.testing.assert_frame_equal(one, other, rtol=1e-4)


def test_a_damaged_row_late_in_the_file_leaves_no_output(checkpoint, tmp_path, capsys):
    path = texts_file(tmp_path, [{"text": "a law"}] * 50 + [{"text": ""}])
    output = tmp_path / "scores.parquet"
    command = ["score", "--checkpoint", str(checkpoint), "--input", str(path), "--output", str(output)]
    fails(capsys, main(command), "row 50 of .* without a text")
    assert not output.exists()


def test_score_keeps_given_ids_and_takes_thresholds(checkpoint, tmp_path):
    path = texts_file(tmp_path, [{"text": "a law", "text_id": "x7"}])
    output = tmp_path / "scores.parquet"
    source = next((checkpoint.parent.parent / "thresholds").iterdir())
    thresholds = json.loads(source.read_text())
    for entry in thresholds["labels"].values():
        entry["threshold"] = 0.0
    changed = tmp_path / "thresholds.json"
    changed.write_text(json.dumps(thresholds))
    command = ["score", "--checkpoint", str(checkpoint), "--input", str(path), "--output", str(output)]
    assert main([*command, "--thresholds", str(changed)]) == 0
    row = pq.read_table(output).to_pylist()[0]
    assert row["text_id"] == "x7"
    assert all(row[name] for name in row if name.endswith("_on"))


@pytest.mark.parametrize(
    ("rows", "flags", "text"),
    [
        ([{"words": "a"}], [], r"no column text .*--text_column"),
        ([{"text": ""}], [], r"row 0 .*without a text"),
        ([{"text": None}], [], r"row 0 .*without a text"),
        ([{"text": "a", "text_id": 1}, {"text": "b", "text_id": 1}], [], r"ids that occur twice"),
        ([{"text": "a"}], ["--precision", "fp8"], r"precision 'fp8'"),
        ([{"text": "a"}], ["--thresholds", "/no/file.json"], r"no thresholds .*--thresholds"),
        ([{"text": "a"}], ["--output", "x.csv"], r"\.parquet"),
        ([{"text": "a"}], ["--checkpoint", "/no/file.ckpt"], r"no file at /no/file\.ckpt"),
    ],
)
def test_score_mistakes(checkpoint, tmp_path, capsys, rows, flags, text):
    path = texts_file(tmp_path, rows)
    output = tmp_path / "scores.parquet"
    command = ["score", "--checkpoint", str(checkpoint), "--input", str(path), "--output", str(output), *flags]
    fails(capsys, main(command), text)
    assert not output.exists()


def test_score_with_a_checkpoint_that_was_moved_away_from_its_thresholds(checkpoint, tmp_path, capsys):
    moved = tmp_path / "moved.ckpt"
    moved.write_bytes(checkpoint.read_bytes())
    path = texts_file(tmp_path, [{"text": "a"}])
    command = ["score", "--checkpoint", str(moved), "--input", str(path), "--output", str(tmp_path / "s.parquet")]
    fails(capsys, main(command), r"no thresholds of checkpoint \w{8} at .*fix: --thresholds")


def test_audit_of_one_checkpoint(checkpoint, tmp_path, capsys):
    output = tmp_path / "audit"
    command = ["audit", "--checkpoint", str(checkpoint), "--datasets", "sample-webgpt", "--output", str(output)]
    # The tiny encoder reads 128 tokens; the default view asks for 256.
    fails(capsys, main(command), r"max_length 256, but the encoder reads 128.*max_length")
    assert main([*command, "--max_length", "64"]) == 0
    assert sorted(path.name for path in output.iterdir()) == [
        "corpus",
        "decisions.parquet",
        "meta.json",
        "table.parquet",
    ]
    fails(capsys, main([*command, "--max_length", "64"]), "something at .* already")


@pytest.mark.parametrize(
    ("arguments", "text"),
    [
        ([], "neither of a run directory and --checkpoint"),
        (["--checkpoint", "x.ckpt"], "--checkpoint alone"),
        (["/no/run"], "no file at /no/run/config.yaml.*name a run directory"),
    ],
)
def test_audit_mistakes(arguments, text, capsys):
    fails(capsys, main(["audit", *arguments]), text)


def test_data_verbs(capsys, tiny_root, value_imprint_file, monkeypatch):
    monkeypatch.setenv("IMPRINT_DATA", str(tiny_root))
    assert main(["data", "list"]) == 0
    assert "value-imprint" in capsys.readouterr().out
    assert main(["data", "check", str(value_imprint_file)]) == 0
    out = capsys.readouterr().out
    assert "value-imprint layout" in out
    assert "140 rows read, 140 texts kept" in out
    for name in ("sample", "fulcra", "valueeval", "value-imprint", "sample-webgpt", "hh-rlhf"):
        assert main(["data", "describe", name]) == 0
        out = capsys.readouterr().out
        assert "Length in MiniLM tokens" in out
        assert max(map(len, out.splitlines())) <= 100
    fails(capsys, main(["data", "check", "/no/file.csv"]), "no file at /no/file.csv")
    fails(capsys, main(["data", "describe", "nothing"]), "preference data 'nothing'")
    fails(capsys, main(["data", "show"]), "list, check or describe")
