"""A fixed classifier of quality becomes features of the reward regressions of another run, at every checkpoint."""

import csv
import json
import re
import shutil

import pyarrow.parquet as pq
import pytest

from audits.table import KEY_COLUMNS, read_table
from datamodules.preferences import read_preferences
from experiments.cli import main

QUALITY = ("--data.name=hh-quality", "--data.view=exchange", "--model.loss=softmax", "--run.experiment=quality")
QUALITY += ("--model.encoder_training=frozen", "--trainer.max_epochs=1", "--optim.lr_head=0.5")
QUALITY += ("--track.wandb=disabled", "--audit.enabled=false", "--trainer.save_last=false")
VALUES = ("--data.name=value-imprint", "--model.loss=wan", "--trainer.batch_size=16", "--track.wandb=disabled")
REWARD = "--audit.rewards=[{name: long, kind: length}]"
REGRESSED = ("--audit.datasets=[hh-rlhf]", "--audit.audits=[reward-imprint]", REWARD)


@pytest.fixture
def quality(tiny_run, tmp_path):
    """The checkpoint of a classifier of quality."""
    assert tiny_run(*QUALITY) == 0
    (path,) = (tmp_path / "runs").glob("quality*/checkpoints/*.ckpt")
    return path


def classifiers(checkpoint, **more):
    source = {"name": "hh", "path": str(checkpoint)} | more
    return f"--audit.feature_classifiers={json.dumps([source])}"


def audited(folder, experiment):
    (run,) = folder.glob(f"runs/{experiment}-*")
    tables = [read_table(path) for path in (run / "audits").glob("*-*/table.parquet")]
    return run, tables


def regressions(table):
    """Rows without what names the run and the audit."""
    frame = table.to_pandas().drop(columns=["run_id", "audit_key"])
    return frame.sort_values([name for name in KEY_COLUMNS if name in frame.columns], ignore_index=True)


def test_the_same_numbers_as_a_file_and_as_a_classifier_give_the_same_regressions(
    quality, tiny_run, tiny_root, tmp_path, capsys
):
    capsys.readouterr()
    epochs = ("--trainer.max_epochs=2",)
    assert tiny_run(*VALUES, *REGRESSED, *epochs, "--run.experiment=one", classifiers(quality)) == 0
    said = capsys.readouterr().err
    assert said.count("hh of hh-rlhf") == 1, "scored once for both checkpoints"
    assert "hh: what its labels are worth is told against the reference acceptable" in said
    (cached,) = (tmp_path / "cache").glob("*.classifier.parquet")
    rows = pq.read_table(cached).to_pylist()
    path = tmp_path / "features.csv"
    with path.open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["pair_id", "side", "hh.unhelpful", "hh.harmful"])
        names = ("pair_id", "side", "probability/unhelpful", "probability/harmful")
        writer.writerows([row[name] for name in names] for row in reversed(rows))
    assert tiny_run(*VALUES, *REGRESSED, *epochs, "--run.experiment=two", f"--audit.features={path}") == 0
    run, tables = audited(tmp_path, "one")
    other_run, others = audited(tmp_path, "two")
    by_step = [{table["step"][0].as_py(): regressions(table) for table in found} for found in (tables, others)]
    assert by_step[0].keys() == by_step[1].keys()
    assert len(by_step[0]) == 2
    for step, frame in by_step[0].items():
        assert frame.equals(by_step[1][step])
        slopes = frame.query("metric == 'beta' and spec == 'within'").set_index("feature")
        assert slopes.loc[["hh.unhelpful", "hh.harmful"], "estimate"].notna().all()
        assert "hh.acceptable" not in slopes.index
    meta = json.loads(next((run / "audits").glob("*-*/meta.json")).read_text())
    (record,) = meta["datasets"][0]["feature_classifiers"]
    assert (record["name"], record["features"]) == ("hh", ["hh.unhelpful", "hh.harmful"])
    assert record["view"] == "exchange-head-48", "as it was trained"
    assert (record["n_total"], record["n_pairs_trained_on"]) == (40, 0)
    assert {path.name for path in run.glob("corpus/*measured*")}.isdisjoint(other_run.glob("corpus/*measured*"))
    # What the rewards say of values, with quality held equal, is followed from checkpoint to checkpoint.
    assert main(["drift", str(run)]) == 0
    moved = read_table(run / "audits" / "drift" / "table.parquet").to_pandas().query("metric == 'beta_change'")
    assert {"hh.unhelpful", "hh.harmful", "duty"} <= set(moved["feature"])


def test_pairs_it_was_trained_on_are_out_of_the_regressions(quality, tiny_run, tiny_root, tmp_path, capsys):
    pairs = list(read_preferences("hh-rlhf", tiny_root).read())
    root = shutil.copytree(tiny_root, tmp_path / "root")
    path = root / "hh-audit" / "df_labeledharmlessoutputs_second_pass.csv"
    with path.open("a", newline="") as file:
        for i in (4, 9):
            prompt, _, answer = f"\n\n{pairs[i].first.render()}".rpartition("Assistant:")
            csv.writer(file).writerow([i, i, f"{prompt}Assistant:", answer, " no", "harmful"])
    again = ("--run.experiment=seen", f"--data.root={root}", "--data.test_fraction=0.05")
    assert tiny_run(*QUALITY, *again, "--data.split_seed=1") == 0
    (checkpoint,) = (tmp_path / "runs").glob("seen*/checkpoints/*.ckpt")
    capsys.readouterr()
    flags = ("--trainer.max_epochs=1", "--run.experiment=one", classifiers(checkpoint))
    assert tiny_run(*VALUES, *REGRESSED, *flags) == 0
    assert "2 of 20 pairs of hh-rlhf hold a text that hh was trained on; they are left out" in capsys.readouterr().err
    _, (table,) = audited(tmp_path, "one")
    frame = table.to_pandas()
    dropped = frame.query("metric == 'rows_dropped' and method == 'feature-missing' and spec == 'within'")
    assert dropped["estimate"].tolist() == [4.0]
    assert set(frame.query("metric == 'beta' and spec == 'within'")["n"]) == {36}


def test_a_finished_run_and_a_checkpoint_are_audited_with_settings_of_the_command_line(
    quality, tiny_run, tiny_root, tmp_path, capsys, monkeypatch
):
    assert tiny_run(*VALUES, "--trainer.max_epochs=1", "--run.experiment=one", "--audit.enabled=false") == 0
    run, _ = audited(tmp_path, "one")
    assert main(["audit", str(run), *REGRESSED, classifiers(quality)]) == 0
    _, (table,) = audited(tmp_path, "one")
    assert "hh.harmful" in set(table["feature"].to_pylist())
    monkeypatch.chdir(tmp_path)
    checkpoint = next(path for path in (run / "checkpoints").glob("*.ckpt") if path.name != "last.ckpt")
    flags = ["--checkpoint", str(checkpoint), "--output", "out", "--root", str(tiny_root), "--datasets", "hh-rlhf"]
    more = ["--audits", "reward-imprint", "--audit.rewards", REWARD.partition("=")[2], "--audit.max_length=48"]
    assert main(["audit", *flags, *more, classifiers(quality)]) == 0
    table = read_table(tmp_path / "out" / "table.parquet")
    assert {"hh.unhelpful", "hh.harmful"} <= set(table["feature"].to_pylist())
    assert "exchange-head-48" in (tmp_path / "out" / "meta.json").read_text()
    capsys.readouterr()
    assert main(["audit", "--audits", "dataset-quality", "--datasets", "x.jsonl", "--audit.max_length=64"]) == 2
    assert "--audit.max_length without a checkpoint" in capsys.readouterr().err


def test_with_every_label_of_a_softmax_the_last_has_no_slope(quality, tiny_run, tmp_path):
    """What the reference is for: without one, the guard against combinations would choose it."""
    assert tiny_run(*VALUES, *REGRESSED, "--run.experiment=one", "--trainer.max_epochs=1", classifiers(quality)) == 0
    (cached,) = (tmp_path / "cache").glob("*.classifier.parquet")
    frame = pq.read_table(cached).to_pandas().drop(columns="truncated")
    path = tmp_path / "features.parquet"
    frame.rename(columns=lambda name: name.replace("probability/", "hh.")).to_parquet(path)
    flags = ("--run.experiment=two", "--trainer.max_epochs=1", f"--audit.features={path}")
    assert tiny_run(*VALUES, *REGRESSED, *flags) == 0
    _, (table,) = audited(tmp_path, "two")
    left_out = table.to_pandas().query("metric == 'left_out' and spec == 'within' and feature == 'hh.harmful'")
    assert left_out["method"].tolist() == ["combination-of:hh.acceptable+hh.unhelpful"]


def test_its_own_checkpoint_is_no_feature(quality, tmp_path, capsys):
    run = quality.parent.parent
    capsys.readouterr()
    assert main(["audit", str(run), *REGRESSED, classifiers(quality)]) == 2
    said = capsys.readouterr().err
    assert "the feature classifier hh, the very checkpoint that is audited" in said
    assert "hh of hh-rlhf" not in said, "told before anything is scored"


def test_other_checkpoints_of_the_run_are_audited_all_the_same(quality, tiny_run, tmp_path, capsys):
    """One of two is the feature classifier: the other is not kept from its audit."""
    assert tiny_run(*QUALITY, "--trainer.max_epochs=2", "--trainer.save_top_k=-1", "--run.experiment=two") == 0
    first, _ = sorted((tmp_path / "runs").glob("two*/checkpoints/*.ckpt"))
    capsys.readouterr()
    assert main(["audit", str(first.parent.parent), *REGRESSED, classifiers(first)]) == 1
    captured = capsys.readouterr()
    assert "1 audited now" in captured.out
    assert "the very checkpoint that is audited" in captured.err


def test_without_the_audit_that_reads_them_they_are_refused(quality, tiny_run, tmp_path, capsys):
    capsys.readouterr()
    flags = ("--audit.datasets=[hh-rlhf]", "--audit.audits=[value-distribution]", "--run.experiment=one")
    assert tiny_run(*VALUES, *flags, classifiers(quality)) == 2
    error = capsys.readouterr().err
    assert "feature classifiers without the audit reward-imprint" in error
    assert "fix: add it to --audit.audits, or --audit.feature_classifiers=[]" in error
    assert not list((tmp_path / "runs").glob("one-*"))
    off = "--audit.feature_classifiers=[]"
    assert tiny_run(*VALUES, *flags, "--trainer.max_epochs=1", classifiers(quality), off) == 0


@pytest.mark.parametrize(
    ("more", "text"),
    [
        ({"path": "none.ckpt"}, "no file at none.ckpt.*feature_classifiers"),
        ({"name": "a b"}, "a feature classifier named 'a b'"),
        ({"reference": "fine"}, "the reference fine of feature classifier hh; needed one of its labels"),
        ({"max_length": 4096}, "4096"),
    ],
)
def test_mistakes_are_told_before_anything_is_written(quality, tiny_run, tmp_path, capsys, more, text):
    capsys.readouterr()
    assert tiny_run(*VALUES, *REGRESSED, "--run.experiment=one", classifiers(quality, **more)) == 2
    errors = [line for line in capsys.readouterr().err.splitlines() if line.startswith("imprint: error:")]
    assert len(errors) == 1
    assert re.search(text, errors[0]), errors[0]
    assert not list((tmp_path / "runs").glob("one-*"))
