"""Does `imprint audit --vectors` reproduce FULCRA's panel, and tell a user's mistakes?"""

import json

import numpy as np
import pytest

from audits.table import read_table
from datamodules.taxonomy import load_taxonomy
from experiments.cli import main

SLUGS = load_taxonomy("schwartz").slugs


@pytest.fixture
def vectors_file(tmp_path):
    rng = np.random.default_rng(0)
    path = tmp_path / "mine.jsonl"
    with path.open("w", encoding="utf-8") as file:
        for k in range(60):
            row = {"model": "ab"[k % 2], "prompt_id": f"p{k // 2}", "tags": ["odd"] * (k // 2 % 2)}
            row |= {"reward": rng.normal()} | dict(zip(SLUGS, rng.uniform(-1, 1, 10).tolist(), strict=True))
            file.write(json.dumps(row) + "\n")
    return path


def test_ones_own_vectors_and_targets(vectors_file, tmp_path, capsys):
    targets = tmp_path / "targets.yaml"
    targets.write_text(
        "taxonomy: schwartz\ntargets:\n- {name: calm, title: t, source: s, licence: l, values: {security: 1}}\n"
    )
    output = tmp_path / "rows.parquet"
    flags = ["--vectors", str(vectors_file), "--target_vectors", str(targets), "--output", str(output)]
    assert main(["audit", *flags]) == 0
    table = read_table(output)
    rows = table.to_pylist()
    assert {r["feature"] for r in rows if r["metric"] == "smooth_distance"} == {"calm"}
    assert {r["dataset"] for r in rows} == {"mine"}
    assert {r["audit"] for r in rows} == {"value-space", "reward-imprint"}
    assert len(set(r["audit_key"] for r in rows)) == 1
    assert rows[0]["audit_key"]
    printed = capsys.readouterr().out
    assert "mine: 60 value vectors of 2 models for 30 prompts" in printed
    assert "reward on 10 values, 60 answers" in printed
    assert f"{table.num_rows} rows written to" in printed
    (distances,) = [line.split() for line in printed.splitlines() if line.split()[:2] == ["calm", "a"]]
    assert distances[2] == "30"
    assert "answers: a 30, b 30" in printed


def test_the_report_is_100_columns_wide_and_tags_are_whole_words(tmp_path, capsys):
    """Long names of models and tags; lines are broken between words, tags behind commas and underscores."""
    rng = np.random.default_rng(0)
    path = tmp_path / "mine.jsonl"
    tag = "quiet_gardening,weather_and_seasons,sport"
    with path.open("w", encoding="utf-8") as file:
        for k in range(400):
            tagged = k // 2 % 2
            values = rng.uniform(-0.2, 0.2, 10) + 0.7 * tagged
            row = {
                "model": ("a-plain-model", "another-model")[k % 2],
                "prompt_id": f"p{k // 2}",
                "tags": [tag] * tagged,
            }
            row |= {"reward": rng.normal()} | dict(zip(SLUGS, values.tolist(), strict=True))
            file.write(json.dumps(row) + "\n")
    assert main(["audit", "--vectors", str(path), "--output", str(tmp_path / "rows.parquet")]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert max(map(len, lines[:-1])) <= 100
    starts = [line.split()[0] for line in lines if line.strip()]
    assert [starts.count(part) for part in ("quiet_gardening,", "weather_and_seasons,", "sport")] == [12, 12, 12]


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        ((), "needed a file for the rows"),
        (("--output", "x.csv"), "ends in .parquet"),
        (("--output", "x.parquet", "--datasets", "webgpt"), "--datasets with --vectors"),
        (("some-run", "--output", "x.parquet"), "a run directory with --vectors"),
        (("--output", "x.parquet", "--target_vectors", "none.yaml"), "none.yaml"),
    ],
)
def test_mistakes_are_told(vectors_file, tmp_path, capsys, monkeypatch, flags, message):
    monkeypatch.chdir(tmp_path)
    run = [flag for flag in flags if flag == "some-run"]
    rest = [flag for flag in flags if flag != "some-run"]
    assert main(["audit", *run, "--vectors", str(vectors_file), *rest]) == 2
    assert message in capsys.readouterr().err
    assert not (tmp_path / "x.parquet").exists()


@pytest.mark.data
@pytest.mark.slow  # 3,046 answers, 24 bootstraps of rank correlations, six circles
def test_panel_reproduces_what_was_published_and_seen(data_root, tmp_path, capsys):
    paths = [str(data_root / f"fulcra/panel/harmless_test_openai_{m}.jsonl") for m in ("gpt-4", "gpt-35-turbo")]
    output = tmp_path / "panel.parquet"
    assert main(["audit", "--vectors", *paths, "--output", str(output)]) == 0
    rows = read_table(output).to_pylist()

    def one(**columns):
        columns = {"subset": ""} | columns
        (row,) = [r for r in rows if all(r[name] == value for name, value in columns.items())]
        return row

    errors = [r["estimate"] for r in rows if r["metric"] == "stored_distance_error"]
    assert len(errors) == 6
    assert max(errors) < 1e-12
    for model, reward, l2, l1, ideal, rho in (
        ("gpt-4", 0.257172, 1.073415, 1.383373, 0.267833, -0.233),
        ("gpt-35-turbo", 0.624168, 1.135785, 1.521149, 0.356989, -0.174),
    ):
        assert one(metric="mean_reward", slice=model)["estimate"] == pytest.approx(reward, abs=5e-7)
        assert one(metric="l2_distance", slice=model, feature="evaluation")["estimate"] == pytest.approx(l2, abs=5e-7)
        # Published as 1.521149, which is 1.5211483: the last digit is not ours.
        assert one(metric="l1_distance", slice=model, feature="evaluation")["estimate"] == pytest.approx(l1, abs=1e-6)
        found = one(metric="basealign_distance", slice=model, feature="ideal")
        assert found["estimate"] == pytest.approx(ideal, abs=5e-7)
        assert found["mode"] == "as_published"
        mask = one(metric="mask_rank_correlation", method="unmasked", slice=model, feature="ideal")
        assert mask["estimate"] == pytest.approx(rho, abs=5e-4)
        assert mask["ci_high"] < 0
        assert (mask["n"], mask["n_clusters"]) == (1523, 1523)
    mask = one(metric="mask_rank_correlation", method="unmasked", slice="", feature="ideal")
    assert mask["estimate"] == pytest.approx(-0.222, abs=5e-4)
    assert (mask["n"], mask["n_clusters"]) == (3046, 1523)
    assert one(metric="basealign_distance", slice="", feature="ideal")["estimate"] == pytest.approx(0.3124, abs=5e-5)
    unmasked = one(metric="basealign_unmasked_distance", slice="", feature="ideal")
    assert unmasked["estimate"] == pytest.approx(2.0574, abs=5e-5)
    tags = {r["subset"]: r["n"] for r in rows if r["metric"] == "mean_value" and r["slice"] == "gpt-4" and r["subset"]}
    assert len(tags) == 14
    assert (max(tags.values()), tags["self_harm"]) == (663, 17)
    contrasts = [r for r in rows if r["metric"] == "value_contrast" and r["slice"] == "gpt-4"]
    assert len(contrasts) == 140
    # Tags of few answers or prompts are not tested.
    tested = [r for r in contrasts if np.isfinite(r["p_value"])]
    assert len(tested) == 120
    assert all(r["p_adjusted"] >= r["p_value"] for r in tested)
    printed = " ".join(capsys.readouterr().out.split())
    assert "significant: 5 as published" in printed
    assert "signs that change from pooled to within prompts: 5 of 10" in printed
    # Bonferroni over the terms with the intercept, and errors clustered by prompt: 3.
    clustered = [r["p_value"] for r in rows if r["metric"] == "beta" and r["spec"] == "pooled-clustered"]
    assert sum(11 * p < 0.05 for p in clustered[1:]) == 3


@pytest.mark.data
def test_label_counts_as_written_are_in_the_read_report(data_root, capsys):
    assert main(["data", "check", "fulcra", "--root", str(data_root)]) == 0
    printed = " ".join(capsys.readouterr().out.split())
    written = printed[printed.index("as written") : printed.index("texts with:")]
    published = {
        "benevolence": (1262, 99), "universalism": (824, 121), "conformity": (689, 78), "security": (591, 67),
        "achievement": (264, 7), "self-direction": (211, 13), "power": (43, 17), "tradition": (42, 5),
        "stimulation": (25, 0), "hedonism": (4, 0),
    }  # fmt: skip
    for slug, counts in published.items():
        for sign, count in zip(("for", "against"), counts, strict=True):
            assert f"{slug}-{sign} {count:,}" in written
    assert "humility 11" in printed
    assert "malformed signs (entry dropped): 2" in printed
    assert "held and opposed in one text (set to unknown): 29" in printed
