import json

import pytest

from datamodules.errors import InputError
from train.ledger import Ledger


def test_one_set_of_weights_with_two_files_is_one_checkpoint(tmp_path):
    ledger = Ledger(tmp_path / "ledger.jsonl")
    ledger.record_seen("w1", 10, 1.0, "a.ckpt")
    ledger.record_seen("w1", 10, 1.0, "last.ckpt")
    ledger.record_seen("w2", 20, 2.0, "b.ckpt")
    ledger.record_seen("w2", 20, 2.0, "last.ckpt")
    assert [(seen.weights, seen.paths) for seen in ledger.checkpoints] == [
        ("w1", ["a.ckpt"]),
        ("w2", ["b.ckpt", "last.ckpt"]),
    ]
    assert ledger.latest.weights == "w2"


def test_it_is_read_back_and_only_appended_to(tmp_path):
    path = tmp_path / "ledger.jsonl"
    ledger = Ledger(path)
    ledger.record_seen("w1", 10, 1.0, "a.ckpt")
    ledger.record_audit("w1", "k1", "running")
    assert not ledger.is_done("w1", "k1")
    before = path.read_text()
    again = Ledger(path)
    again.record_audit("w1", "k1", "done", path="audits/w1-k1")
    assert path.read_text().startswith(before)
    final = Ledger(path)
    assert final.is_done("w1", "k1")
    assert not final.is_done("w1", "k2")
    assert final.has_done("w1")
    assert final.newest_audits == ["audits/w1-k1"]


def test_a_failed_audit_is_not_done(tmp_path):
    ledger = Ledger(tmp_path / "ledger.jsonl")
    ledger.record_audit("w1", "k1", "running")
    ledger.record_audit("w1", "k1", "failed", error="x")
    assert not ledger.has_done("w1")


def test_half_a_line_of_a_killed_process_is_passed_over(tmp_path):
    path = tmp_path / "ledger.jsonl"
    Ledger(path).record_seen("w1", 10, 1.0, "a.ckpt")
    path.write_text(path.read_text() + '{"state": "se')
    ledger = Ledger(path)
    ledger.record_seen("w2", 20, 2.0, "b.ckpt")
    lines = path.read_text().splitlines()
    assert json.loads(lines[-1])["weights"] == "w2"
    assert [seen.weights for seen in Ledger(path).checkpoints] == ["w1", "w2"]


def test_a_line_that_is_no_entry_is_told(tmp_path):
    path = tmp_path / "ledger.jsonl"
    path.write_text('{"state": "seen"}\n{"state": "done", "weights": "a", "audit_key": "k", "path": "p"}\n')
    with pytest.raises(InputError, match="line 1, which is not a ledger entry"):
        Ledger(path)


def test_a_name_that_was_written_again_holds_the_newest_weights_also_after_a_reload(tmp_path):
    path = tmp_path / "ledger.jsonl"
    ledger = Ledger(path)
    for step in (1, 2, 3):
        ledger.record_seen(f"w{step}", step, float(step), f"{step}.ckpt")
        ledger.record_seen(f"w{step}", step, float(step), "last.ckpt")
    expected = [["1.ckpt"], ["2.ckpt"], ["3.ckpt", "last.ckpt"]]
    assert [seen.paths for seen in ledger.checkpoints] == expected
    assert [seen.paths for seen in Ledger(path).checkpoints] == expected


def test_the_newest_audit_of_a_checkpoint_is_the_one_that_counts(tmp_path):
    ledger = Ledger(tmp_path / "ledger.jsonl")
    for key in ("k1", "k2"):
        ledger.record_audit("w1", key, "done", path=f"audits/w1-{key}")
    ledger.record_audit("w2", "k1", "done", path="audits/w2-k1")
    assert ledger.newest_audits == ["audits/w1-k2", "audits/w2-k1"]
