"""`imprint drift` on tiny runs: within a run, between runs, while a run goes on, with siblings; and what is told."""

import csv
import io
import json
import re
import shutil

import pytest
import yaml

from audits.table import read_table
from datamodules.preferences import read_preferences
from experiments.cli import main
from train.progress import Progress
from train.run_directory import RunDirectory
from train.run_lock import run_lock

SHORT = ("--trainer.max_epochs=3", "--trainer.batch_size=16", "--data.name=value-imprint", "--model.loss=wan")
SETS = ("--audit.datasets=[hh-rlhf,webgpt]", "--track.wandb=disabled", "--audit.noise_floor=false")
EMPTY = "--data.allow_empty_values=true"
FAST = ("--optim.lr_head=0.1", "--optim.lr_encoder=0.02")


@pytest.fixture
def fit(tiny_run, tmp_path):
    """Run a fit of three checkpoints and give its directory."""

    def run(*flags):
        before = set((tmp_path / "runs").glob("*"))
        assert tiny_run(*SHORT, *SETS, *FAST, *flags) == 0
        (new,) = set((tmp_path / "runs").glob("*")) - before
        return new

    return run


def drift_table(run):
    return read_table(run / "audits" / "drift" / "table.parquet").to_pandas()


def report(capsys, *arguments):
    capsys.readouterr()
    assert main(["drift", *map(str, arguments)]) == 0
    return capsys.readouterr().out


def words(text):
    """The text without line breaks."""
    return " ".join(text.split())


def error_of(capsys, *arguments):
    capsys.readouterr()
    assert main(["drift", *map(str, arguments)]) == 2
    told = capsys.readouterr()
    assert told.out == ""
    assert told.err.count("imprint: error:") == 1
    return told.err


def test_a_finished_run_tells_what_moved_and_writes_its_table(fit, capsys):
    run = fit("--audit.noise_floor=true")
    told = capsys.readouterr().out
    assert "What moved between the checkpoints" in told
    assert "* hh-rlhf, step 6 to step 18: " in told
    assert "drift is not told" not in told
    at_end = drift_table(run)
    text = report(capsys, run)
    assert max(map(len, text.splitlines())) <= 100
    text = words(text)
    for part in (
        "hh-rlhf, step 6 to step 18: % of chosen responses",
        "chosen minus rejected, points",
        "hh-rlhf: 20 pairs with a preferred side in 20 prompts of 20 pairs; view exchange-head-64",
        "webgpt: 8 pairs with a preferred side in 8 prompts of 12 pairs",
        "max-T over all 42 tests (values, slices and 2 looks)",
        "hh-rlhf: another batch size or precision flips",
        "seed noise unknown: no sibling run",
        "PSI",
    ):
        assert part in text, part
    found = drift_table(run)
    assert found.equals(at_end)
    assert set(found["step"]) == {12, 18}
    assert set(found["spec"]) == {"from-step-6"}
    assert set(found["run_id"]) == {run.name}
    ledger = [json.loads(line) for line in (run / "ledger.jsonl").read_text().splitlines()]
    done = {row["weights"]: row["audit_key"] for row in ledger if row["state"] == "done"}
    assert {**dict(zip(found["weights"], found["audit_key"], strict=True))}.items() <= done.items()
    # The tested change is that of the shares that the audits wrote down.
    rows = read_table(run / "audits" / "table.parquet").to_pandas()
    shares = rows.query("metric == 'prevalence' and slice == 'chosen' and subset == '' and dataset == 'hh-rlhf'")
    shares = shares[shares["method"].str.startswith("cc")].pivot(index="feature", columns="step", values="estimate")
    changes = found.query("metric == 'prevalence_change' and slice == 'chosen' and dataset == 'hh-rlhf'")
    changes = changes[changes["subset"] == ""].pivot(index="feature", columns="step", values="estimate")
    for step in (12, 18):
        assert changes[step].tolist() == pytest.approx((shares[step] - shares[6]).tolist())
    assert changes.abs().to_numpy().max() > 0


def test_every_format_holds_the_same_rows(fit, capsys, tmp_path):
    run = fit()
    from_json = json.loads(report(capsys, run, "--format", "json"))
    from_csv = list(csv.DictReader(io.StringIO(report(capsys, run, "--format", "csv"))))
    keys = [(row["dataset"], row["slice"], row["value"]) for row in from_json["rows"]]
    assert len(keys) == len(set(keys)) == 2 * 3 * 7
    assert [(row["dataset"], row["slice"], row["value"]) for row in from_csv] == keys
    assert [row["change"] for row in from_json["rows"]] == [float(row["change"]) for row in from_csv]
    assert any("prompts" in note for note in from_json["notes"])
    for how in ("md", "latex"):
        path = tmp_path / f"drift.{how}"
        assert report(capsys, run, "--format", how, "--output", path) == ""
        lines = path.read_text().splitlines()
        mark, n_more = ("|", 2) if how == "md" else ("\\\\", 1)
        assert len([line for line in lines if line.rstrip().endswith(mark)]) == len(keys) + n_more
    assert report(capsys, run, "--datasets", "webgpt", "--format", "csv").count("webgpt,exchange") == 3 * 7


def test_a_baseline_a_view_and_previous_are_chosen(fit, capsys):
    run = fit()
    rows = json.loads(report(capsys, run, "--baseline", 12, "--format", "json"))["rows"]
    assert {(row["compared_with"], row["step"]) for row in rows} == {("step-12", 18)}
    text = report(capsys, run, "--against", "previous")
    assert "hh-rlhf, step 12 to step 18" in text
    assert "Bonferroni over 2 planned looks" in words(text)
    found = drift_table(run)
    assert set(zip(found["step"], found["spec"], strict=True)) == {(12, "from-step-6"), (18, "from-step-12")}
    assert set(found.query("metric == 'prevalence_change'")["method"].str.split("-").str[0]) == {"spending"}
    rows = json.loads(report(capsys, run, "--view", "dialogue-head-128", "--format", "json"))["rows"]
    assert {row["view"] for row in rows} == {"dialogue-head-128"}
    assert "no audited checkpoint of step 7" in error_of(capsys, run, "--baseline", 7)
    assert "one of steps 6, 12, 18; fix: --baseline" in error_of(capsys, run, "--baseline", 7)
    assert "no checkpoint after step 18" in error_of(capsys, run, "--baseline", 18)
    assert "one of exchange-head-64, dialogue-head-128; fix: --view" in error_of(capsys, run, "--view", "x-head-8")
    assert "one of hh-rlhf, webgpt; fix: --datasets" in error_of(capsys, run, "--datasets", "alpaca-gpt4")
    assert "format 'xml'" in error_of(capsys, run, "--format", "xml")
    assert "--against next" in error_of(capsys, run, "--against", "next")
    assert "3 run directories" in error_of(capsys, run, run, run)


def test_between_runs_the_best_checkpoints_are_compared(fit, capsys):
    one, other = fit(), fit("--model.pooling=cls", "--run.experiment=other")
    rows = json.loads(report(capsys, one, other, "--format", "json"))["rows"]
    assert {row["run_id"] for row in rows} == {other.name}
    assert {row["compared_with"] for row in rows} == {one.name}
    assert any(row["change"] for row in rows)
    steps = {row["step"] for row in rows}
    assert len(steps) == 1
    found = read_table(other / "audits" / "drift" / f"from-{one.name}.parquet").to_pandas()
    assert set(found["spec"]) == {f"from-{one.name}"}
    assert set(drift_table(other)["spec"]) == {"from-step-6"}, "its own checkpoints are not forgotten"
    text = report(capsys, one, other)
    assert f"hh-rlhf, {one.name} to {other.name}" in text
    assert re.search(rf"step \d+ of {one.name} and step {steps.pop()} of {other.name} are compared", words(text))
    # The other way round everything changes its sign.
    back = json.loads(report(capsys, other, one, "--format", "json"))["rows"]
    changes = [{(row["dataset"], row["slice"], row["value"]): row["change"] for row in each} for each in (rows, back)]
    assert changes[0] == pytest.approx({key: -value for key, value in changes[1].items()})


def test_a_run_has_not_moved_from_itself(fit, capsys):
    run = fit()
    rows = json.loads(report(capsys, run, run, "--format", "json"))["rows"]
    assert {row["change"] for row in rows} == {0.0}
    assert {row["verdict"] for row in rows} == {"not told apart from 0"}
    assert {row["churn"] for row in rows if row["slice"] != "chosen-rejected"} == {0.0}
    assert {row["kappa"] for row in rows} <= {1.0, None}


def test_what_decides_is_told_where_it_is_not_fitted_or_not_the_same(fit, capsys):
    run = fit("--data.name=valueeval", "--model.loss=bce", EMPTY)
    assert "decisions" not in report(capsys, run).replace("% of decisions", "").replace("flips no decision", "")
    (path,) = (run / "thresholds").glob(f"{drift_table(run)['weights'].iloc[-1][:8]}.json")
    content = json.loads(path.read_text())
    for numbers in content["labels"].values():
        numbers["threshold"] = 0.9
    path.write_text(json.dumps(content))
    assert main(["audit", str(run)]) == 0
    told = words(report(capsys, run))
    assert "decisions follow different rules, which moves values without any training: thresholds fitted for f1" in told
    assert "thresholds edited by hand after they were fitted at step" in told
    unfitted = fit()
    assert "thresholds were not fitted (no known negatives), a value counts" in words(report(capsys, unfitted))
    # What an earlier version wrote names no rule.
    for meta in unfitted.glob("audits/*/meta.json"):
        content = json.loads(meta.read_text())
        content["calibration"]["calibrated"] = True
        if content["step"] == 6:
            del content["calibration"]["decision"]
        meta.write_text(json.dumps(content))
    assert "thresholds by the rule of an earlier version at step 6; thresholds" in words(report(capsys, unfitted))


def test_a_run_that_cannot_be_written_to_is_reported_all_the_same(fit, capsys):
    run = fit()
    table = run / "audits" / "drift" / "table.parquet"
    table.unlink()
    table.mkdir()
    assert "hh-rlhf, step 6 to step 18" in report(capsys, run)
    assert main(["drift", str(run)]) == 0
    assert "warning: the rows are not written: found" in capsys.readouterr().err


def test_other_data_and_other_labels_are_told(fit, capsys, tiny_root, tmp_path):
    run = fit("--audit.datasets=[webgpt]", "--trainer.max_epochs=1")
    root = tmp_path / "other-root"
    shutil.copytree(tiny_root, root)
    path = root / "webgpt" / "comparisons.jsonl"
    path.write_text("".join(path.read_text().splitlines(keepends=True)[:-1]))
    other = fit("--audit.datasets=[webgpt]", "--trainer.max_epochs=1", f"--data.root={root}")
    told = error_of(capsys, run, other)
    assert "cannot be compared" in told
    assert "other data" in told
    signed = fit("--audit.datasets=[webgpt]", "--trainer.max_epochs=1", "--data.name=fulcra", EMPTY)
    assert "other labels" in error_of(capsys, run, signed)
    hh = fit("--audit.datasets=[hh-rlhf]", "--trainer.max_epochs=1")
    assert "webgpt audited in" in error_of(capsys, run, hh)
    # One checkpoint has nothing to be compared with, and none has less.
    told = error_of(capsys, run)
    assert "1 audited checkpoint (step 6)" in told
    assert "needed at least 2; fix: imprint audit" in told
    none = fit("--audit.enabled=false", "--trainer.max_epochs=1")
    assert "no audited checkpoints in" in error_of(capsys, none)


def test_checkpoints_with_other_data_are_another_series(fit, capsys, tiny_root, tmp_path):
    run = fit("--audit.datasets=[webgpt]")
    root = tmp_path / "other-root"
    shutil.copytree(tiny_root, root)
    path = root / "webgpt" / "comparisons.jsonl"
    path.write_text("".join(path.read_text().splitlines(keepends=True)[:-1]))
    # The first checkpoint is gone, so that it keeps its audit of the older data.
    (run / "checkpoints" / "e000-s000006.ckpt").unlink()
    assert main(["audit", str(run), "--root", str(root)]) == 0
    text = report(capsys, run)
    assert "webgpt, step 12 to step 18" in text
    assert "left out, another series (other data): step 6" in text
    assert "no checkpoint after step 6" in error_of(capsys, run, "--baseline", 6)


def test_while_a_run_goes_on_error_control_is_for_the_looks_to_come(fit, capsys):
    run = fit()
    config = run / "config.yaml"
    settings = yaml.safe_load(config.read_text())
    settings["trainer"]["max_epochs"] = 10
    config.write_text(yaml.safe_dump(settings))
    with run_lock(RunDirectory.open(run), Progress("off").say):
        text = report(capsys, run)
    assert "Bonferroni over 9 planned looks" in words(text)
    assert set(drift_table(run).query("metric == 'prevalence_change'")["method"].str.split("-").str[0]) == {"spending"}
    assert "max-T over all" in words(report(capsys, run))
    assert "Bonferroni over 4 planned looks" in words(report(capsys, run, "--planned_looks", 4))
    assert "1 planned looks, and 2 made already" in error_of(capsys, run, "--planned_looks", 1)
    assert "--planned_looks 0" in error_of(capsys, run, "--planned_looks", 0)


@pytest.mark.slow
def test_siblings_are_found_or_named_and_tell_the_seeds_noise(fit, capsys):
    runs = [fit(f"--run.seed={seed}") for seed in (0, 1, 2)]
    fit("--run.seed=3", "--model.dropout=0.2")
    text = words(report(capsys, runs[0]))
    assert "seeds: 3 runs that differ in their seed alone" in text
    found = drift_table(runs[0]).query("metric == 'seed_range'")
    assert set(found["n"]) == {3}
    assert set(found["slice"]) == {"chosen", "rejected", "chosen-rejected"}
    # By hand: prevalence at the best checkpoint of each run.
    shares = []
    for run in runs:
        lines = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
        metric = {row["step"]: row["val/f1_top1_macro"] for row in lines if row.get("val/f1_top1_macro") is not None}
        best = max(sorted(metric), key=metric.__getitem__)
        rows = read_table(run / "audits" / "table.parquet").to_pandas()
        own = rows.query("metric == 'prevalence' and slice == 'chosen' and subset == '' and dataset == 'webgpt'")
        own = own[own["method"].str.startswith("cc") & (own["step"] == best)]
        shares.append(dict(zip(own["feature"], own["estimate"], strict=True)))
    own = found.query("dataset == 'webgpt' and slice == 'chosen'")
    assert dict(zip(own["feature"], own["estimate"], strict=True)) == pytest.approx(
        {value: max(s[value] for s in shares) - min(s[value] for s in shares) for value in shares[0]}
    )
    rows = json.loads(report(capsys, runs[0], "--siblings", runs[1], "--format", "json"))["rows"]
    assert all(row["beyond_seeds"] == (abs(row["change"]) > row["seed_range"]) for row in rows)
    assert set(drift_table(runs[0]).query("metric == 'seed_range'")["n"]) == {2}
    assert "differs in model.dropout" in error_of(capsys, runs[0], "--siblings", *runs[0].parent.glob("demo-s3-*"))
    assert "seed 0 in" in error_of(capsys, runs[0], "--siblings", runs[0])


def test_slopes_of_rewards_are_followed_too(fit, capsys, tiny_root, tmp_path):
    path = tmp_path / "rewards.jsonl"
    rows = [
        {"pair_id": pair.pair_id, "side": side, "reward": (i * 7 % 5) + 1.5 * k + (i * i % 3)}
        for i, pair in enumerate(read_preferences("hh-rlhf", tiny_root).read())
        for k, side in enumerate(pair.sides)
    ]
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    audit = {"audits": ["value-distribution", "reward-imprint"], "datasets": ["hh-rlhf"]}
    audit["rewards"] = [{"name": "mine", "kind": "file", "path": str(path)}]
    (tmp_path / "audit.yaml").write_text(yaml.safe_dump({"audit": audit}))
    run = fit(f"--config={tmp_path / 'audit.yaml'}", "--audit.datasets=[hh-rlhf]")
    text = report(capsys, run)
    assert "imprint of mine, points of reward per value, within pairs" in text
    found = drift_table(run).query("metric == 'beta_change' and spec == 'within-from-step-6'")
    audits = read_table(run / "audits" / "table.parquet").to_pandas()
    betas = audits.query("metric == 'beta' and spec == 'within' and subset == ''").pivot(
        index="feature", columns="step", values="estimate"
    )
    defined = found[found["estimate"].notna()]
    assert len(defined)
    for _, row in defined.iterrows():
        was, now = betas.loc[row["feature"], 6], betas.loc[row["feature"], row["step"]]
        assert row["estimate"] == pytest.approx(now - was, abs=1e-8)


def test_at_the_end_of_a_run_a_failure_is_told_and_not_fatal(fit, monkeypatch, capsys):
    import train.drift_at_end

    def fails(*_):
        raise ValueError("a bug")

    monkeypatch.setattr(train.drift_at_end, "drift_within", fails)
    run = fit()
    captured = capsys.readouterr()
    assert "drift is not told: a bug; to try it again: imprint drift" in captured.err
    assert "What moved" not in captured.out
    assert not (run / "audits" / "drift" / "table.parquet").exists()
