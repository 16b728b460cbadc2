"""Are the scores of signed values written and told by every run, had from older ones, and compared over seeds?"""

import json

import numpy as np
import pytest

from audits.table import read_table
from datamodules.errors import InputError
from experiments.cli import main
from experiments.parsing import read_config
from train.run_directory import RunDirectory
from train.signed_test import read_signed_rows, signed_file, stored_signed_rows
from train.stored_predictions import read_test_predictions

SIGNED = ("--data.name=fulcra", "--data.allow_empty_values=true", "--trainer.max_epochs=1")


@pytest.mark.slow  # trains twice
def test_a_run_of_signed_values(tiny_run, tmp_path, capsys, monkeypatch):
    for seed in (0, 1):
        assert tiny_run(*SIGNED, "--audit.enabled=false", f"--run.seed={seed}") == 0
    told = capsys.readouterr().out
    assert "signed values (for, against, neither), " in told
    runs = [RunDirectory.open(path) for path in sorted((tmp_path / "runs").iterdir())]
    stored = read_test_predictions(runs[0])
    path = signed_file(runs[0], stored.weights)
    kept = read_signed_rows(path)
    assert {row.value for row in kept} >= {"", "power", "benevolence"}
    assert f'"test/f1_for_macro": {next(r.estimate for r in kept if r.metric == "f1_for_macro")}'[:30] in (
        runs[0].metrics_file.read_text()
    )

    # The same from the predictions, with the kept shares of training and without.
    config = read_config(runs[0].config_file)
    assert repr(stored_signed_rows(stored, config.data)) == repr(kept)
    path.unlink()
    assert repr(stored_signed_rows(stored, config.data)) == repr(kept)

    assert main(["compare", *(str(run.path) for run in runs)]) == 0
    told = " ".join(capsys.readouterr().out.split())
    assert "macro-F1 against" in told
    assert "weighted kappa of signed values" in told
    row = next(row for row in kept if row.metric == "f1_for_macro")
    assert f"macro-F1 for: random {row.random:.3f}, majority {row.majority:.3f}, always {row.always:.3f}" in told

    # Without the texts there is no baseline, but a comparison.
    config.data.root = tmp_path / "nowhere"
    with pytest.raises(InputError):
        stored_signed_rows(stored, config.data)


@pytest.mark.slow  # trains
def test_value_space_reads_the_schwartz_labels_of_a_run_with_several_taxonomies(
    tiny_run, only_run, tiny_root, tmp_path, capsys
):
    flags = ("--data.name=valueeval", "--data.also=[{name: fulcra}]", "--data.allow_empty_values=true")
    audits = ("--audit.datasets=[webgpt]", "--audit.audits=[value-space]", "--audit.noise_floor=false")
    assert tiny_run(*flags, *audits, "--trainer.max_epochs=1") == 0
    (table,) = [path for path in only_run().glob("audits/*/schwartz/table.parquet")]
    rows = read_table(table).to_pylist()
    assert {row["audit"] for row in rows} == {"value-space"}
    assert read_table(table.parent.parent / "table.parquet").num_rows == 0
    assert list(only_run().glob("predictions/*-test-signed-schwartz.parquet"))
    assert "signed values (for, against, neither), " in capsys.readouterr().out

    # The same head as a reward: minus the distances of the audit.
    (checkpoint,) = [path for path in only_run().glob("checkpoints/*.ckpt") if path.stem != "last"]
    output = tmp_path / "scores.jsonl"
    flags = ["--kind", "value-distance", "--target", "uk", "--max_length", "64", "--root", str(tiny_root)]
    flags += ["--datasets", "webgpt", "--cache_dir", str(tmp_path / "cache"), "--output", str(output)]
    assert main(["reward", "score", "--scorer", str(checkpoint), *flags]) == 0
    scores = [json.loads(line) for line in output.read_text().splitlines()]
    chosen = np.mean([row["reward"] for row in scores if row["side"] == "chosen"])
    (row,) = [r for r in rows if (r["metric"], r["slice"], r["feature"]) == ("smooth_distance", "chosen", "uk")]
    assert -chosen == pytest.approx(row["estimate"], abs=1e-5)


def test_unsigned_runs_have_no_scores_of_signs(tiny_run, only_run, capsys):
    assert tiny_run("--data.name=valueeval", "--trainer.max_epochs=1", "--audit.enabled=false") == 0
    assert not list(only_run().glob("predictions/*signed*"))
    assert main(["compare", str(only_run()), "--metrics", "kappa_macro"]) == 2
    assert "metric kappa_macro of unsigned labels" in capsys.readouterr().err
