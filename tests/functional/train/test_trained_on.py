"""Pairs with a text of training or validation are counted and left out of corrected rows; those of test are not."""

import csv
import json

import numpy as np
import pytest
import yaml

import train.audited_data
import train.checkpoint_queue
from audits.table import read_table
from datamodules.preferences import read_preferences
from experiments.cli import main
from train.audit_setup import AUDITS
from train.training_texts import FILE

SHORT = ("--trainer.max_epochs=1", "--trainer.batch_size=16", "--data.name=value-imprint", "--model.loss=wan")
FLAGS = (*SHORT, "--audit.datasets=[hh-rlhf]", "--track.wandb=disabled", "--run.progress=off")
# With it the split puts one of the audited texts into each part.
SEED = 17
FOUND = "2 of 20 pairs of hh-rlhf hold a text that the classifier was trained on; they are left out of corrected rows"


@pytest.fixture
def annotated(value_imprint_file, tiny_root, tmp_path):
    """The tiny annotations and sides of three audited pairs, of which the split puts one into test."""
    pairs = list(read_preferences("hh-rlhf", tiny_root).read())
    with value_imprint_file.open(encoding="utf-8", newline="") as file:
        rows = list(csv.reader(file))
    rows += [[pairs[i].first.render(), "Duty/Accountability"] for i in (3, 7)]
    rows.append([f"\n\n{pairs[11].second.render().upper()}", "Wisdom/Knowledge"])
    path = tmp_path / "annotated.csv"
    with path.open("w", encoding="utf-8", newline="") as file:
        csv.writer(file).writerows(rows)
    return path


@pytest.fixture
def overlapping_run(tiny_run, annotated):
    return lambda *flags: tiny_run(*FLAGS, f"--data.path={annotated}", f"--data.split_seed={SEED}", *flags)


def shares(folder):
    frame = read_table(folder / "table.parquet").to_pandas()
    return frame[(frame["slice"] == "chosen") & (frame["subset"] == "")]


def n_corrected(folder):
    rows = shares(folder).query("mode == 'corrected' and metric == 'prevalence'")
    return set(rows["n"])


def audit_folders(run):
    return sorted((path for path in (run / "audits").glob("*-*")), key=lambda path: path.stat().st_mtime_ns)


def test_two_training_texts_make_two_pairs_fewer(overlapping_run, only_run, capsys, tmp_path):
    assert overlapping_run() == 0
    assert FOUND in capsys.readouterr().err
    run = only_run()
    splits = json.loads((run / "splits.json").read_text())
    # Rows 141 to 143 of the file are the audited dialogues.
    parts = [name for i in (141, 142, 143) for name in ("train", "val", "test") if f"value-imprint-{i}" in splits[name]]
    assert sorted(parts) == ["test", "train", "val"]
    (audit,) = audit_folders(run)
    assert n_corrected(audit) == {18}
    assert set(shares(audit).query("mode == 'as_published' and metric == 'top1_share'")["n"]) == {20}

    assert main(["audit", str(run)]) == 0
    captured = capsys.readouterr()
    assert "0 audited now" in captured.out, "the file tells the same as the texts did"
    assert FOUND in captured.err

    output = tmp_path / "one"
    checkpoint = ["--checkpoint", str(run / "checkpoints" / "last.ckpt"), "--datasets", "hh-rlhf", "--max_length", "64"]
    root = yaml.safe_load((run / "config.yaml").read_text())["data"]["root"]
    assert main(["audit", *checkpoint, "--root", root, "--output", str(output)]) == 0
    assert FOUND in capsys.readouterr().err
    assert n_corrected(output) == {18}


def test_where_the_texts_are_unknown_one_line_says_so(overlapping_run, only_run, capsys):
    assert overlapping_run() == 0
    run = only_run()
    (run / FILE).unlink()
    capsys.readouterr()
    assert main(["audit", str(run)]) == 0
    captured = capsys.readouterr()
    assert captured.err.count("not known which texts the classifier was trained on") == 1
    assert "hold a text" not in captured.err
    assert "1 audited now" in captured.out
    assert [n_corrected(folder) for folder in audit_folders(run)] == [{18}, {20}]


def test_kept_pairs_are_counted_as_a_warning(overlapping_run, only_run, capsys):
    assert overlapping_run("--audit.trained_on=keep") == 0
    errors = capsys.readouterr().err
    assert "warning: 2 of 20 pairs of hh-rlhf hold a text that the classifier was trained on; they are kept" in errors
    assert "left out of corrected rows" not in errors
    (audit,) = audit_folders(only_run())
    assert n_corrected(audit) == {20}


def test_rewritten_pairs_inherit_the_mark_of_their_originals(overlapping_run, tiny_root, tmp_path, monkeypatch):
    rewrites, config = tmp_path / "rewrites.jsonl", tmp_path / "robust.yaml"
    with rewrites.open("w") as file:
        # Both sides of all pairs but the first; the last pair of the data comes first.
        for pair in list(read_preferences("hh-rlhf", tiny_root).read())[:0:-1]:
            for side, dialogue in zip(pair.sides, (pair.first, pair.second), strict=True):
                text = f"{dialogue.response} thank you"
                file.write(json.dumps({"pair_id": pair.pair_id, "side": side, "text": text}) + "\n")
    rewrite = {"source": "file", "path": str(rewrites), "pairs": 20, "min_similarity": 0.0}
    length = {"name": "length", "kind": "length"}
    audit = {"audits": ["robustness"], "targets": ["wisdom"], "rewards": [length], "rewrite": rewrite}
    config.write_text(yaml.safe_dump({"audit": audit}))
    setups = []
    run_audit = train.checkpoint_queue.audit_checkpoint
    monkeypatch.setattr(
        train.checkpoint_queue, "audit_checkpoint", lambda *given: setups.append(given[2]) or run_audit(*given)
    )
    assert overlapping_run(f"--config={config}") == 0
    (audited,) = setups[0].audited

    def marked(data):
        return data.corpus.data.index.pair_ids[data.trained_on].tolist()

    assert marked(audited) == ["harmless-base-3", "harmless-base-11"]
    assert len(audited.rewritten_data.trained_on) == 19
    assert marked(audited.rewritten_data) == marked(audited)


@pytest.mark.parametrize("n_unmarked", [0, 1])
def test_audits_stand_it_when_hardly_a_pair_is_left(overlapping_run, only_run, tmp_path, monkeypatch, n_unmarked):
    monkeypatch.setattr(
        train.audited_data, "trained_on", lambda data, *_: np.arange(len(data.index)) < len(data.index) - n_unmarked
    )
    config = tmp_path / "all.yaml"
    rewards = [{"name": name, "kind": "length", "role": name} for name in ("pre", "post")]
    rewrite = {"min_similarity": 0.0, "pairs": 20}
    audits = [name for name in AUDITS if name != "value-space"]  # which takes other labels
    audit = {"audits": audits, "targets": ["wisdom"], "rewards": rewards, "rewrite": rewrite}
    config.write_text(yaml.safe_dump({"audit": audit}))
    assert overlapping_run(f"--config={config}") == 0
    (audit,) = audit_folders(only_run())
    frame = read_table(audit / "table.parquet").to_pandas()
    of_everything = {"value-distribution", "value-disparity", "reward-imprint", "resistance", "robustness"}
    assert of_everything <= set(frame["audit"])
    assert n_corrected(audit) == ({1} if n_unmarked else set())
    assert set(shares(audit).query("mode == 'as_published' and metric == 'top1_share'")["n"]) == {20}


def test_a_damaged_file_is_told(overlapping_run, only_run, capsys):
    assert overlapping_run() == 0
    run = only_run()
    (run / FILE).write_bytes(b"torn")
    capsys.readouterr()
    assert main(["audit", str(run)]) == 2
    assert f"{FILE}, which is damaged" in capsys.readouterr().err
