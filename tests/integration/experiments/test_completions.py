"""`imprint audit --completions` and `--audits refusals`: published numbers on real files, and misuse."""

from dataclasses import replace

import numpy as np
import pytest

from audits.stats.group_rates import homogeneity
from audits.table import read_table
from datamodules.completions import read_completions
from datamodules.group_mentions import find_mentions
from datamodules.prompt_templates import find_templates
from experiments.cli import main

WIDE = "prompts,m,m_is_compliant,type,focus\n"
PEOPLE = ("tall", "short")
ROWS = [
    f"Where do {group} people go in month {k}?,I cannot help with that.,0,{kind},{group}\n"
    for k in range(6)
    for group in PEOPLE
    for kind in ("mine", "mine_contrast")
]


@pytest.fixture
def small(tmp_path):
    path = tmp_path / "small.csv"
    path.write_text(WIDE + "".join(ROWS))
    return path


def test_report_and_rows(small, tmp_path, capsys):
    output = tmp_path / "out" / "table.parquet"
    assert main(["audit", "--completions", str(small), "--output", str(output)]) == 0
    said = capsys.readouterr().out
    assert max(map(len, said.splitlines()[:-1])) <= 100
    for part in (
        "24 rows, wide layout, 1 model\n",
        "100.00%",
        "of 12",
        "permutation p within 6 templates",
        "12 distinct",
    ):
        assert part in said, part
    table = read_table(output)
    assert f"{table.num_rows} rows written" in said
    assert set(table["audit"].to_pylist()) == {"refusals"}
    assert len(set(table["audit_key"].to_pylist())) == 1
    assert table["step"].null_count == table.num_rows


LONG = "prompt,completion,model,type,group\n"


def test_models_are_compared_whatever_the_order_of_rows(tmp_path, capsys):
    """One model refuses ten of twelve prompts, the other two of them; their rows stand in opposite orders."""
    prompts = [f"Ask {k}" for k in range(12)]
    rows = [f"{p},{'I cannot help with that.' if k < 10 else 'Turn left.'},strict,mine," for k, p in enumerate(prompts)]
    other = [f"{p},{'I cannot help with that.' if k < 2 else 'Turn left.'},mild,mine," for k, p in enumerate(prompts)]
    path, output = tmp_path / "long.csv", tmp_path / "table.parquet"
    path.write_text(LONG + "\n".join([*rows, *reversed(other), "Ask 99,Turn left.,mild,mine,"]) + "\n")
    assert main(["audit", "--completions", str(path), "--output", str(output)]) == 0
    said = capsys.readouterr().out
    assert max(map(len, said.splitlines()[:-1])) <= 100
    assert "Who refused the same prompt, by the rules" in said
    (line,) = [line for line in said.split("by the rules")[-1].splitlines() if "strict | mild" in line]
    assert line.split()[3:9] == ["safe", "12", "2", "8", "0", "2"]
    assert "1 no-partner" in said
    frame = read_table(output).to_pandas()
    test = frame[(frame["metric"] == "model_refusal_difference") & (frame["mode"] == "corrected")].iloc[0]
    assert (test["estimate"], test["p_adjusted"]) == (pytest.approx(8 / 12), pytest.approx(2 / 2**8))


def test_answers_about_other_groups_than_asked_are_told(tmp_path, capsys):
    people = ("tall", "short", "loud", "calm")
    rows = [(f"Where do {g} people go in month {k}?", g) for k in range(12) for g in people]
    for shift, told in ((0, False), (1, True)):
        texts = [f"Those {rows[(i + shift) % len(rows)][1]} people stay at home." for i in range(len(rows))]
        path = tmp_path / f"{shift}.csv"
        lines = [f"{prompt},{text},m,mine,{group}" for (prompt, group), text in zip(rows, texts, strict=True)]
        path.write_text(LONG + "\n".join(lines) + "\n")
        assert main(["audit", "--completions", str(path), "--output", str(tmp_path / f"{shift}.parquet")]) == 0
        said = capsys.readouterr().out
        assert ("out of step: of 48 answers" in said) == told
        # Before the numbers that it is about.
        assert not told or said.index("out of step") < said.index("By group named in the prompt")


def test_what_is_taken_for_granted_is_told(tmp_path, capsys):
    """A type that says nothing of safety, a side without a completion, groups that share no template."""
    path = tmp_path / "odd.csv"
    rows = ["Ask a,Turn left.,m,harmful,tall", "Ask b,I cannot help with that.,m,harmful,short", "Ask c,,m,unsafe,"]
    path.write_text(LONG + "\n".join(rows) + "\n")
    output = tmp_path / "odd.parquet"
    assert main(["audit", "--completions", str(path), "--output", str(output)]) == 0
    said = capsys.readouterr().out
    assert "these types are taken as safe: harmful 2" in said
    assert "2 groups are not compared: fewer than 5" in said
    assert "refused, HH audit's string matcher" in said
    assert "nan" not in said
    frame = read_table(output).to_pandas()
    taken = frame[frame["metric"] == "taken_as_safe"].iloc[0]
    assert (taken["feature"], taken["estimate"], taken["n"]) == ("type:harmful", 2.0, 3)


def test_many_models_show_some_pairs_and_keep_all(tmp_path, capsys):
    texts = ("I cannot help with that.", "Turn left.")
    rows = [f"Ask {k},{texts[(k + m) % 2]},m{m},safe," for m in range(8) for k in range(6)]
    path, output = tmp_path / "many.csv", tmp_path / "many.parquet"
    path.write_text(LONG + "\n".join(rows) + "\n")
    assert main(["audit", "--completions", str(path), "--output", str(output)]) == 0
    assert capsys.readouterr().out.count("4 more pairs of models and sides are in the table") == 2
    frame = read_table(output).to_pandas()
    assert (frame["metric"] == "model_refusal_difference").sum() == 2 * 28


def test_same_file_gives_the_same_rows(small, tmp_path):
    for name in ("a.parquet", "b.parquet"):
        assert main(["audit", "--completions", str(small), "--output", str(tmp_path / name)]) == 0
    assert (tmp_path / "a.parquet").read_bytes() == (tmp_path / "b.parquet").read_bytes()


def test_bad_usage(small, tmp_path, capsys):
    out = str(tmp_path / "t.parquet")
    for arguments, said in (
        ([], "--completions without --output"),
        (["--output", str(tmp_path / "t.csv")], "ends in .parquet"),
        (["--output", out, "--datasets", "webgpt"], "--datasets with --completions"),
        (["--output", out, "--pending"], "--pending with --completions"),
        (["--output", out, "--target_vectors", "t.yaml"], "--target_vectors with --completions"),
        ([str(tmp_path), "--output", out], "a run directory with --completions"),
    ):
        assert main(["audit", "--completions", str(small), *arguments]) == 2
        error = capsys.readouterr().err
        assert said in error
        assert error.count("\n") == 1
    assert main(["audit", "--completions", str(tmp_path / "none.csv"), "--output", out]) == 2
    assert "no file" in capsys.readouterr().err
    assert not (tmp_path / "t.parquet").exists()


def test_pairs(tmp_path, capsys):
    folder = tmp_path / "out"
    assert main(["audit", "--datasets", "sample-hh-rlhf", "--audits", "refusals", "--output", str(folder)]) == 0
    said = capsys.readouterr().out
    assert "chosen - rejected" in said
    assert "sample" in said
    assert read_table(folder / "sample-hh-rlhf" / "refusals" / "table.parquet").num_rows > 8
    for arguments, needed in (
        (["--datasets", "sample-hh-rlhf", "--output", str(folder)], "a new folder"),
        (["--output", str(tmp_path / "b")], "no --datasets"),
        (["--datasets", "sample-hh-rlhf", "--output", str(tmp_path / "b"), "--pending"], "--pending with"),
    ):
        assert main(["audit", "--audits", "refusals", *arguments]) == 2
        assert needed in capsys.readouterr().err


@pytest.fixture(scope="module")
def published(data_root, tmp_path_factory):
    output = tmp_path_factory.mktemp("hh-audit") / "table.parquet"
    path = data_root / "hh-audit" / "xs_test_gpt_processed_results.csv"
    assert main(["audit", "--completions", str(path), "--output", str(output)]) == 0
    return read_table(output).to_pandas()


# The one command of the issue, with all its draws, on 16,796 completions: about 12 seconds of processor.
@pytest.mark.data
@pytest.mark.slow
@pytest.mark.parametrize(
    ("model", "safe", "unsafe", "xstest_safe", "xstest_unsafe"),
    [
        ("hh_full", 48.05, 70.16, 33.20, 67.83),
        ("hh_filtered", 43.86, 58.35, 32.80, 66.67),
        ("hh_harmless", 1.43, 1.48, 1.07, 1.50),
        ("help_only", 0.0, 0.0, 0.0, 0.0),
    ],
)
def test_published_rates_to_the_printed_digits(published, model, safe, unsafe, xstest_safe, xstest_unsafe):
    rates = published.query("metric == 'refusal_rate' and mode == 'as_published' and spec == 'by-template'")
    rates = rates[(rates["scorer"] == model) & (rates["feature"] == "")].set_index(["subset", "slice"])
    found = [round(100 * rates.loc[key, "estimate"], 2) for key in (("", "safe"), ("", "unsafe"))]
    assert found == [safe, unsafe]
    found = [round(100 * rates.loc[("xstest", side), "estimate"], 2) for side in ("safe", "unsafe")]
    assert found == [xstest_safe, xstest_unsafe]
    assert rates["n"].to_dict() == {
        ("", "safe"): 2175,
        ("", "unsafe"): 2024,
        ("xstest", "safe"): 750,
        ("xstest", "unsafe"): 600,
    }


@pytest.mark.data
@pytest.mark.slow
def test_published_groups_repeats_and_flags(published):
    groups = published.query("metric == 'refusal_rate' and mode == 'as_published' and spec == 'by-template'")
    groups = groups[groups["feature"].str.startswith("group:") & (groups["scorer"] == "hh_full")]
    safe = groups[groups["slice"] == "safe"].set_index("feature")["n"].to_dict()
    assert len(safe) == 18
    usual = {name: n for name, n in safe.items() if n != 75}
    assert usual == {"group:jewish": 150, "group:gay": 78, "group:white": 78}
    assert (published.query("metric == 'flag_agreement'")["estimate"] == 1).all()
    assert (published.query("metric == 'repeated_group'")["feature"] == "jewish").all()
    assert (published.query("metric == 'repeated_template'")["estimate"] == 2).all()
    distinct = published.query("metric == 'distinct_prompts'")
    assert (distinct["estimate"] == 1330).all()
    assert (distinct["n"] == 4199).all()


# Looks for 18 terms in 16,796 completions.
@pytest.mark.data
@pytest.mark.slow
def test_published_prompts_and_completions_are_out_of_step(data_root):
    """Metadata run template by template, completions group by group; joined anew, groups differ beyond doubt.

    Safe prompts of the HH audit's own templates: 25 templates, 19 terms ("jewish" twice), three samples of each.
    """
    file = read_completions(data_root / "hh-audit" / "xs_test_gpt_processed_results.csv")
    as_generated = np.arange(25 * 19 * 3).reshape(25, 19, 3).transpose(1, 0, 2).ravel()
    for model in file.models:
        rows = np.flatnonzero(model.types == "nons_disc_custom")
        assert len(rows) == len(as_generated)
        texts, known = [model.texts[i] for i in rows], find_templates(model.prompts, model.groups).compared
        published = find_mentions(texts, model.groups[rows], known)
        assert published.out_of_step
        assert published.own < 0.12
        joined = rows[as_generated]
        found = find_mentions(texts, model.groups[joined], known)
        assert found.n == published.n > 300
        assert found.own > 0.9
        if model.model != "hh_full":
            continue
        prompts, groups = model.prompts.copy(), model.groups.copy()
        prompts[rows], groups[rows] = model.prompts[joined], model.groups[joined]
        spreads = []
        for own in (model, replace(model, prompts=prompts, groups=groups)):
            units = np.char.add(np.char.add(own.groups[rows], "\n"), own.prompts[rows])
            templates = find_templates(own.prompts, own.groups).templates[rows]
            spreads.append(homogeneity(own.published[rows], own.groups[rows], templates, units, n_draws=499))
        assert spreads[0].p_spread > 0.3
        assert spreads[1].p_spread == pytest.approx(1 / 500)
        assert spreads[1].spread == pytest.approx(0.707, abs=0.001)


@pytest.mark.data
@pytest.mark.slow
def test_published_full_against_filtered(published):
    """The table of both models' refusals adds up to each one's rate, and the difference is theirs."""
    rows = published[(published["scorer"] == "hh_full|hh_filtered") & (published["mode"] == "as_published")]
    cells = rows[rows["metric"] == "refusal_cell"].pivot(index="slice", columns="feature", values="estimate")
    assert cells.loc["safe"].to_dict() == {"both": 693, "first": 352, "second": 261, "neither": 869}
    assert cells.loc["unsafe"].to_dict() == {"both": 920, "first": 500, "second": 261, "neither": 343}
    assert round(100 * (693 + 352) / 2175, 2) == 48.05
    assert round(100 * (920 + 261) / 2024, 2) == 58.35
    tests = rows[rows["metric"] == "model_refusal_difference"].set_index("slice")
    assert tests.loc["safe", "estimate"] == pytest.approx((352 - 261) / 2175)
    assert (tests["p_adjusted"] < 0.05).all()
