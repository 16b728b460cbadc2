"""`imprint compare` on run directories that are made up: what it counts, marks, says and refuses."""

import csv
import io
import json

import numpy as np
import pytest

from experiments.cli import main
from experiments.compare_rows import verdict

LABELS = ("alpha", "beta", "gamma")
N = 120


@pytest.fixture
def world(made_run):
    """Make runs of one experiment: the larger the margin, the better; the third value occurs in no text."""
    rng = np.random.default_rng(3)
    targets = (rng.random((N, 3)) < (0.5, 0.3, 0.0)).astype(int)

    def make(experiment, margin, seeds=(0,), **settings):
        paths = []
        for seed in seeds:
            noise = np.random.default_rng([seed, int(100 * margin)]).normal(0, 0.25, (N, 3))
            p = np.clip(0.5 + margin * (2 * targets - 1) + noise, 0.01, 0.99)
            own = {"run.experiment": experiment, "run.seed": seed}
            name = f"{experiment}-s{seed}"
            paths.append(made_run(name, targets, p, groups=np.arange(N) // 2, labels=LABELS, **own, **settings))
        return paths

    return make


def report(capsys, *arguments):
    capsys.readouterr()
    assert main(["compare", *map(str, arguments)]) == 0
    return capsys.readouterr().out


def rows_of(capsys, *arguments):
    return json.loads(report(capsys, *arguments, "--format", "json"))["rows"]


def error_of(capsys, *arguments):
    capsys.readouterr()
    assert main(["compare", *map(str, arguments)]) == 2
    told = capsys.readouterr()
    assert told.out == ""
    assert told.err.count("imprint: error:") == 1
    return told.err


def words(text):
    return " ".join(text.split())


def test_better_and_worse_are_marked_and_the_same_is_not(world, capsys):
    runs = [*world("base", 0.2), *world("good", 0.45), *world("bad", 0.02), *world("same", 0.21)]
    rows = [row for row in rows_of(capsys, *runs) if row["kind"] == "metric"]
    assert [row["metric"] for row in rows[::4]] == ["f1_macro", "f1_micro", "ap_macro"]
    marks = {row["variant"]: row["verdict"] for row in rows if row["metric"] == "f1_macro"}
    assert marks == {"base": "baseline", "good": "*", "bad": "-", "same": ""}
    good, bad = (next(row for row in rows if row["variant"] == name) for name in ("good", "bad"))
    assert good["difference"] == pytest.approx(good["estimate"] - rows[0]["estimate"])
    assert good["ci_low"] > 0 > bad["ci_high"]
    assert good["p_adjusted"] >= 2 * good["p_value"]
    assert (good["n"], good["n_groups"], good["n_seeds"]) == (N, N // 2, 1)
    # Less error is better.
    rows = [row for row in rows_of(capsys, *runs, "--metrics", "brier_macro") if row["kind"] == "metric"]
    assert [row["verdict"] for row in rows] == ["baseline", "*", "-", ""]
    assert (verdict(0.1, 0.05, "f1_macro"), verdict(0.1, float("nan"), "f1_macro")) == ("", "")


def test_the_baseline_may_be_any_run_and_need_not_be_named_twice(world, capsys):
    (one,), (two,) = world("one", 0.2), world("two", 0.4)
    for arguments in ((one, two, "--baseline", two), (one, "--baseline", two)):
        rows = rows_of(capsys, *arguments)
        assert [row["variant"] for row in rows[:2]] == ["two", "one"]
        assert rows[1]["difference"] < 0


def test_seeds_are_one_variant_and_what_is_known_of_them_is_told(world, capsys):
    base, other = world("base", 0.2, (0, 1, 2)), world("other", 0.25, (4,))
    rows = rows_of(capsys, *base, *other)
    alone = {row["variant"]: row["estimate"] for row in rows_of(capsys, *base, "--groups", "none")[:3]}
    assert rows[0]["n_seeds"] == 3
    assert rows[0]["estimate"] == pytest.approx(np.mean(list(alone.values())))
    assert rows[0]["seed_sd"] == pytest.approx(np.std(list(alone.values()), ddof=1))
    text = words(report(capsys, *base, *other))
    assert "intervals hold the luck of the texts and of the seeds" in text
    assert "one seed of other: in its place, the seeds of the other side tell the noise" in text
    assert "base: seeds 0, 1, 2: base-s0 (00000001), base-s1 (00000001), base-s2 (00000001)" in text
    text = words(report(capsys, base[0], *other))
    assert "one seed a variant: seed noise is not in the intervals" in text
    assert "--groups none compares its runs" in words(report(capsys, *base))
    assert "better" not in words(report(capsys, *base))


def test_values_without_positives_are_left_out_of_all_and_counted(world, capsys):
    runs = [*world("base", 0.2), *world("good", 0.45)]
    text = report(capsys, *runs, "--per_value")
    assert "no test text carries gamma: undefined, and in no macro of any variant" in words(text)
    assert "2 of 3 values have a known positive in test" in words(text)
    assert "Holm over 1 variant (per value: over variants and values)" in words(text)
    assert "F1 of each value: good against base" in text
    assert "AP of each value: good against base" in text
    rows = {(row["metric"], row["variant"], row["value"]): row for row in rows_of(capsys, *runs, "--per_value")}
    assert rows["f1", "good", "gamma"]["estimate"] is None
    assert rows["f1", "good", "gamma"]["p_adjusted"] is None
    assert rows["f1", "good", "gamma"]["n_positives"] == 0
    two = [rows["f1", "good", label]["estimate"] for label in LABELS[:2]]
    assert rows["f1_macro", "good", ""]["estimate"] == pytest.approx(np.mean(two))
    p = [rows["f1", "good", label] for label in LABELS[:2]]
    assert min(row["p_adjusted"] for row in p) == pytest.approx(2 * min(row["p_value"] for row in p))


def test_a_value_in_one_group_alone_has_no_interval(made_run, capsys):
    rng = np.random.default_rng(0)
    targets = (rng.random((60, 2)) < 0.5).astype(int)
    targets[:, 1] = np.arange(60) < 3
    runs = [
        made_run(
            name,
            targets,
            np.clip(0.5 + k * (targets - 0.5) + rng.normal(0, 0.2, (60, 2)), 0, 1),
            groups=np.arange(60) // 3,
        )
        for k, name in ((0.1, "base"), (0.6, "good"))
    ]
    rows = {(row["metric"], row["variant"], row["value"]): row for row in rows_of(capsys, *runs, "--per_value")}
    rare, common = (rows["f1", "good", value] for value in "ba")
    assert rare["n_positives"] == 3
    assert rare["difference"] > 0
    assert (rare["ci_low"], rare["p_value"], rare["p_adjusted"]) == (None, None, None)
    assert common["p_adjusted"] == common["p_value"] < 0.05


def test_single_positive_texts_have_their_own_metrics(made_run, capsys):
    rng = np.random.default_rng(0)
    targets = np.full((60, 3), -1)
    targets[np.arange(60), np.arange(60) % 3] = 1
    runs = [
        made_run(f"{name}-s0", targets, rng.random((60, 3)) + k * (targets == 1), labels=LABELS)
        for k, name in enumerate(("chance", "right"))
    ]
    rows = rows_of(capsys, *runs)
    assert list(dict.fromkeys(row["metric"] for row in rows))[:3] == [
        "top1_accuracy",
        "f1_top1_macro",
        "f1_top1_weighted",
    ]
    assert (rows[1]["variant"], rows[1]["estimate"], rows[1]["verdict"]) == ("right", 1.0, "*")
    text = words(report(capsys, *runs, "--metrics", "f1_macro"))
    assert "f1_macro is undefined on these labels" in text


def test_every_format_holds_every_variant(world, capsys, tmp_path):
    runs = [
        *world("base", 0.2, (0, 1)),
        *world("good", 0.45, (0, 1)),
        *world("a-name-that-is-rather-long-" + 20 * "x", 0.1),
    ]
    text = report(capsys, *runs, "--per_value")
    assert max(map(len, text.splitlines())) <= 100
    for part in ("macro-F1", "micro-F1", "mAP", "Calibration and cost of a run", "ECE", "texts/s", "trained"):
        assert part in text
    found = json.loads(report(capsys, *runs, "--format", "json"))
    table = list(csv.DictReader(io.StringIO(report(capsys, *runs, "--format", "csv"))))
    assert len(table) == len(found["rows"]) == 3 * (3 + 2 + 5)
    assert {row["kind"] for row in table} == {"metric", "calibration", "cost"}
    assert table[1]["ci_low"] == repr(found["rows"][1]["ci_low"])
    md = report(capsys, *runs, "--format", "md")
    good = next(line for line in md.splitlines() if line.startswith("| good"))
    assert f"{found['rows'][1]['estimate']:.3f} ± " in good
    assert f"{found['rows'][1]['difference']:+.3f} (" in good
    assert ") * |" in good
    latex = report(capsys, *runs, "--format", "latex")
    assert latex.count(r"\begin{tabular}") == 1
    assert [line.count(" & ") for line in latex.splitlines() if line.endswith(r"\\")] == [14] * 4
    output = tmp_path / "out" / "table.md"
    assert report(capsys, *runs, "--format", "md", "--output", output) == ""
    assert output.read_text() == md


def test_costs_are_those_of_the_run_directories_and_unknown_ones_are_a_dash(world, capsys):
    (base,), (other,) = world("base", 0.2), world("other", 0.3)
    sessions = [{"started": 1.0, "seconds": 70.0, "audit_seconds": 10.0}]
    (base / "cost.json").write_text(json.dumps({"sessions": sessions, "scoring": {"n_texts": 90, "seconds": 3.0}}))
    environment = json.loads((base / "env.json").read_text()) | {"parameters": {"total": 22_713_216, "trainable": 999}}
    (base / "env.json").write_text(json.dumps(environment))
    rows = {(row["variant"], row["metric"]): row["estimate"] for row in rows_of(capsys, base, other)}
    assert rows["base", "training_seconds"] == 60.0
    assert rows["base", "texts_per_second"] == 30.0
    assert rows["base", "n_parameters"] == 22_713_216
    assert rows["other", "training_seconds"] is None
    text = report(capsys, base, other)
    line = next(line for line in text.split("Calibration and cost")[1].splitlines() if line.startswith(" base"))
    assert line.split()[3:] == ["60", "0", "30", "22.7", "M", "999"]
    assert "cost -: not recorded for every run" in words(text)
    (other / "env.json").write_text(json.dumps({"format": 1, "parent": None, "device": "NVIDIA H200"}))
    assert "of different devices (NVIDIA H200, cpu)" in words(report(capsys, base, other))


def test_audits_that_are_not_there_are_told(world, capsys):
    runs = [*world("base", 0.2), *world("good", 0.45)]
    assert "the best checkpoint of base-s0 was not audited" in words(report(capsys, *runs, "--audits"))


def test_the_report_does_not_depend_on_the_call(world, capsys):
    runs = [*world("base", 0.2, (0, 1)), *world("good", 0.45)]
    assert report(capsys, *runs) == report(capsys, *runs)


@pytest.mark.parametrize(
    ("flags", "told"),
    [
        (("--metrics", "f1_macro,f2"), "metric 'f2'; needed one of f1_macro, ap_macro"),
        (("--metrics", "f1_macro,f1_macro"), "each metric once; fix: --metrics"),
        (("--metrics", ""), "metric ''"),
        (("--groups", "name"), "--groups name; needed seed or none"),
        (("--format", "xml"), "format 'xml'"),
        (("--baseline", "nowhere"), "no file at nowhere/config.yaml"),
        (("--output", "."), "a folder at ."),
    ],
)
def test_mistakes_are_told(world, capsys, flags, told):
    assert told in error_of(capsys, *world("base", 0.2), *world("good", 0.45), *flags)


def test_a_run_that_is_named_twice_is_told(world, capsys):
    (run,) = world("base", 0.2)
    assert "named twice" in error_of(capsys, run, run)
    assert "required" in error_of(capsys)
