"""Does value-disparity run at every checkpoint, on responses, and is a changed list of terms another audit?"""

import json

import pytest

import train.audited_data
from audits.table import read_table
from datamodules.identity_terms import TERMS_FILE, identity_terms
from experiments.cli import main


@pytest.mark.slow  # trains and audits twice
def test_groups_are_compared_at_a_checkpoint_and_terms_are_in_its_key(
    tiny_run, only_run, tmp_path, capsys, monkeypatch
):
    flags = ("--trainer.max_epochs=1", "--audit.noise_floor=false", "--audit.datasets=[sample-hh-rlhf]")
    assert tiny_run(*flags, "--audit.audits=[value-disparity]") == 0
    assert "name a group of people (dixon-2018 terms)" in capsys.readouterr().err
    run = only_run()

    def folders():
        return {path.parent for path in run.glob("audits/*/table.parquet") if path.parent.name != "drift"}

    (first,) = folders()
    rows = read_table(first / "table.parquet").to_pylist()
    assert {row["audit"] for row in rows} == {"value-disparity"}
    assert {"named_share", "prevalence", "prevalence_gap"} <= {row["metric"] for row in rows}
    meta = json.loads((first / "meta.json").read_text())
    assert "view='response'" in meta["audits"][0]
    assert main(["audit", str(run)]) == 0
    out = capsys.readouterr().out
    assert "0 audited now, 1 done before" in out
    other = tmp_path / "terms.yaml"
    other.write_text(TERMS_FILE.read_text().replace("[blind, deaf, paralyzed]", "[blind, deaf, paralyzed, knitter]"))
    monkeypatch.setattr(train.audited_data, "identity_terms", lambda: identity_terms(other))
    monkeypatch.setattr("datamodules.prompt_groups.identity_terms", lambda: identity_terms(other))
    assert main(["audit", str(run)]) == 0
    assert "1 audited now" in capsys.readouterr().out
    assert len(folders()) == 2
