import json

from train.config import TrackConfig
from train.tracking import LightningTracker, LocalRecord, open_trackers


def test_local_metrics_are_lines_and_undefined_is_null(tmp_path):
    record = LocalRecord(tmp_path / "metrics.jsonl")
    record.log({"val/f1/a": float("nan"), "val/f1/b": 0.5}, step=3, epoch=1)
    LocalRecord(tmp_path / "metrics.jsonl").log({"val/f1/b": 0.6}, step=6)
    lines = [json.loads(line) for line in (tmp_path / "metrics.jsonl").read_text().splitlines()]
    assert lines == [
        {"step": 3, "epoch": 1, "val/f1/a": None, "val/f1/b": 0.5},
        {"step": 6, "epoch": None, "val/f1/b": 0.6},
    ]


def test_lightning_metrics_lose_the_epoch_among_them(tmp_path):
    logger = LightningTracker(LocalRecord(tmp_path / "metrics.jsonl"), "run")
    logger.log_metrics({"train/loss": 1.0, "epoch": 2}, step=5)
    logger.log_metrics({"epoch": 2}, step=6)
    (line,) = (tmp_path / "metrics.jsonl").read_text().splitlines()
    assert json.loads(line) == {"step": 5, "epoch": 2, "train/loss": 1.0}


def test_disabled_means_no_wandb_files(tmp_path):
    tracker = open_trackers(TrackConfig(wandb="disabled"), "run", tmp_path, {}, "x", "fit")
    tracker.log({"a": 1.0}, 1)
    tracker.log_audit({"audit/a": 1.0}, 1)
    tracker.finish(0)
    assert [path.name for path in tmp_path.iterdir()] == ["metrics.jsonl"]
