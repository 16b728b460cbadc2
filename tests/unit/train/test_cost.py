import json
import math

import pytest

from datamodules.errors import InputError
from train.cost import audit_seconds, read_cost, record_scoring, recorded_training
from train.ledger import Ledger
from train.run_directory import RunDirectory


@pytest.fixture
def run(tmp_path):
    (tmp_path / "env.json").write_text('{"device": "cpu", "parent": null, "parameters": {"total": 50, "trainable": 5}}')
    return RunDirectory(tmp_path)


@pytest.fixture
def clock(monkeypatch):
    """A clock that is set by hand."""
    now = [1000.0]
    monkeypatch.setattr("time.time", lambda: now[0])
    monkeypatch.setattr("time.perf_counter", lambda: now[0])
    return now


def audit(run, clock, weights, seconds, state="done"):
    ledger = Ledger(run.ledger_file)
    ledger.begin_audit(weights, "key")
    clock[0] += seconds
    ledger.end_audit(weights, "key", state, **({"path": f"audits/{weights}"} if state == "done" else {"error": "x"}))


def test_training_is_what_sessions_took_without_their_audits(run, clock):
    audit(run, clock, "before", 7)
    with recorded_training(run):
        clock[0] += 10
        audit(run, clock, "a", 3)
        clock[0] += 5
    clock[0] += 100
    with recorded_training(run):
        clock[0] += 2
    audit(run, clock, "b", 4, state="failed")
    record_scoring(run, 400, 2.0)
    cost = read_cost(run)
    assert cost.training_seconds == pytest.approx(17)
    assert cost.audit_seconds == pytest.approx(14)
    assert cost.texts_per_second == pytest.approx(200)
    assert (cost.n_parameters, cost.n_trainable, cost.device) == (50, 5, "cpu")


def test_an_interrupted_session_counts_and_a_killed_one_makes_the_time_unknown(run, clock):
    def interrupted():
        with recorded_training(run):
            clock[0] += 6
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        interrupted()
    assert read_cost(run).training_seconds == pytest.approx(6)
    path = run.path / "cost.json"
    content = json.loads(path.read_text())
    content["sessions"][0]["seconds"] = None
    path.write_text(json.dumps(content))
    with recorded_training(run):
        clock[0] += 1
    assert math.isnan(read_cost(run).training_seconds)


def test_a_killed_session_leaves_its_beginning(run, clock):
    with recorded_training(run):
        written = json.loads((run.path / "cost.json").read_text())
    assert written["sessions"] == [{"started": 1000.0, "seconds": None, "audit_seconds": None}]


def test_what_was_not_recorded_is_unknown(run):
    cost = read_cost(run)
    assert math.isnan(cost.training_seconds)
    assert math.isnan(cost.texts_per_second)
    assert cost.audit_seconds == 0.0
    record_scoring(run, 400, None)
    assert math.isnan(read_cost(run).texts_per_second)
    (run.path / "env.json").write_text('{"device": "cpu"}')
    assert read_cost(run).n_parameters is None


def test_a_run_that_goes_on_from_another_has_part_of_the_time(run, clock):
    with recorded_training(run):
        clock[0] += 1
    (run.path / "env.json").write_text('{"device": "cpu", "parent": {"run_id": "x"}}')
    assert math.isnan(read_cost(run).training_seconds)


def test_audits_that_did_not_end_or_have_no_time_count_nothing(tmp_path):
    path = tmp_path / "ledger.jsonl"
    assert audit_seconds(path) == 0.0
    lines = [
        {"state": "running", "weights": "a", "audit_key": "k", "time": 5.0},
        {"state": "running", "weights": "a", "audit_key": "k", "time": 8.0},
        {"state": "done", "weights": "a", "audit_key": "k", "path": "x", "time": 9.5},
        {"state": "running", "weights": "b", "audit_key": "k"},
        {"state": "done", "weights": "b", "audit_key": "k", "path": "x"},
        {"state": "running", "weights": "c", "audit_key": "k", "time": 20.0},
    ]
    path.write_text("".join(json.dumps(line) + "\n" for line in lines) + '{"state": "torn')
    assert audit_seconds(path) == pytest.approx(1.5)
    assert audit_seconds(path, since=8.5) == 0.0


@pytest.mark.parametrize("content", ["[]", '{"sessions": [{}]}', '{"scoring": {"n_texts": 1}}', '{"sessions": 3}', "{"])
def test_a_damaged_file_is_told(run, content):
    (run.path / "cost.json").write_text(content)
    with pytest.raises(InputError, match=r"cost\.json"):
        read_cost(run)
