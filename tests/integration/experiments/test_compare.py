"""`imprint compare` on tiny runs: its numbers are those of the runs, folds, audits and costs included."""

import json
import shutil

import pytest
import yaml

from audits.table import make_table, read_table, write_table
from datamodules.preferences import read_preferences
from experiments.cli import main
from train.run_directory import RunDirectory
from train.stored_predictions import read_test_predictions

SHORT = ("--trainer.max_epochs=2", "--trainer.batch_size=16", "--data.name=fulcra", "--track.wandb=disabled")
FAST = ("--optim.lr_head=0.1", "--optim.lr_encoder=0.02", "--data.allow_empty_values=true", "--audit.noise_floor=false")
QUIET = ("--audit.enabled=false",)
AUDITED = ("--audit.datasets=[webgpt]",)


@pytest.fixture
def fit(tiny_run, tmp_path):
    """Run a fit of two checkpoints and give its directory."""

    def run(*flags):
        before = set((tmp_path / "runs").glob("*"))
        assert tiny_run(*SHORT, *FAST, *flags) == 0
        (new,) = set((tmp_path / "runs").glob("*")) - before
        return new

    return run


def report(capsys, *arguments):
    capsys.readouterr()
    assert main(["compare", *map(str, arguments)]) == 0
    return capsys.readouterr().out


def rows_of(capsys, *arguments):
    return json.loads(report(capsys, *arguments, "--format", "json"))["rows"]


def error_of(capsys, *arguments):
    capsys.readouterr()
    assert main(["compare", *map(str, arguments)]) == 2
    return capsys.readouterr().err


def test_values_are_those_that_the_runs_logged_on_test_and_costs_were_recorded(fit, capsys):
    one, other = fit(*QUIET), fit(*QUIET, "--run.experiment=other", "--model.pooling=cls")
    assert not (one / "audits").exists()
    metrics = "f1_macro,f1_micro,f1_weighted,ap_macro,auroc_macro,brier_macro"
    rows = rows_of(capsys, one, other, "--metrics", metrics, "--per_value")
    for run, name in ((one, "demo"), (other, "other")):
        lines = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
        (logged,) = [line for line in lines if "test/f1_macro" in line]
        own = {(row["metric"], row["value"]): row for row in rows if row["variant"] == name}
        for metric in (*metrics.split(","), "ece_macro"):
            assert own[metric, ""]["estimate"] == pytest.approx(logged[f"test/{metric}"], abs=1e-6)
        for metric in ("f1", "ap", "brier"):
            values = {value: row["estimate"] for (each, value), row in own.items() if each == metric and value}
            assert values == pytest.approx({value: logged[f"test/{metric}/{value}"] for value in values}, abs=1e-6)
            assert len(values) == 20
        assert own["training_seconds", ""]["estimate"] > 0
        assert own["texts_per_second", ""]["estimate"] > 0
        assert own["audit_seconds", ""]["estimate"] == 0
        assert own["n_parameters", ""]["estimate"] >= own["n_trainable", ""]["estimate"] > 1000
    # From the files alone: a run without its checkpoints is as good.
    before = report(capsys, one, other)
    shutil.rmtree(other / "checkpoints")
    assert report(capsys, one, other) == before


def test_folds_of_one_protocol_are_compared_on_all_texts(fit, capsys):
    folds = ("--data.n_folds=2", *QUIET)
    plain = [fit(*folds, f"--data.fold={k}") for k in range(2)]
    other = [fit(*folds, f"--data.fold={k}", "--run.experiment=cls", "--model.pooling=cls") for k in range(2)]
    rows = rows_of(capsys, *plain, *reversed(other))
    assert [(row["variant"], row["n_runs"], row["n_seeds"], row["n"]) for row in rows[:2]] == [
        ("demo", 2, 1, 100),
        ("cls", 2, 1, 100),
    ]
    text = " ".join(report(capsys, *plain, *other).split())
    assert "the test predictions of all folds are put together, every text once" in text
    # Half of one and all of the other do not cover the same texts; nor do folds of another cut.
    told = error_of(capsys, *plain, other[0])
    assert f"the test split of {other[0]} (" in told
    assert f"is not that of {plain[0]} and 1 other folds (100 texts" in told
    again = fit("--data.n_folds=2", "--data.fold=0", *QUIET, "--data.split_seed=1", "--run.experiment=cls")
    assert "the test split of" in error_of(capsys, *plain, again)
    tested = [set(read_test_predictions(RunDirectory(run)).text_ids.tolist()) for run in plain]
    assert not tested[0] & tested[1]


@pytest.mark.slow
def test_disagreements_of_audits_are_listed_with_both_numbers(fit, capsys, tiny_root, tmp_path):
    path = tmp_path / "rewards.jsonl"
    lines = [
        {"pair_id": pair.pair_id, "side": side, "reward": (i * 7 % 5) + 1.5 * k}
        for i, pair in enumerate(read_preferences("webgpt", tiny_root).read())
        for k, side in enumerate(pair.sides)
    ]
    path.write_text("".join(json.dumps(line) + "\n" for line in lines))
    audit = {"audits": ["value-distribution", "value-contrast", "reward-imprint"], "datasets": ["webgpt"]}
    audit["rewards"] = [{"name": "mine", "kind": "file", "path": str(path)}]
    (tmp_path / "audit.yaml").write_text(yaml.safe_dump({"audit": audit}))
    flags = (f"--config={tmp_path / 'audit.yaml'}",)
    runs = [fit(*flags), fit(*flags, "--run.seed=1"), fit(*flags, "--run.experiment=wan", "--model.loss=wan")]
    rows = [row for row in rows_of(capsys, *runs, "--audits") if row["kind"] == "audit"]
    counts = [row for row in rows if row["verdict"] == "agreement"]
    asked = ["prevalence_difference", "preference_kappa", "beta"]
    assert [(row["variant"], row["run_id"], row["metric"]) for row in counts] == [
        *(("demo", runs[1].name, metric) for metric in asked),
        *(("wan", runs[2].name, metric) for metric in asked),
    ]
    assert {sum(row[f"n_{what}"] for what in ("agree", "disagree", "undefined")) for row in counts[:1]} == {20}
    apart = [row for row in rows if row["verdict"] == "disagreement"]
    assert len(apart) == sum(row["n_disagree"] for row in counts if row["variant"] == "wan")
    assert all(row["baseline_conclusion"] != row["conclusion"] for row in apart)
    text = report(capsys, *runs, "--audits")
    assert max(map(len, text.splitlines())) <= 100
    assert "Conclusions of the audits: agreement with the baseline's" in text


@pytest.mark.slow
def test_audits_of_other_data_are_told_and_not_compared(fit, capsys, tiny_root, tmp_path):
    one = fit(*AUDITED)
    root = tmp_path / "other-root"
    shutil.copytree(tiny_root, root)
    path = root / "webgpt" / "comparisons.jsonl"
    path.write_text("".join(path.read_text().splitlines(keepends=True)[:-1]))
    other = fit("--audit.datasets=[webgpt,hh-rlhf]", f"--data.root={root}", "--run.experiment=other")
    none = fit(*QUIET, "--run.experiment=none")
    text = " ".join(report(capsys, one, other, none, "--audits").split())
    assert f"{other.name}: webgpt is not compared (other data)" in text
    assert f"{other.name}: hh-rlhf is not compared (not audited with the baseline)" in text
    assert f"{none.name}: its best checkpoint was not audited" in text
    assert "agreement with the baseline" not in text
    # The audit of the best checkpoint, and no other, is what is compared with itself.
    twin = one.with_name("twin")
    shutil.copytree(one, twin)
    rows = rows_of(capsys, one, twin, "--audits", "--groups", "none")
    (count,) = [row for row in rows if row["verdict"] == "agreement"]
    assert (count["n_disagree"], count["n_agree"] + count["n_undefined"]) == (0, 20)
    # One conclusion that is turned round is found with both numbers.
    (seen,) = twin.glob(f"audits/{read_test_predictions(RunDirectory(twin)).weights}-*/table.parquet")
    table = read_table(seen).to_pylist()
    asked = {"metric": "prevalence_difference", "spec": "within", "method": "cc", "subset": ""}
    changed = next(row for row in table if asked.items() <= row.items() and row["p_adjusted"] == row["p_adjusted"])
    was = changed["estimate"], changed["p_adjusted"]
    changed |= {"estimate": 0.25, "p_adjusted": 0.001}
    seen.unlink()
    write_table(make_table(table), seen)
    rows = rows_of(capsys, one, twin, "--audits", "--groups", "none")
    (apart,) = [row for row in rows if row["verdict"] == "disagreement"]
    assert (apart["value"], apart["baseline_estimate"], apart["baseline_p_adjusted"]) == (changed["feature"], *was)
    assert (apart["conclusion"], apart["estimate"], apart["p_adjusted"]) == ("+", 0.25, 0.001)
    text = report(capsys, one, twin, "--audits", "--groups", "none")
    assert "Conclusions that differ" in text
    assert "+25.0, p 0.001" in text


def test_a_run_that_is_not_finished_or_predicts_other_texts_is_told(fit, capsys):
    one, other = fit(*QUIET), fit(*QUIET, "--data.split_seed=3", "--run.experiment=other")
    told = error_of(capsys, one, other)
    assert f"the test split of {other} (" in told
    assert f"which is not that of {one} (" in told
    for path in (other / "predictions").glob("*-test.parquet"):
        path.unlink()
    assert f"no predictions/*-test.parquet in {other}" in error_of(capsys, one, other)
