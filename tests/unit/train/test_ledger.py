import errno
import json

import pytest

import train.ledger
from datamodules.errors import InputError
from train.ledger import Ledger, append_text


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
    ledger.begin_audit("w1", "k1")
    assert not ledger.is_done("w1", "k1")
    before = path.read_text()
    again = Ledger(path)
    again.end_audit("w1", "k1", "done", path="audits/w1-k1")
    assert path.read_text().startswith(before)
    final = Ledger(path)
    assert final.is_done("w1", "k1")
    assert not final.is_done("w1", "k2")
    assert final.has_done("w1")
    assert final.newest_audits == ["audits/w1-k1"]


def test_a_failed_audit_is_not_done(tmp_path):
    ledger = Ledger(tmp_path / "ledger.jsonl")
    ledger.begin_audit("w1", "k1")
    ledger.end_audit("w1", "k1", "failed", error="x")
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
        ledger.end_audit("w1", key, "done", path=f"audits/w1-{key}")
    ledger.end_audit("w2", "k1", "done", path="audits/w2-k1")
    assert ledger.newest_audits == ["audits/w1-k2", "audits/w2-k1"]


def test_opening_a_ledger_changes_nothing(tmp_path):
    path = tmp_path / "ledger.jsonl"
    Ledger(path).record_seen("w1", 10, 1.0, "a.ckpt")
    path.write_text(path.read_text() + '{"state": "se')
    before = path.read_bytes()
    assert [seen.weights for seen in Ledger(path).checkpoints] == ["w1"]
    assert path.read_bytes() == before


def test_deaths_are_audits_without_an_end(tmp_path):
    path = tmp_path / "ledger.jsonl"
    ledger = Ledger(path)
    ledger.begin_audit("w1", "k1")
    ledger.end_audit("w1", "k1", "failed", error="x")
    assert Ledger(path).deaths("w1", "k1") == 0
    for n in (1, 2):
        Ledger(path).begin_audit("w1", "k1")
        assert Ledger(path).deaths("w1", "k1") == n
    Ledger(path).end_audit("w1", "k1", "failed", error="2 processes died in it", deaths=2)
    assert Ledger(path).deaths("w1", "k1") == 2
    assert Ledger(path).is_failed("w1", "k1")
    assert Ledger(path).deaths("w1", "k2") == 0
    # Forced, and it raises: that is an end, and says nothing about those before.
    ledger = Ledger(path)
    ledger.begin_audit("w1", "k1")
    ledger.end_audit("w1", "k1", "failed", error="x")
    assert Ledger(path).deaths("w1", "k1") == 2


def test_what_cannot_be_written_counts_here_and_is_written_with_the_next(tmp_path, monkeypatch):
    path = tmp_path / "ledger.jsonl"
    ledger = Ledger(path)
    with monkeypatch.context() as patch:

        def full(path, text):
            append_text(path, text[:5])
            raise OSError(errno.ENOSPC, "No space left on device")

        patch.setattr(train.ledger, "append_text", full)
        message = (
            r"ledger\.jsonl, where writing failed \(No space left on device; .* MB free\).*imprint audit .* --pending"
        )
        with pytest.raises(InputError, match=message):
            ledger.record_seen("w1", 10, 1.0, "a.ckpt")
        with pytest.raises(InputError, match=message):
            ledger.begin_audit("w1", "k1")
    assert ledger.checkpoints[0].weights == "w1"
    assert ledger.deaths("w1", "k1") == 0, "an audit that is not recorded must not begin"
    assert ledger.n_unwritten == 1
    assert Ledger(path).checkpoints == []
    ledger.begin_audit("w1", "k1")
    assert ledger.n_unwritten == 0
    assert [json.loads(line)["state"] for line in path.read_text().splitlines()] == ["seen", "running"]


def test_a_ledger_that_is_no_file_is_told(tmp_path):
    (tmp_path / "ledger.jsonl").mkdir()
    with pytest.raises(InputError, match=r"which cannot be read .*Is a directory"):
        Ledger(tmp_path / "ledger.jsonl")


def test_a_parents_audits_are_done_and_not_this_runs_own(tmp_path):
    parent = Ledger(tmp_path / "parent.jsonl")
    parent.record_seen("w1", 10, 1.0, "a.ckpt")
    parent.end_audit("w1", "k1", "done", path="audits/w1-k1")
    child = Ledger(tmp_path / "child.jsonl")
    child.record_parent(tmp_path, "w1", 10, parent)
    grandchild = Ledger(tmp_path / "grandchild.jsonl")
    grandchild.record_parent(tmp_path, "w1", 10, Ledger(tmp_path / "child.jsonl"))
    for ledger in (child, Ledger(tmp_path / "child.jsonl"), grandchild):
        assert ledger.is_done("w1", "k1")
        assert not ledger.is_done("w1", "k2")
        assert ledger.has_done("w1")
        assert ledger.is_of_parent("w1")
        assert ledger.checkpoints == []
        assert ledger.newest_audits == []
        assert ledger.audit_path("w1", "k1") is None
        before = ledger.path.read_bytes()
        ledger.make_newest("w1", "k1")
        assert ledger.path.read_bytes() == before
