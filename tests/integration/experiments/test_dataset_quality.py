"""`imprint audit --audits dataset-quality refusals`: without a model, once in a run, one message for a mistake."""

import json
import re

import pandas as pd
import pytest

from audits.table import read_table
from experiments.cli import main

AUDIT = ("--audits", "dataset-quality")


def pairs_file(tmp_path, rows, name="mine.jsonl"):
    path = tmp_path / name
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return path


def row(i, chosen, rejected):
    return {
        side: f"\n\nHuman: Ask {i}\n\nAssistant: {text}" for side, text in (("chosen", chosen), ("rejected", rejected))
    }


def count(frame, feature, slice_name="", subset=""):
    key = {"metric": "count", "feature": feature, "slice": slice_name, "subset": subset}
    for column, value in key.items():
        frame = frame[frame[column] == value]
    assert len(frame) == 1
    return int(frame["estimate"].iloc[0]), int(frame["n"].iloc[0])


def test_a_file_of_my_own(tmp_path, capsys):
    rows = [row(0, "Same.", "Same."), row(1, "", "Mail me@example.com."), row(2, "This one.", "That one.")]
    path = pairs_file(tmp_path, rows)
    output = tmp_path / "out"
    assert main(["audit", "--datasets", str(path), "sample-webgpt", *AUDIT, "--output", str(output)]) == 0
    printed = capsys.readouterr().out
    assert "mine: 3 pairs" in printed
    assert "sample-webgpt: " in printed
    assert "to learn the tool with" in printed
    assert sorted(p.name for p in output.iterdir()) == ["mine", "sample-webgpt"]
    folder = output / "mine" / "dataset-quality"
    assert sorted(p.name for p in folder.iterdir()) == ["examples.parquet", "meta.json", "table.parquet"]
    table = read_table(folder / "table.parquet")
    frame = table.to_pandas()
    assert count(frame, "identical") == (1, 3)
    assert count(frame, "empty", "chosen") == (1, 3)
    assert table["step"].null_count == len(table)
    examples = pd.read_parquet(folder / "examples.parquet")
    assert list(examples.columns) == ["dataset", "subset", "pair_id", "side", "finding"]
    assert {("mine-0", "", "identical"), ("mine-1", "chosen", "empty"), ("mine-1", "rejected", "pii-email")} <= set(
        examples[["pair_id", "side", "finding"]].itertuples(index=False, name=None)
    )
    written = b"".join(p.read_bytes() for p in folder.iterdir())
    assert b"example.com" not in written
    assert "example.com" not in printed


def test_the_same_twice(tmp_path):
    path = pairs_file(tmp_path, [row(i, f"Answer {i}.", f"Another {i % 3}.") for i in range(9)])
    for name in ("one", "two"):
        flags = ["--datasets", str(path), *AUDIT, "refusals", "--output", str(tmp_path / name)]
        assert main(["audit", *flags]) == 0
    one, two = (
        {p.relative_to(tmp_path / name): p.read_bytes() for p in (tmp_path / name).rglob("*.*")}
        for name in ("one", "two")
    )
    assert len(one) == 5
    assert one == two


def test_both_audits_in_one_command(tmp_path, capsys):
    """Each has a report, and a folder that is the same as when it is named alone; a name given twice is one."""
    rows = [row(0, "It is blue.", "I'm sorry, but I can't help with that."), row(1, "", "Two."), row(2, "A.", "B.")]
    path = pairs_file(tmp_path, rows)
    for audits in (["refusals", "dataset-quality", "refusals"], ["refusals"], ["dataset-quality"]):
        output = tmp_path / "-".join(audits)
        assert main(["audit", "--datasets", str(path), "--audits", *audits, "--output", str(output)]) == 0
    both = tmp_path / "refusals-dataset-quality-refusals" / "mine"
    assert sorted(p.name for p in both.iterdir()) == ["dataset-quality", "refusals"]
    for name in ("refusals", "dataset-quality"):
        for file in (tmp_path / name / "mine" / name).iterdir():
            assert file.read_bytes() == (both / name / file.name).read_bytes(), file
    printed = capsys.readouterr().out
    assert printed.count("mine: what responses do") == 2
    assert printed.count("mine: 3 pairs in") == 2
    frame = read_table(both / "refusals" / "table.parquet").to_pandas()
    rates = frame[(frame["metric"] == "refusal_rate")].set_index("slice")
    assert (rates.loc["rejected", "estimate"], rates.loc["rejected", "n"]) == (pytest.approx(1 / 3), 3)
    assert (rates.loc["chosen", "estimate"], rates.loc["chosen", "n"]) == (0.0, 2)
    meta = json.loads((both / "refusals" / "meta.json").read_text())
    assert (meta["audit"], meta["dataset"]["name"]) == ("refusals", "mine")
    assert set(meta["response_classes"]) == {"comply", "partial", "refuse", "incapable"}
    assert set(frame["audit_key"]) == {meta["audit_key"]}


@pytest.mark.parametrize(
    ("flags", "text"),
    [
        (("--datasets", "sample-webgpt"), r"neither of .* need neither: dataset-quality, refusals.*--help"),
        (
            ("--datasets", "sample-webgpt", "--audits", "resistance", "refusals", "--output", "OUT"),
            r"'resistance' without .* need neither: dataset-quality, refusals",
        ),
        (
            ("--datasets", "sample-webgpt", "--checkpoint", "x.ckpt", "--audits", "refusals", "--output", "OUT"),
            r"audit refusals with --checkpoint, which it does not need",
        ),
        (("--datasets", "sample-webgpt", *AUDIT), r"no --output .*fix: add --output"),
        ((*AUDIT, "--output", "OUT"), r"no --datasets .*fix: add --datasets"),
        (
            ("--datasets", "sample-webgpt", *AUDIT, "value-distribution", "--output", "OUT"),
            r"'value-distribution' without a run directory .*fix: .*--checkpoint FILE, or change --audits",
        ),
        (("--datasets", "sample-webgpt", *AUDIT, "--pending", "--output", "OUT"), r"--pending with .*leave it out"),
        (("--datasets", "sample-webgpt", *AUDIT, "--max_length", "64", "--output", "OUT"), r"--max_length with"),
        (("--datasets", "nothing", *AUDIT, "--output", "OUT"), r"preference data 'nothing'"),
        (
            ("--datasets", "hh-rlhf", *AUDIT, "--root", "none", "--output", "OUT"),
            r"no folder at none.*fix: set --root or IMPRINT_DATA",
        ),
        (("--datasets", "sample-webgpt", *AUDIT, "--output", "THERE"), r"something at .* already.*fix: --output"),
        (
            ("--datasets", "sample-webgpt", "--checkpoint", "x.ckpt", *AUDIT, "--output", "OUT"),
            r"which it does not need",
        ),
    ],
)
def test_mistakes(tmp_path, capsys, monkeypatch, flags, text):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "THERE").mkdir()
    assert main(["audit", *flags]) == 2
    error = capsys.readouterr().err
    (line,) = [line for line in error.splitlines() if line.startswith("imprint: error:")]
    assert re.search(text, line), line
    assert [p.name for p in tmp_path.iterdir()] == ["THERE"]


def test_a_damaged_output_is_not_left(tmp_path, monkeypatch):
    def fail(*_):
        raise RuntimeError("in the middle")

    monkeypatch.setattr("train.data_audits.finding_examples", fail)
    with pytest.raises(RuntimeError, match="in the middle"):
        main(["audit", "--datasets", "sample-webgpt", *AUDIT, "--output", str(tmp_path / "out")])
    assert list(tmp_path.iterdir()) == []


TINY = (
    "--trainer.max_epochs=1",
    "--trainer.limit_train_batches=2",
    "--track.wandb=disabled",
    "--data.name=value-imprint",
)
ALL = "[dataset-quality,value-distribution,refusals]"
NEED_NO_MODEL = ("dataset-quality", "refusals")


def test_once_in_a_run(tiny_run, only_run, capsys, monkeypatch):
    """Beside the audits of checkpoints, however many there are; done again only where the data have changed."""
    flags = (*TINY, "--model.loss=wan", "--audit.datasets=[hh-rlhf]", "--trainer.max_epochs=2")
    assert tiny_run(*flags, f"--audit.audits={ALL}") == 0
    run = only_run()
    told = " ".join(capsys.readouterr().out.split())
    assert "What the data are, without a model: 2 audits of data: 2 made now, 0 there before" in told
    assert "* dataset-quality of hh-rlhf: 0 of 20 pairs with identical sides; 0 of 40 responses empty" in told
    assert "* refusals of hh-rlhf: refused" in told
    for audit in NEED_NO_MODEL:
        (folder,) = (run / "audits").glob(f"{audit}-hh-rlhf-*")
        table = read_table(folder / "table.parquet")
        assert set(table["audit"].to_pylist()) == {audit}
        assert set(table["run_id"].to_pylist()) == {run.name}
        assert table["step"].null_count == len(table)
    newest = set(read_table(run / "audits" / "table.parquet")["audit"].to_pylist())
    assert newest == {"value-distribution"}
    for name in ("measure_pairs", "pair_refusal_table"):
        monkeypatch.setattr(f"train.data_audits.{name}", lambda *_: pytest.fail("measured again"))
    assert main(["audit", str(run), "--audits", "dataset-quality", "value-distribution"]) == 0
    assert "1 audit of data: 0 made now, 1 there before" in capsys.readouterr().out
    assert main(["audit", str(run), "--audits", *NEED_NO_MODEL]) == 0
    assert "2 audits of data: 0 made now, 2 there before" in capsys.readouterr().out
    assert len(list((run / "audits").glob("dataset-quality-*"))) == 1
    assert main(["audit", str(run), "--pending"]) == 0
    assert "2 audits of data: 0 made now, 2 there before" in capsys.readouterr().out


def test_alone_in_a_run(tiny_run, only_run, tiny_root):
    """No checkpoint is scored, and env.json knows the data all the same; a damaged table is made again."""
    flags = (*TINY, "--model.loss=wan", "--audit.datasets=[webgpt,hh-rlhf]", "--audit.audits=[refusals]")
    assert tiny_run(*flags) == 0
    run = only_run()
    folders = sorted(path for path in (run / "audits").iterdir() if path.is_dir())
    assert [path.name.rsplit("-", 1)[0] for path in folders] == ["refusals-hh-rlhf", "refusals-webgpt"]
    environment = json.loads((run / "env.json").read_text())
    assert set(environment["data"]["audited"]) == {"webgpt", "hh-rlhf"}
    whole = (folders[0] / "table.parquet").read_bytes()
    (folders[0] / "table.parquet").write_bytes(whole[:100])
    assert main(["audit", str(run)]) == 0
    assert (folders[0] / "table.parquet").read_bytes() == whole
    assert main(["audit", str(run), "--audits", *NEED_NO_MODEL]) == 0
    assert len(list((run / "audits").glob("dataset-quality-*"))) == 2


@pytest.mark.data
@pytest.mark.slow
def test_published_data_as_asked_for(data_root, tmp_path, capsys):
    """32 identical pairs in helpful-rejection-sampled, 4 empty chosen answers in harmless-base."""
    output = tmp_path / "out"
    flags = ["--datasets", "hh-rlhf", *AUDIT, "--output", str(output), "--root", str(data_root)]
    assert main(["audit", *flags]) == 0
    frame = read_table(output / "hh-rlhf" / "dataset-quality" / "table.parquet").to_pandas()
    assert count(frame, "identical", subset="helpful-rejection-sampled") == (32, 2749)
    assert count(frame, "identical", subset="harmless-base") == (0, 2312)
    assert count(frame, "empty", "chosen", "harmless-base") == (4, 2312)
    assert count(frame, "empty", "rejected", "harmless-base") == (0, 2312)
    assert count(frame, "prompts-differ") == (8, 5061)
    printed = capsys.readouterr().out
    assert len(printed.splitlines()) <= 50
    assert "32 (1.2%)" in printed
    examples = pd.read_parquet(output / "hh-rlhf" / "dataset-quality" / "examples.parquet")
    identical = examples[examples["finding"] == "identical"]
    assert len(identical) == 32
    assert set(identical["subset"]) == {"helpful-rejection-sampled"}
    assert len(examples[(examples["finding"] == "empty") & (examples["side"] == "chosen")]) == 4
