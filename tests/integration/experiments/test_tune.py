"""A search through the real command line: finished runs, totals, resuming, repeating, failing, choosing."""

import csv
import json
import os
import shlex
import signal
import subprocess
import sys
import time
from pathlib import Path

import optuna
import pytest
import yaml
from optuna.storages import JournalStorage
from optuna.storages.journal import JournalFileBackend

import experiments.tune_reproduce
from datamodules.errors import InputError
from datamodules.files import digest_of
from experiments.cli import main
from experiments.tune_config import StudyConfig, TuneConfig
from experiments.tune_space import read_space
from train.tracking import Trackers

SPACE = {
    "optim.lr_head": {"low": 1.0e-4, "high": 1.0e-1, "log": True},
    "model.dropout": {"low": 0.0, "high": 0.5},
    "model.loss": {"choices": ["bce", "wan"]},
}


def flags_in(path, encoder, root):
    """Give flags of `imprint tune` in the tiny world, with all files under `path`; takes the section `tune`."""

    def make(space=None, **tune):
        content = {
            "data": {"name": "valueeval", "max_length": 48, "val_fraction": 0.2},
            "trainer": {"max_epochs": 2, "batch_size": 16, "limit_train_batches": 3, "precision": "float32"},
            "audit": {"datasets": ["webgpt"], "max_length": 64, "precision": "float32", "noise_floor": False},
            "track": {"wandb": "disabled"},
            "run": {"experiment": "s"},
            "tune": {"space": SPACE if space is None else space, "audit": "none", **tune},
        }
        file = path / f"tune-{digest_of(content)[:8]}.yaml"
        file.write_text(yaml.safe_dump(content))
        where = [f"--run.root={path / 'runs'}", f"--run.cache_dir={path / 'cache'}"]
        return ["tune", f"--config={file}", f"--model.encoder={encoder}", f"--data.root={root}", *where]

    return make


@pytest.fixture
def flags(tiny_encoder, tiny_root, tmp_path):
    return flags_in(tmp_path, tiny_encoder, tiny_root)


@pytest.fixture
def folder(tmp_path):
    return tmp_path / "runs" / "s"


@pytest.fixture(scope="module")
def finished(tiny_encoder, tiny_root, tmp_path_factory):
    """Flags and folder of a study of three trials, to which no test adds one."""
    path = tmp_path_factory.mktemp("study")
    make = flags_in(path, tiny_encoder, tiny_root)
    assert main([*make(), "--trials=2"]) == 0
    first = rows(path / "runs" / "s")
    assert main([*make(), "--trials=3"]) == 0
    assert rows(path / "runs" / "s")[:2] == first
    return make, path / "runs" / "s"


def rows(folder):
    with (folder / "trials.csv").open(newline="") as file:
        return list(csv.DictReader(file))


def runs(folder):
    return sorted((folder / "trials").iterdir())


def settings_of(row):
    return tuple(row[name] for name in SPACE)


def test_trials_are_finished_runs(finished):
    _, folder = finished
    assert len(runs(folder)) == 3
    for number, run in enumerate(runs(folder)):
        config = yaml.safe_load((run / "config.yaml").read_text())
        assert config["track"]["group"] == "s"
        assert config["track"]["tags"] == [f"trial-{number}"]
        assert config["audit"]["enabled"] is False
        assert any("test/ap_macro" in json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines())
        trial = json.loads((run / "trial.json").read_text())
        assert (trial["study"], trial["number"], trial["state"]) == ("s", number, "complete")
        for name, value in trial["settings"].items():
            section, setting = name.split(".")
            assert config[section][setting] == value
    assert len({settings_of(row) for row in rows(folder)}) == 3
    report = json.loads((folder / "study.json").read_text())
    assert report["optuna"] == optuna.__version__


def test_a_total_that_is_reached_is_reported_again_and_the_best_is_repeated(finished, capsys):
    make, folder = finished
    command, before = make(), rows(folder)
    assert main([*command, "--trials=3"]) == 0
    captured = capsys.readouterr()
    assert "all 3 trials are finished: a larger --trials" in captured.err
    assert "3 trials finished: 3 complete" in captured.out
    *lines, reproduction = captured.out.splitlines()
    assert max(len(line) for line in lines if str(folder) not in line) <= 100
    # Fewer than there are: meant as new ones, which --trials does not count.
    assert main([*command, "--trials=2"]) == 2
    error = capsys.readouterr().err.splitlines()[-1]
    assert "found --trials 2, and 3 trials of study s that are finished" in error
    assert "--trials 5 for 2 more, or 3 to report again" in error
    assert rows(folder) == before

    best = max(before, key=lambda row: float(row["value"]))
    # The command that was printed at the end.
    program, *again = shlex.split(reproduction)
    assert program == "imprint"
    assert main(again) == 0
    out = capsys.readouterr().out
    assert out.startswith(f"trial {best['trial']}, seed 0: stored val/ap_macro {best['value']}, now {best['value']}: ")
    assert "the same (the same weights)" in out
    assert out.splitlines()[1].strip() in [str(run) for run in (folder / "reproduced").iterdir()]
    assert len(runs(folder)) == 3


@pytest.mark.slow
def test_repetition_in_a_process_of_its_own_and_of_every_seed(flags, folder):
    command = flags(seeds=2)
    assert main([*command, "--trials=1"]) == 0
    assert [run.name.split("-")[2] for run in runs(folder)] == ["s0", "s1"]
    (row,) = rows(folder)
    study = optuna.load_study(study_name="s", storage=JournalStorage(JournalFileBackend(str(folder / "journal.log"))))
    values = study.trials[0].user_attrs["values"]
    assert len(set(values)) == 2
    assert float(row["value"]) == pytest.approx(sum(values) / 2)
    (process,) = processes([*command, "--reproduce=0"], 1)
    told, _ = process.communicate(timeout=250)
    assert process.returncode == 0, told
    assert [f"now {value!r}: the same" in told for value in values] == [True, True]


def test_another_value_is_told_and_is_no_success(finished, monkeypatch, capsys):
    real = experiments.tune_reproduce.run_seeds

    def other(*arguments):
        outcome = real(*arguments)
        outcome.values = [value + 1e-9 for value in outcome.values]
        return outcome

    monkeypatch.setattr(experiments.tune_reproduce, "run_seeds", other)
    make, _ = finished
    assert main([*make(), "--reproduce=0"]) == 1
    out = capsys.readouterr().out
    assert "DIFFERENT" in out
    assert "machine and versions are the same" in out


@pytest.mark.parametrize(
    ("more", "found", "fix"),
    [
        (["--reproduce=7"], "no complete trial 7 in study s", "--reproduce"),
        (["--reproduce=first"], "'first'", "best, or the number"),
        (["--study=other", "--reproduce=best"], "no study in", "--study"),
    ],
)
def test_what_cannot_be_repeated(finished, capsys, more, found, fix):
    make, _ = finished
    assert main([*make(), *more]) == 2
    error = capsys.readouterr().err.splitlines()[-1]
    assert found in error
    assert fix in error


# One with which something is learnt, and one with which nothing is.
TWO_RATES = {"optim.lr_head": {"choices": [0.05, 1.0e-9]}}


def test_a_pruned_trial_is_a_finished_run_that_read_no_test(flags, folder, monkeypatch, capsys):
    states = []
    real = Trackers.finish

    def finish(self, exit_code, state=""):
        states.append((exit_code, state))
        real(self, exit_code, state)

    monkeypatch.setattr(Trackers, "finish", finish)
    command = flags(TWO_RATES, pruner_startup=1, pruner_warmup=0, audit="all")
    seed = next(s for s in range(9) if first_of_plan(s) == 0.05)
    assert main([*command, "--trials=2", "--plan=frozen", f"--seed={seed}", "--optim.lr_encoder=0"]) == 0
    assert states[:2] == [(0, ""), (0, "pruned")]
    assert [row["state"] for row in rows(folder)] == ["complete", "pruned"]
    assert [row["validations"] for row in rows(folder)] == ["2", "1"]
    whole, pruned = runs(folder)
    logged = [json.loads(line) for line in (pruned / "metrics.jsonl").read_text().splitlines()]
    assert sum("val/ap_macro" in row for row in logged) == 1
    assert not any(name.startswith("test/") for row in logged for name in row)
    assert json.loads((pruned / "trial.json").read_text())["state"] == "pruned"
    assert len(list((pruned / "thresholds").iterdir())) == 1
    # Whatever the policy: what was stopped is not audited.
    assert not (pruned / "audits").exists() or not any((pruned / "audits").glob("*-*"))
    assert len(list((whole / "audits").glob("*-*"))) == 2
    assert "1 complete, 1 pruned" in capsys.readouterr().out
    capsys.readouterr()
    assert main([*command, "--reproduce=1"]) == 2
    assert "no complete trial 1" in capsys.readouterr().err


def first_of_plan(seed):
    return read_space(StudyConfig(tune=TuneConfig(space=TWO_RATES))).plan(1, seed)[0]["optim.lr_head"]


def test_a_trial_that_fails_is_told_and_the_study_goes_on(flags, folder, capsys):
    space = {"optim.lr_encoder": {"choices": [2.0e-4, 1.0e30]}}
    assert main([*flags(space), "--trials=2"]) == 0
    captured = capsys.readouterr()
    assert "2 trials finished: 1 complete, 1 failed" in captured.out
    assert "Traceback" not in captured.err
    (failed,) = (row for row in rows(folder) if row["state"] == "failed")
    assert "training has diverged" in failed["error"]
    assert failed["value"] == ""
    (run,) = (run for run in runs(folder) if json.loads((run / "trial.json").read_text())["state"] == "failed")
    assert str(run) == failed["runs"]


def test_an_error_that_nobody_foresaw_fails_its_trial_with_a_traceback(flags, folder, monkeypatch, capsys):
    import experiments.tune_trial

    real, calls = experiments.tune_trial.fit, []

    def fit(config, **others):
        calls.append(config)
        if len(calls) == 1:
            raise RuntimeError("out of memory, say")
        return real(config, **others)

    monkeypatch.setattr(experiments.tune_trial, "fit", fit)
    assert main([*flags(), "--trials=2"]) == 0
    assert "RuntimeError: out of memory, say" in capsys.readouterr().err
    assert [row["state"] for row in rows(folder)] == ["failed", "complete"]
    assert rows(folder)[0]["error"] == "RuntimeError: out of memory, say"


def test_when_the_first_trials_fail_alike_the_study_stops(flags, folder, capsys):
    space = {"optim.lr_encoder": {"choices": [1.0e30, 1.0e31, 1.0e32, 1.0e33]}}
    assert main([*flags(space), "--trials=4"]) == 2
    error = capsys.readouterr().err.splitlines()[-1]
    assert error.startswith("imprint: error: found all 3 trials so far failed alike: scores that are not finite")
    assert "--study NAME" in error
    assert len(runs(folder)) == 3


@pytest.mark.parametrize("why", ["failed", "pruned"])
def test_a_study_without_any_value_is_an_error(flags, folder, monkeypatch, capsys, why):
    import experiments.tune_trial

    def fit(config, **others):
        raise optuna.TrialPruned if why == "pruned" else InputError("no value of val/x", "one", "--x")

    monkeypatch.setattr(experiments.tune_trial, "fit", fit)
    assert main([*flags(), "--trials=2"]) == 2
    error = capsys.readouterr().err.splitlines()[-1]
    assert f"found no trial of study s with a value (2 {why}" in error
    assert ("--tune.pruner none" if why == "pruned" else "the first failed of: found no value of val/x") in error
    assert "--study NAME" in error
    assert [row["state"] for row in rows(folder)] == [why] * 2


def test_a_storage_that_fails_on_the_way_is_no_failure_of_a_trial(flags, folder, monkeypatch, capsys):
    import experiments.tune_trial

    def fit(config, **others):
        raise OSError(30, "the journal's disk is read-only now")

    command = flags()
    with monkeypatch.context() as patch:
        patch.setattr(experiments.tune_trial, "fit", fit)
        assert main([*command, "--trials=1"]) == 2
    error = capsys.readouterr().err
    assert "journal.log, where writing failed (Read-only file system" in error
    assert "Traceback" not in error
    assert main([*command, "--trials=1"]) == 0
    assert [row["state"] for row in rows(folder)] == ["complete"]


def test_a_full_disk_is_no_failure_of_a_trial(flags, folder, monkeypatch, capsys):
    import experiments.tune_trial
    from datamodules.storage import writing

    real, calls = experiments.tune_trial.fit, []

    def fit(config, **others):
        calls.append(config)
        if len(calls) == 1:
            with writing(config.run.root, "start again"):
                raise OSError(28, "no space")
        return real(config, **others)

    monkeypatch.setattr(experiments.tune_trial, "fit", fit)
    command = flags()
    assert main([*command, "--trials=2"]) == 2
    assert "where writing failed (No space left on device" in capsys.readouterr().err
    assert main([*command, "--trials=2"]) == 0
    assert [row["state"] for row in rows(folder)] == ["complete"] * 2
    settings = [(config.optim.lr_head, config.model.dropout, config.model.loss) for config in calls]
    assert settings[0] == settings[1]
    assert "1 stopped with their process and were run again" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("space", "tune", "more", "found", "fix"),
    [
        ({"model.los": {"choices": ["bce"]}}, {}, [], "model.los, which names no setting", "model.los"),
        ({"optim.lr_head": {"low": 0, "high": 0.1, "log": True}}, {}, [], "log and low 0", "optim.lr_head"),
        (SPACE, {"metric": "val/nothing"}, [], "val/nothing, which does not exist", "--tune.metric"),
        (SPACE, {"seeds": 0}, [], "tune.seeds 0", "--tune.seeds"),
        (SPACE, {"max_instability": 0.1}, [], "without audits", "--tune.audit"),
        (SPACE, {"max_instability": 0.1, "audit": "all"}, ["--trainer.save_top_k=1"], "one checkpoint", "save_top_k"),
        (SPACE, {"audit": "all"}, ["--audit.audits=[nonsense]"], "audit 'nonsense'", "--audit.audits"),
        (SPACE, {"audit": "all"}, ["--audit.datasets=[nonsense]"], "nonsense", "name one of these data sets"),
        ({"model.loss": {"choices": ["bce", "wan"]}}, {}, [], "2 distinct settings for 3 trials", "--trials 2"),
        (SPACE, {}, ["--trials=0"], "--trials 0", "--trials"),
        (SPACE, {}, ["--storage=nonsense"], "storage 'nonsense'", "--storage"),
        (SPACE, {}, ["--storage=nodb://a:secret@b/c"], "nodb://a:***@b/c", "--storage"),
        (SPACE, {}, ["--storage=journal:/dev/null/x/j.log"], "/dev/null/x/j.log, where writing failed", "mend that"),
        (SPACE, {}, ["--storage=sqlite:////dev/null/x.db"], "x.db, which cannot be opened", "--storage"),
        (SPACE, {}, ["--study=a b"], "'a b", "--study"),
        (SPACE, {}, ["--plan=grid"], "grid", "--plan"),
        (SPACE, {"pruner": "random"}, [], "random", "tune"),
        (SPACE, {"prunner": "none"}, [], "tune.prunner", "edit"),
    ],
)
def test_a_mistake_is_told_before_anything_is_written(flags, tmp_path, capsys, space, tune, more, found, fix):
    assert main([*flags(space, **tune), "--trials=3", *more]) == 2
    error = capsys.readouterr().err
    assert "Traceback" not in error
    (message,) = (line for line in error.splitlines() if line.startswith("imprint: error:"))
    assert found in message
    assert fix in message
    assert "secret" not in error
    assert not (tmp_path / "runs").exists() or not list((tmp_path / "runs").rglob("*.log"))


@pytest.mark.parametrize(
    ("more", "found"),
    [
        (["--optim.weight_decay=0.2"], "optim.weight_decay was 0.01 and is 0.2"),
        (["--data.split_seed=3"], "other texts, labels or splits"),
        (["--run.seed=3"], "run.seed 3 in a study that began with 0"),
        (["--seed=3"], "seed 3 in a study that began with 0"),
        (["--plan=frozen"], "plan frozen in a study that began with tpe"),
        (["--tune.metric=val/loss"], "tune.metric val/loss in a study"),
        ([], "tune.space than study s began with: model.dropout was"),
    ],
)
def test_a_study_goes_on_only_with_what_it_began_with(finished, capsys, more, found):
    make, folder = finished
    before = (folder / "journal.log").read_bytes()
    space = SPACE if more else {**SPACE, "model.dropout": {"low": 0.0, "high": 0.4}}
    assert main([*make(space), *more, "--trials=4"]) == 2
    error = capsys.readouterr().err.splitlines()[-1]
    assert found in error
    assert "--study NAME" in error
    assert (folder / "journal.log").read_bytes() == before


def test_what_does_not_change_trials_may_change(finished):
    make, _ = finished
    assert main([*make(top_k=2), "--trials=3", "--track.tags=[x]", "--run.progress=off"]) == 0


def test_less_is_better_of_an_error(flags, folder):
    assert main([*flags(metric="val/loss"), "--trials=2"]) == 0
    report = json.loads((folder / "study.json").read_text())
    assert report["direction"] == "minimize"
    assert report["best"]["value"] == min(float(row["value"]) for row in rows(folder))
    config = yaml.safe_load((runs(folder)[0] / "config.yaml").read_text())
    assert config["trainer"]["monitor"] == "val/loss"


def audited(run):
    return len(list((run / "audits").glob("*-*"))) if (run / "audits").exists() else 0


def test_the_second_stage_keeps_the_best_from_being_chosen(finished, capsys):
    make, folder = finished
    ranked = sorted(rows(folder), key=lambda row: -float(row["value"]))
    eces = [float(row["val/ece_macro"]) for row in ranked]
    # A limit that some pass and some do not.
    limit = sum(sorted(eces)[:2]) / 2
    passing = [row["trial"] for row, ece in zip(ranked, eces, strict=True) if ece <= limit]
    assert len(passing) == 1
    command = make(max_ece=limit)
    assert main([*command, "--trials=3"]) == 0
    report = json.loads((folder / "study.json").read_text())
    assert report["chosen"]["trial"] == int(passing[0])
    assert report["best"]["trial"] == int(ranked[0]["trial"])
    assert [own["passes"] for own in report["second_stage"]] == [ece <= limit for ece in eces]
    assert "does not pass" in capsys.readouterr().out
    assert main([*command, "--reproduce=best"]) == 0
    assert f"trial {passing[0]}, seed" in capsys.readouterr().out
    assert main([*make(max_ece=0.0), "--trials=3"]) == 0
    assert json.loads((folder / "study.json").read_text())["chosen"] is None
    assert "none of the best 3 trials passes" in capsys.readouterr().out


def test_instability_is_measured_on_the_audits_of_the_best_trials(flags, folder):
    command = flags(audit="best-only", max_instability=1.0, top_k=1)
    assert main([*command, "--trials=2"]) == 0
    report = json.loads((folder / "study.json").read_text())
    (best,) = report["second_stage"]
    assert 0 <= best["instability"] <= 1
    assert best["passes"]
    assert sorted(audited(run) for run in runs(folder)) == [0, 2]


def processes(command, n, **options):
    whole = [sys.executable, "-m", "experiments.cli", *command]
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    return [
        subprocess.Popen(whole, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, env=environment, **options)
        for _ in range(n)
    ]


def counted(folder):
    return [row for row in rows(folder) if row["state"] in ("complete", "pruned")]


@pytest.mark.slow
@pytest.mark.parametrize("plan", ["tpe", "frozen"])
def test_two_processes_share_a_study(flags, folder, plan):
    command = [*flags(), "--trials=8", f"--plan={plan}"]
    both = processes(command, 2)
    told = [process.communicate(timeout=280)[0] for process in both]
    assert [process.returncode for process in both] == [0, 0], told
    found = counted(folder)
    assert len(found) == len({settings_of(row) for row in found}) == len(runs(folder)) == 8
    # Each took some.
    assert all(": val/ap_macro" in text for text in told)
    if plan == "frozen":
        space = read_space(StudyConfig(tune=TuneConfig(space=SPACE)))
        expected = [tuple(str(settings[name]) for name in SPACE) for settings in space.plan(8, 0)]
        assert [settings_of(row) for row in found] == expected


@pytest.mark.slow
def test_a_killed_process_loses_no_trial(flags, folder):
    command = [*flags(), "--trials=6", "--plan=frozen"]
    (process,) = processes(command, 1, start_new_session=True)
    deadline = time.monotonic() + 200
    while not (folder / "trials").exists() or len(runs(folder)) < 3:
        assert process.poll() is None
        assert time.monotonic() < deadline
        time.sleep(0.05)
    os.killpg(process.pid, signal.SIGKILL)
    process.communicate()
    assert main(command) == 0
    found = counted(folder)
    space = read_space(StudyConfig(tune=TuneConfig(space=SPACE)))
    expected = {tuple(str(settings[name]) for name in SPACE) for settings in space.plan(6, 0)}
    assert {settings_of(row) for row in found} == expected
    assert len(found) == 6


@pytest.mark.slow
def test_a_study_in_postgresql(flags, folder):
    url = os.environ.get("IMPRINT_TEST_POSTGRESQL")
    if not url:
        pytest.skip("PostgreSQL: IMPRINT_TEST_POSTGRESQL (a URL such as postgresql+psycopg://...) is not set")
    command = [*flags(), "--trials=6", f"--storage={url}", f"--study=s{os.getpid()}"]
    both = processes(command, 2)
    told = [process.communicate(timeout=280)[0] for process in both]
    assert [process.returncode for process in both] == [0, 0], told
    found = counted(folder.with_name(f"s{os.getpid()}"))
    assert len(found) == len({settings_of(row) for row in found}) == 6


def test_sqlite_is_for_one_process(flags, tmp_path, monkeypatch, capsys):
    # Optuna tries again, seconds later, where a query fails.
    monkeypatch.setattr(time, "sleep", lambda _: None)
    command = [*flags(), f"--storage=sqlite:///{tmp_path / 'study.db'}"]
    assert main([*command, "--trials=1"]) == 0
    assert "for one process at a time" in capsys.readouterr().err
    assert main([*flags(), f"--storage=sqlite:///file:{tmp_path / 'study.db'}?mode=ro&uri=true", "--trials=3"]) == 2
    error = capsys.readouterr().err
    assert "where a query failed" in error.splitlines()[-1]
    assert "readonly database" in error.splitlines()[-1]
    assert "Traceback" not in error
    study = optuna.load_study(study_name="s", storage=f"sqlite:///{tmp_path / 'study.db'}")
    far = {"host": "far away", "pid": 1, "born": "1", "since": time.time()}
    study.ask().set_user_attr("owner", far)
    assert main([*command, "--trials=3"]) == 2
    assert "in use by process 1" in capsys.readouterr().err


def test_the_demo_file_searches_as_it_says(tiny_encoder, tmp_path, capsys):
    path = Path(__file__).parents[3] / "experiments" / "tune-demo.yaml"
    where = [f"--run.root={tmp_path / 'runs'}", f"--run.cache_dir={tmp_path / 'cache'}", "--track.wandb=disabled"]
    tiny = [
        f"--model.encoder={tiny_encoder}",
        "--trainer.max_epochs=1",
        "--data.max_length=64",
        "--audit.max_length=64",
    ]
    assert main(["tune", f"--config={path}", *tiny, *where, "--trials=2", "--audit.datasets=[sample-webgpt]"]) == 0
    folder = tmp_path / "runs" / "tune-demo"
    assert len(rows(folder)) == 2
    settings = yaml.safe_load(path.read_text())["tune"]["space"]
    report = json.loads((folder / "study.json").read_text())
    assert set(report["space"]) == set(settings)
    assert [audited(run) for run in runs(folder)] == [int(k == report["chosen"]["trial"]) for k in range(2)]
    assert "chosen: trial" in capsys.readouterr().out
