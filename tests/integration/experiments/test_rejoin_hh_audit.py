"""Are prompts dealt out in the order of completions, with the one that was lost?"""

import csv
from pathlib import Path

import numpy as np
import pytest

from datamodules.tabular import read_csv
from experiments.rejoin_hh_audit import FIX, N_TEMPLATES, N_TERMS, TYPES, main, rejoined

TERMS = [f"tribe{chr(97 + k)}" for k in range(N_TERMS)]
N_SAMPLES = 3
LOST = 251


def published(path: Path, lost: bool) -> list[str]:
    """Write a file that is out of step; returns the prompt that each completion was made for."""
    prompts = [(t, g, s) for t in range(N_TEMPLATES) for g in TERMS for s in range(N_SAMPLES)]
    generated = [(t, g, s) for g in TERMS for t in range(N_TEMPLATES) for s in range(N_SAMPLES)]
    rows, true = [], ["prompt of another kind"]
    other = {"model": "sure", "prompts": true[0], "model_is_compliant": "1", "type": "homonyms", "focus": "kill"}
    for kind in TYPES:
        rows_of_kind = list(zip(prompts, generated, strict=True))
        if lost and kind == TYPES[1]:
            del rows_of_kind[LOST]
        for (t, g, _), (own_t, own_g, own_s) in rows_of_kind:
            # A third of the completions name their group.
            text = f"about {own_g}" if own_s == 0 else "about nobody"
            cells = {"model": text, "prompts": f"{kind} {t} {g}", "type": kind, "focus": g}
            rows.append(cells | {"model_is_compliant": str(own_s % 2)})
            true.append(f"{kind} {own_t} {own_g}")
    with path.open("w", encoding="utf-8", newline="") as file:
        writer = csv.DictWriter(file, list(other))
        writer.writeheader()
        writer.writerows([other, *rows])
    return true


@pytest.mark.parametrize("lost", [False, True])
def test_every_completion_gets_its_own_prompt(tmp_path: Path, lost: bool) -> None:
    true = published(tmp_path / "published.csv", lost)
    assert main([str(tmp_path / "published.csv"), str(tmp_path / "rejoined.csv")]) == 0
    before, after = (read_csv(tmp_path / f"{name}.csv", FIX).rows for name in ("published", "rejoined"))
    assert [row["prompts"] for row in after] == true
    for column in ("model", "model_is_compliant"):
        assert [row[column] for row in after] == [row[column] for row in before]
    assert all(row["prompts"] == f"{row['type']} {row['prompts'].split()[1]} {row['focus']}" for row in after[1:])


def test_a_file_in_step_is_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    published(tmp_path / "published.csv", lost=True)
    assert main([str(tmp_path / "published.csv"), str(tmp_path / "rejoined.csv")]) == 0
    capsys.readouterr()
    assert main([str(tmp_path / "rejoined.csv"), str(tmp_path / "again.csv")]) == 2
    assert "best as they stand" in capsys.readouterr().err
    assert not (tmp_path / "again.csv").exists()


def test_another_file_is_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "other.csv").write_text("model,model_is_compliant,prompts,type,focus\na,1,b,homonyms,c\n")
    assert main([str(tmp_path / "other.csv"), str(tmp_path / "rejoined.csv")]) == 2
    assert "0 prompts in" in capsys.readouterr().err
    assert main([str(tmp_path / "other.csv"), str(tmp_path / "other.csv")]) == 2


@pytest.mark.data
def test_published_file(data_root: Path) -> None:
    """In both halves more than nine in ten of the completions that name a group then name their prompt's."""
    table = read_csv(data_root / "hh-audit" / "xs_test_gpt_processed_results.csv", FIX)
    rows, lines = rejoined(table)
    assert lines == [
        "nons_disc_custom: of 2,309 completions that name one group, 137 named their prompt's; now 2,163",
        "nons_disc_contrast: of 2,188 completions that name one group, 139 named their prompt's; now 2,127",
    ]
    assert rows[:1350] == list(table.rows[:1350])
    refused = {
        term: [r["hh_full_is_compliant"] for r in rows if r["type"] == TYPES[0] and r["focus"] == term]
        for term in ("native", "gay")
    }
    rates = {term: np.mean([flag in ("0", "0.0", "False") for flag in flags]) for term, flags in refused.items()}
    assert rates == {"native": pytest.approx(8 / 75), "gay": pytest.approx(61 / 75)}
