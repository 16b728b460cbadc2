"""Trials are given out once, whoever asks, and what a dead process left is run again; nothing is trained here."""

import os
import subprocess
import sys
import time

import optuna
import pytest
from optuna.storages import JournalStorage
from optuna.storages.journal import JournalFileBackend
from optuna.trial import TrialState

import experiments.tune_study as tune_study
from experiments.tune_config import StudyConfig, TuneConfig
from experiments.tune_space import read_space
from experiments.tune_study import SeededByNumber, SharedStudy, standing, this_process

SPACE = {"model.dropout": {"low": 0.0, "high": 0.5}, "model.loss": {"choices": ["bce", "wan"]}}
SMALL = {"trainer.batch_size": {"low": 1, "high": 4}, "model.loss": {"choices": ["bce", "wan", "softmax"]}}


@pytest.fixture
def worker(tmp_path):
    """A process that works on the one study; each call gives another look at the same journal."""

    def make(n_trials=6, seed=0, space=SPACE, stale_hours=1.0):
        read = read_space(StudyConfig(tune=TuneConfig(space=space)))
        study = optuna.create_study(
            storage=JournalStorage(JournalFileBackend(str(tmp_path / "journal.log"))),
            study_name="s",
            sampler=SeededByNumber(read, seed),
            direction="maximize",
            load_if_exists=True,
        )
        return SharedStudy(study, read, tmp_path / "folder", n_trials, stale_hours)

    return make


def finish(own, trial, value=None):
    return own.finish(trial, TrialState.COMPLETE, trial.params["model.dropout"] if value is None else value, {})


def work_off(own):
    numbers = []
    while (trial := own.claim()) is not None:
        numbers.append(trial.number)
        finish(own, trial, 0.5)
    return numbers


def params(own):
    return [trial.params for trial in standing(own.study).finished]


def test_trials_are_a_total(worker):
    assert work_off(worker(3)) == [0, 1, 2]
    assert work_off(worker(3)) == []
    assert work_off(worker(5)) == [3, 4]


def test_a_running_trial_is_not_given_out_again(worker):
    one, two = worker(2), worker(2)
    first, second = one.claim(), two.claim()
    assert (first.number, second.number) == (0, 1)
    assert first.params != second.params
    assert one.claim() is None
    assert [trial.number for trial in two.others()] == []
    assert finish(one, first)
    assert one.claim() is None


@pytest.mark.parametrize("n_before", [3, 14])
def test_draws_depend_on_number_and_history_and_on_no_process(worker, tmp_path, n_before):
    work_off(worker(n_before))
    broken = params(worker(16))
    work_off(worker(16))
    resumed = params(worker(16))
    assert resumed[:n_before] == broken
    (tmp_path / "journal.log").unlink()
    work_off(worker(16))
    assert params(worker(16)) == resumed
    assert all(resumed[k] not in resumed[:k] for k in range(16))
    (tmp_path / "journal.log").unlink()
    work_off(worker(16, seed=1))
    assert params(worker(16)) != resumed


def test_a_small_space_is_drawn_without_repetition(worker):
    work_off(worker(12, space=SMALL))
    drawn = [tuple(own.values()) for own in params(worker(12, space=SMALL))]
    assert len(set(drawn)) == 12


def test_settings_that_do_nothing_make_no_distinct_trials(worker):
    width = {"model.head_width": {"choices": [32, 64, 128]}, "model.head": {"choices": ["linear", "mlp"]}}
    own = worker(4, space=width)
    work_off(own)
    assert len({tuple(sorted(own.space.acting(each).items())) for each in params(own)}) == 4


def test_the_plan_is_the_same_whoever_takes_it(worker, tmp_path):
    one, two = worker(6), worker(6)
    one.enqueue_plan(seed=4)
    two.enqueue_plan(seed=4)
    for own in (one, two, two, one, two, one):
        finish(own, own.claim())
    assert (one.claim(), two.claim()) == (None, None)
    assert params(one) == one.space.plan(6, seed=4)
    more = worker(9)
    more.enqueue_plan(seed=4)
    assert work_off(more) == [6, 7, 8]
    assert params(more) == more.space.plan(9, seed=4)


def test_a_plan_that_two_machines_enqueued_counts_once(worker, monkeypatch):
    one = worker(4)
    monkeypatch.setattr(one.study, "get_trials", lambda deepcopy: [])
    one.enqueue_plan(seed=4)
    one.enqueue_plan(seed=4)
    two = worker(4)
    assert len(two.study.get_trials()) == 8
    assert work_off(two) == [0, 1, 2, 3]
    more = worker(6)
    more.enqueue_plan(seed=4)
    assert work_off(more) == [8, 9]
    assert params(more) == more.space.plan(6, seed=4)
    assert sum("withdrawn" in trial.user_attrs for trial in more.study.get_trials()) == 4


def dead_pid():
    process = subprocess.Popen([sys.executable, "-c", ""])
    process.wait()
    return process.pid


def test_the_trial_of_a_dead_process_is_run_again_with_its_settings(worker, monkeypatch):
    dead = this_process() | {"pid": dead_pid()}
    with monkeypatch.context() as patch:
        patch.setattr(tune_study, "this_process", lambda: dead)
        lost = worker(3).claim()
    own = worker(3)
    assert [trial.number for trial in own.others()] == [0]
    assert own.recover() == [0]
    assert own.recover() == []
    again = own.claim()
    assert (again.number, again.params) == (1, lost.params)
    assert again.user_attrs["retry_of"] == 0
    finish(own, again)
    assert work_off(own) == [2, 3]
    assert [trial.number for trial in standing(own.study).finished] == [1, 2, 3]


def test_a_planned_trial_keeps_its_place_however_often_it_is_lost(worker):
    own = worker(3)
    own.enqueue_plan(seed=4)
    first = own.claim()
    own.run_again(first.number)
    for _ in range(2):
        finish(own, own.claim())
    second = own.claim()
    assert (second.number, second.params) == (3, first.params)
    own.run_again(second.number)
    assert work_off(own) == [4]
    found = {trial.user_attrs["planned"]: trial.params for trial in standing(own.study).finished}
    assert [found[k] for k in range(3)] == own.space.plan(3, seed=4)


def test_a_process_that_was_born_again_under_the_same_number_is_another(worker, monkeypatch):
    earlier = this_process() | {"born": "before"}
    with monkeypatch.context() as patch:
        patch.setattr(tune_study, "this_process", lambda: earlier)
        worker(3).claim()
    assert worker(3).recover() == [0]


def test_a_living_process_is_left_alone(worker, monkeypatch):
    process = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(60)"])
    try:
        other = this_process() | {"pid": process.pid, "born": tune_study._birth(process.pid)}
        with monkeypatch.context() as patch:
            patch.setattr(tune_study, "this_process", lambda: other)
            worker(3).claim()
        assert worker(3).recover() == []
        process.kill()
        process.wait()
        assert worker(3).recover() == [0]
    finally:
        process.kill()


@pytest.mark.parametrize(("seen", "lost"), [(10, []), (4000, [0])])
def test_a_trial_of_another_machine_is_lost_after_hours_without_a_sign_of_life(worker, monkeypatch, seen, lost):
    far = this_process() | {"host": "far away", "since": time.time() - 90_000}
    with monkeypatch.context() as patch:
        patch.setattr(tune_study, "this_process", lambda: far)
        worker(3).claim().set_user_attr("seen", time.time() - seen)
    assert worker(3, stale_hours=1.0).recover() == lost


def test_a_result_that_comes_after_the_trial_was_given_up_does_not_count(worker):
    own = worker(2)
    slow = own.claim()
    own.run_again(slow.number)
    assert not finish(own, slow, 9.0)
    work_off(own)
    assert [(t.number, t.value) for t in standing(own.study).finished] == [(1, 0.5), (2, 0.5)]


def test_two_machines_that_take_the_last_trial_at_once_do_not_both_count(worker, monkeypatch):
    one, two = worker(1), worker(1)
    real = two.study.ask

    def late(distributions):
        first.append(one.claim())
        return real(distributions)

    first = []
    monkeypatch.setattr(two.study, "ask", late)
    monkeypatch.setattr(tune_study.os, "open", lambda *_: os.dup(0))  # no lock that both know
    import fcntl

    monkeypatch.setattr(fcntl, "flock", lambda *_: None)
    assert two.claim() is None
    assert first[0].number == 0
    assert len(standing(two.study).running) == 1


def test_what_dies_between_enqueuing_and_giving_up_is_not_enqueued_twice(worker, monkeypatch):
    own = worker(2)
    trial = own.claim()
    monkeypatch.setattr(own.study, "tell", lambda *_, **__: (_ for _ in ()).throw(KeyboardInterrupt))
    with pytest.raises(KeyboardInterrupt):
        own.run_again(trial.number)
    other = worker(2)
    assert work_off(other) == [1, 2]
    assert standing(other.study).finished[0].params == trial.params
