"""A classifier that reads long texts in windows is trained, resumed, audited and scored like any other."""

import json

import numpy as np
import pandas as pd
import pyarrow.parquet as pq
import pytest
import torch

import train.fit
from audits.table import read_table
from experiments.cli import main
from models.classifier import ValueClassifier, load_classifier
from models.digest import weights_digest
from models.inference import score_tokens
from train.thresholds import find_thresholds

FLAGS = (
    "--data.name=value-imprint",
    "--model.loss=wan",
    "--trainer.batch_size=16",
    "--track.wandb=disabled",
    "--audit.datasets=[hh-rlhf]",
    "--audit.noise_floor=false",
)
# Tiny dialogues have about 25 tokens.
WINDOWS = ("--model.window=12",)


def audited(folder):
    """Probabilities by text of the one audit in a folder."""
    (path,) = folder.glob("audits/*-*/decisions.parquet")
    table = pd.read_parquet(path)
    return dict(zip(table["text_id"], np.stack(table["probabilities"].to_numpy()).astype(np.float64), strict=True))


def cut_shares(run):
    """Shares of texts that were cut, over all audits of a run."""
    tables = [read_table(path).to_pandas() for path in run.glob("audits/*-*/table.parquet")]
    rows = pd.concat(tables)
    return set(rows[(rows["metric"] == "truncated_share") & (rows["mode"] == "corrected")]["estimate"])


def test_audits_read_whole_dialogues_in_windows(tiny_run, only_run, tmp_path):
    # More than the 128 tokens that the encoder reads at once.
    flags = ("--audit.max_length=300", "--trainer.max_epochs=1")
    assert tiny_run(*FLAGS, *WINDOWS, *flags) == 0
    run = only_run()
    path = run / "checkpoints" / "last.ckpt"
    model = load_classifier(path)
    assert model.tokeniser.window == 12
    (tokens_path,) = (tmp_path / "cache").glob("*.tokens.arrow")
    tokens = pd.read_feather(tokens_path)
    whole = tokens["input_ids"][tokens["length"] > 24]
    assert len(whole) > 10
    assert {int(ids[k * 12]) for ids in whole for k in range(3)} == {2}
    # What is stored are the scores of these tokens under the temperatures of the checkpoint.
    calibration = find_thresholds(path, weights_digest(model.state_dict()), model, None)
    ids = [list(map(int, row)) for row in tokens["input_ids"]]
    logits = score_tokens(model, ids, tokens["length"].to_numpy(), model.tokeniser.pad_id, "float32", 64)
    expected = dict(zip(tokens["text_id"], calibration.probabilities(logits), strict=True))
    stored = audited(run)
    assert stored.keys() == expected.keys()
    for text_id, own in stored.items():
        np.testing.assert_allclose(own, expected[text_id], atol=1e-3)
    assert cut_shares(run) == {0.0}

    # Later the same audit has the same key, and a shorter view needs no other setting.
    assert main(["audit", str(run)]) == 0
    assert cut_shares(run) == {0.0}
    assert main(["audit", str(run), "--max_length=24"]) == 0
    assert cut_shares(run) == {0.0, 1.0}


def test_longer_texts_are_scored_by_all_their_windows(tiny_run, only_run, tmp_path, capsys):
    assert tiny_run(*FLAGS, *WINDOWS, "--audit.enabled=false", "--trainer.max_epochs=1") == 0
    texts = ["how do you feel", "why " * 30 + "law " * 10, "why " * 30 + "kind " * 10, "why " * 40 + "law", "why " * 41]
    (tmp_path / "texts.jsonl").write_text("".join(json.dumps({"text": text}) + "\n" for text in texts))
    checkpoint, out = only_run() / "checkpoints" / "last.ckpt", tmp_path / "scores.parquet"
    command = ["score", "--checkpoint", str(checkpoint), "--input", str(tmp_path / "texts.jsonl")]
    assert main([*command, "--output", str(out), "--precision=float32"]) == 0
    # 48 tokens are four windows with ten words each.
    assert "5 texts scored" in (said := capsys.readouterr().out)
    assert "2 of them cut at 48 tokens" in said
    duty = pq.read_table(out)["duty"].to_numpy()
    assert len(set(duty[:4].round(6))) == 4
    assert duty[3] == duty[4]


def test_cached_vectors_of_windows_are_those_of_the_encoder_in_the_loop(tiny_run, only_run, tmp_path, monkeypatch):
    flags = (*FLAGS, *WINDOWS, "--model.encoder_training=frozen", "--model.pooling=cls", "--trainer.max_epochs=2")
    assert tiny_run(*flags) == 0
    run = only_run().rename(tmp_path / "cached")
    monkeypatch.setattr(train.fit, "with_cached_features", lambda prepared, *_: prepared)
    assert tiny_run(*flags) == 0
    weights = [torch.load(r / "checkpoints" / "last.ckpt", weights_only=True)["state_dict"] for r in (run, only_run())]
    for name in weights[0]:
        torch.testing.assert_close(weights[0][name], weights[1][name], rtol=0, atol=1e-6)
    own, other = (
        pd.read_parquet(next((r / "predictions").glob("*-test.parquet"))).sort_values("text_id")
        for r in (run, only_run())
    )
    np.testing.assert_allclose(own["duty"], other["duty"], atol=1e-5)


@pytest.mark.slow
def test_a_resumed_run_ends_as_the_unbroken_one(tiny_run, only_run, tmp_path, monkeypatch):
    flags = (*FLAGS, *WINDOWS, "--audit.enabled=false", "--trainer.max_epochs=3")
    assert tiny_run(*flags) == 0
    unbroken = only_run().rename(tmp_path / "unbroken")
    step = ValueClassifier.training_step

    def dies(self, batch, batch_idx):
        if self.current_epoch == 1 and batch_idx == 1:
            raise RuntimeError("no luck")
        return step(self, batch, batch_idx)

    with monkeypatch.context() as patch:
        patch.setattr(ValueClassifier, "training_step", dies)
        with pytest.raises(RuntimeError, match="no luck"):
            tiny_run(*flags)
    assert main(["fit", "--resume", str(only_run())]) == 0
    states = [
        {
            path.name: weights_digest(torch.load(path, weights_only=True)["state_dict"])
            for path in run.glob("checkpoints/*.ckpt")
        }
        for run in (only_run(), unbroken)
    ]
    assert states[0] == states[1]


@pytest.mark.parametrize(
    ("flags", "text"),
    [
        (("--model.window=0",), "model.window 0"),
        (("--model.window=7",), "at least 8 tokens"),
        # Everything fits in one.
        (("--model.window=64",), "model.window 64 for texts of at most 64 tokens"),
        (("--model.window=129", "--data.max_length=400"), "windows of 129 tokens, but the encoder reads 128"),
        (("--data.max_length=129",), "--model.window"),
    ],
)
def test_windows_that_cannot_be_or_do_nothing_are_told_before_anything_is_written(
    tiny_run, tmp_path, flags, text, capsys
):
    assert tiny_run(*FLAGS, *flags) == 2
    assert text in capsys.readouterr().err
    assert not (tmp_path / "runs").exists()


def test_the_window_of_a_run_stays(tiny_run, only_run, capsys):
    assert tiny_run(*FLAGS, "--audit.enabled=false", "--trainer.max_epochs=1") == 0
    assert main(["fit", "--resume", str(only_run()), "--trainer.max_epochs=2", *WINDOWS]) == 2
    assert "a changed window (None in the checkpoint, 12 now)" in capsys.readouterr().err
