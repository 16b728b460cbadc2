"""A head that is trained on cached vectors is the head that is trained with its frozen encoder in the loop."""

import json
import shutil

import numpy as np
import pandas as pd
import pyarrow.parquet as pq
import pytest
import torch
from transformers import BertModel

import train.feature_cache
import train.fit
from audits.table import read_table
from datamodules.tokenise import Tokeniser
from experiments.cli import main
from models.digest import weights_digest
from models.fine_tuning import FineTunedEncoder
from train.audit_config import AuditConfig
from train.config import (
    Config,
    DataConfig,
    ModelConfig,
    OptimConfig,
    RunConfig,
    TrackConfig,
    TrainerConfig,
)
from train.shared import Shared

DATA = ("--data.name=value-imprint", "--model.loss=wan", "--trainer.batch_size=16", "--track.wandb=disabled")
FROZEN = (*DATA, "--model.encoder_training=frozen", "--audit.datasets=[webgpt,hh-rlhf]", "--audit.precision=auto")
FROZEN += ("--optim.schedule=constant", "--optim.warmup_fraction=0", "--optim.lr_head=0.01")
MLP = ("--model.head=mlp", "--model.head_width=8")


def weights_of(run, name="last.ckpt"):
    return torch.load(run / "checkpoints" / name, weights_only=True)["state_dict"]


def without_cache(prepared, *_):
    return prepared


@pytest.fixture
def pooled(monkeypatch):
    """Numbers of texts that were pooled for the cache, call by call."""
    real, calls = train.feature_cache.pooled_features, []

    def counted(model, input_ids, *rest):
        calls.append(len(input_ids))
        return real(model, input_ids, *rest)

    monkeypatch.setattr(train.feature_cache, "pooled_features", counted)
    return calls


@pytest.fixture
def encoded(monkeypatch):
    """Numbers of texts that went through encoder and pooling, call by call."""
    real, calls = FineTunedEncoder.features, []

    def counted(self, input_ids, attention_mask):
        calls.append(len(input_ids))
        return real(self, input_ids, attention_mask)

    monkeypatch.setattr(FineTunedEncoder, "features", counted)
    return calls


def metrics_of(run):
    rows = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
    return {(row["step"], name): value for row in rows for name, value in row.items() if name != "step"}


@pytest.mark.parametrize("options", [(), (*MLP, "--model.pooling=cls", "--trainer.average_weights=ema")])
def test_the_same_head_comes_out_as_with_the_encoder_in_the_loop(tiny_run, only_run, tmp_path, monkeypatch, options):
    flags = (*FROZEN, *options, "--audit.enabled=false", "--trainer.max_epochs=3", "--model.dropout=0.3")
    assert tiny_run(*flags) == 0
    run = only_run().rename(tmp_path / "cached")
    monkeypatch.setattr(train.fit, "with_cached_features", without_cache)
    assert tiny_run(*flags) == 0
    other = only_run()
    for name in ("last.ckpt", "e001-s000012.ckpt"):
        own, expected = (torch.load(r / "checkpoints" / name, weights_only=True) for r in (run, other))
        assert own.keys() == expected.keys()
        assert own["hyper_parameters"] == expected["hyper_parameters"]
        assert list(own["state_dict"]) == list(expected["state_dict"])
        moved = {"head.weight", "head.bias", "head.0.weight", "head.0.bias", "head.3.weight", "head.3.bias"}
        for key, tensor in expected["state_dict"].items():
            tolerance = 1e-6 if key in moved else 0
            torch.testing.assert_close(own["state_dict"][key], tensor, atol=tolerance, rtol=0)
    own, expected = metrics_of(run), metrics_of(other)
    assert own.keys() == expected.keys()
    timed = [key for key in own if "second" in key[1]]
    np.testing.assert_allclose(
        [own[key] if own[key] is not None else np.nan for key in own if key not in timed],
        [expected[key] if expected[key] is not None else np.nan for key in own if key not in timed],
        atol=1e-4,
    )
    for kind in ("val", "test"):
        tables = [
            pq.read_table(next((r / "predictions").glob(f"*-{kind}.parquet")).parent / f"{best(r)}-{kind}.parquet")
            for r in (run, other)
        ]
        assert tables[0].column_names == tables[1].column_names
        np.testing.assert_allclose(tables[0]["duty"], tables[1]["duty"], atol=1e-5)


def best(run):
    """First digits of the weights that were tested."""
    (path,) = (path for path in (run / "predictions").glob("*-test.parquet"))
    return path.name[:8]


def test_audits_say_what_ordinary_scoring_says(tiny_run, only_run, tmp_path, monkeypatch, pooled):
    new_run, n_pooled = train.fit._new_run, []

    def noted(*arguments):
        n_pooled.append(len(pooled))
        return new_run(*arguments)

    monkeypatch.setattr(train.fit, "_new_run", noted)
    flags = (*FROZEN, "--trainer.max_epochs=1", "--audit.audits=[value-distribution,robustness]")
    flags += ('--audit.rewards=[{"name":"length","kind":"length"}]', "--audit.noise_floor=false")
    flags += ("--audit.rewrite.pairs=4",)
    assert tiny_run(*flags) == 0
    run = only_run().rename(tmp_path / "cached")
    # All before there is a run, those of rewritings too: splits, two corpora, and each of these rewritten.
    assert n_pooled == [len(pooled)] == [5]
    monkeypatch.setattr(train.fit, "with_cached_features", without_cache)
    assert tiny_run(*flags, "--audit.precision=float32") == 0
    items = [
        pd.concat([pd.read_parquet(path) for path in sorted((r / "audits").glob("*-*/decisions.parquet"))])
        for r in (run, only_run())
    ]
    assert items[0]["text_id"].tolist() == items[1]["text_id"].tolist()
    assert any("|rewritten" in name for name in items[0]["dataset"])
    probabilities = [np.stack(own["probabilities"].to_numpy()).astype(np.float64) for own in items]
    # As they are stored: half precision.
    np.testing.assert_allclose(*probabilities, atol=1e-3)
    meta = [json.loads(next((r / "audits").glob("*-*/meta.json")).read_text()) for r in (run, only_run())]
    assert meta[0]["precision"] == meta[1]["precision"] == "float32"


def test_the_encoder_reads_each_text_once_for_all_heads(tiny_run, only_run, tmp_path, pooled, encoded):
    flags = (*FROZEN, "--audit.noise_floor=false")
    assert tiny_run(*flags, "--trainer.max_epochs=2") == 0
    n = sum(pooled)
    # Once for the cache, and for nothing else: not in training, validation, audits or test.
    assert sum(encoded) == n > 140
    for options in (MLP, ("--model.class_weights=sqrt", "--optim.lr_head=0.1", "--trainer.batch_size=7")):
        assert tiny_run(*flags, *options, "--trainer.max_epochs=1") == 0
    assert sum(pooled) == sum(encoded) == n
    assert tiny_run(*flags, "--data.max_length=16", "--audit.enabled=false", "--trainer.max_epochs=1") == 0
    assert sum(pooled) > n


def test_resuming_and_auditing_change_nothing(tiny_run, only_run, tmp_path, counts):
    flags = (*FROZEN, "--model.dropout=0.3", "--audit.noise_floor=false")
    assert tiny_run(*flags, "--trainer.max_epochs=3", "--audit.enabled=false") == 0
    unbroken = only_run().rename(tmp_path / "unbroken")
    assert tiny_run(*flags, "--trainer.max_epochs=1") == 0
    run = only_run()
    assert main(["fit", "--resume", str(run), "--trainer.max_epochs=3"]) == 0
    assert weights_digest(weights_of(run)) == weights_digest(weights_of(unbroken))
    assert len(counts.audits) == 3


def test_a_resumed_run_keeps_the_encoder_it_began_with(tiny_run, only_run, tmp_path, tiny_encoder):
    folder = tmp_path / "encoder"
    shutil.copytree(tiny_encoder, folder)
    assert tiny_run(*FROZEN, f"--model.encoder={folder}", "--trainer.max_epochs=2") == 0
    unbroken = weights_of(only_run())
    only_run().rename(tmp_path / "unbroken")
    assert tiny_run(*FROZEN, f"--model.encoder={folder}", "--trainer.max_epochs=1") == 0
    torch.manual_seed(7)
    BertModel(BertModel.from_pretrained(folder).config).save_pretrained(folder)
    assert main(["fit", "--resume", str(only_run()), "--trainer.max_epochs=2"]) == 0
    assert weights_digest(weights_of(only_run())) == weights_digest(unbroken)


def test_a_later_audit_has_the_key_of_one_in_the_run(tiny_run, only_run, capsys, monkeypatch, encoded):
    # Where the hardware has bf16, `auto` would take it for an encoder that runs at every checkpoint.
    monkeypatch.setattr("models.precision.has_native_bf16", lambda device: True)
    assert tiny_run(*FROZEN, "--trainer.max_epochs=1", "--audit.noise_floor=false") == 0
    run = only_run()
    n = len(encoded)
    assert main(["audit", str(run)]) == 0
    assert "0 audited now, 1 done before" in capsys.readouterr().out
    shutil.rmtree(run / "audits")
    assert main(["audit", str(run), "--pending"]) == 0
    assert "1 audited now" in capsys.readouterr().out
    assert len(encoded) == n
    table = read_table(run / "audits" / "table.parquet")
    checkpoint = str(run / "checkpoints" / "last.ckpt")
    arguments = ["--checkpoint", checkpoint, "--datasets", "webgpt", "hh-rlhf", "--max_length", "64"]
    root = next(line.split(": ")[1] for line in (run / "config.yaml").read_text().splitlines() if "  root: /" in line)
    assert main(["audit", *arguments, "--root", root, "--output", str(run / "alone")]) == 0
    alone = read_table(run / "alone" / "table.parquet")
    assert set(alone["audit_key"].to_pylist()) == set(table["audit_key"].to_pylist())


def test_its_checkpoints_score_texts_by_themselves(tiny_run, only_run, tmp_path, value_imprint_file):
    assert tiny_run(*FROZEN, *MLP, "--trainer.max_epochs=1", "--audit.enabled=false") == 0
    run = only_run()
    shutil.rmtree(tmp_path / "cache")
    rows = pd.read_csv(value_imprint_file)
    rows[["Text"]].rename(columns={"Text": "text"}).to_csv(tmp_path / "texts.csv", index=False)
    output = tmp_path / "scores.parquet"
    checkpoint = run / "checkpoints" / "last.ckpt"
    arguments = ["--checkpoint", str(checkpoint), "--input", str(tmp_path / "texts.csv"), "--output", str(output)]
    assert main(["score", *arguments, "--precision", "float32"]) == 0
    stored = pd.read_parquet(run / "predictions" / f"{best(run)}-test.parquet")
    scored = pd.read_parquet(output)["duty"].to_numpy()
    assert all(np.abs(scored - p).min() < 1e-5 for p in stored["duty"])


@pytest.mark.parametrize("options", [("--model.pooling=attention",), ("--model.head=label-attention",)])
def test_a_head_that_reads_token_states_says_that_nothing_is_cached(tiny_run, tmp_path, capsys, options, pooled):
    assert tiny_run(*FROZEN, *options, "--trainer.max_epochs=1", "--audit.enabled=false") == 0
    assert "frozen encoder, but the head reads token states, which are not cached" in capsys.readouterr().err
    assert not pooled
    assert not list((tmp_path / "cache").glob("*.features.npy"))


def test_bf16_is_taken_where_it_is_asked_for(tiny_run, only_run, capsys):
    assert tiny_run(*FROZEN, "--trainer.max_epochs=1", "--audit.precision=bf16", "--audit.noise_floor=false") == 0
    assert "trained on pooled features (bf16)" in capsys.readouterr().err
    (meta,) = (only_run() / "audits").glob("*-*/meta.json")
    assert json.loads(meta.read_text())["precision"] == "bf16"


def test_runs_of_one_process_share_what_they_read_and_differ_in_nothing(
    tiny_encoder, tiny_root, tmp_path, pooled, monkeypatch
):
    def config(name, **model):
        return Config(
            data=DataConfig(name="value-imprint", root=tiny_root, max_length=48, val_fraction=0.2),
            model=ModelConfig(encoder=str(tiny_encoder), loss="wan", encoder_training="frozen", **model),
            optim=OptimConfig(lr_head=0.01),
            trainer=TrainerConfig(max_epochs=2, batch_size=16, precision="float32"),
            audit=AuditConfig(datasets=["webgpt"], max_length=64, noise_floor=False),
            track=TrackConfig(wandb="disabled"),
            run=RunConfig(experiment=name, root=tmp_path / "runs", cache_dir=tmp_path / "cache"),
        )

    real, n_tokenised = Tokeniser.encode, []

    def counted(self, parts, *rest):
        n_tokenised.append(len(parts))
        return real(self, parts, *rest)

    monkeypatch.setattr(Tokeniser, "encode", counted)
    alone = train.fit.fit(config("alone", dropout=0.4))
    n, n_pooled = len(n_tokenised), len(pooled)
    shared = Shared()
    train.fit.fit(config("first", head="mlp"), shared=shared)
    assert len(n_tokenised) > n
    n = len(n_tokenised)
    again = train.fit.fit(config("again", dropout=0.4), shared=shared)
    assert len(n_tokenised) == n
    assert len(pooled) == n_pooled
    assert again.best.weights == alone.best.weights
    assert (again.run.path / "checkpoints" / "last.ckpt").is_file()
    assert again.test_metrics == pytest.approx(alone.test_metrics, nan_ok=True, abs=0)
    assert again.audit_table.num_rows == alone.audit_table.num_rows
