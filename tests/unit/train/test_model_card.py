"""What a model card says of metrics, of audits and of where the encoder comes from."""

import math
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from audits.stats.paired_bootstrap import group_weights, weighted_macro_f1
from audits.stats.redrawn_metrics import label_f1
from audits.table import make_table
from datamodules.errors import InputError
from experiments.export_command import report_lines
from models.calibration import Calibration
from models.evaluation import evaluate
from models.export_check import Comparison
from train.audit_card import MOST_ROWS, AuditFacts, audit_section, table
from train.export import Export
from train.model_card import digits, source_of
from train.stored_scores import N_REPLICATES, stored_scores

LABELS = ("a-for", "a-against")
CALIBRATION = Calibration(LABELS, (1.0, 2.0), (0.5, 0.4), True, True, False)


def audit_row(feature, part, estimate, method="cc", **more):
    metric = "prevalence_difference" if part == "chosen-rejected" else "prevalence"
    row = {"audit": "value-distribution", "dataset": "d", "slice": part, "feature": feature, "metric": metric}
    row |= {"mode": "corrected", "spec": "within", "method": method, "estimate": estimate, "n": 50, "n_clusters": 9}
    return row | {"ci_low": estimate - 0.1, "ci_high": estimate + 0.1} | more


def three(feature, difference, method="cc", **more):
    return [
        audit_row(feature, "chosen", 0.5 + difference, method, **more),
        audit_row(feature, "rejected", 0.5, method, **more),
        audit_row(feature, "chosen-rejected", difference, method, p_adjusted=0.02, **more),
    ]


def section(rows, labels=LABELS):
    return audit_section(AuditFacts(make_table(rows), "exchange-head-64", {"d": "0"}), labels)


def lines_of(text, feature):
    return [line for line in text.splitlines() if line.startswith(f"| {feature} |")]


def test_audit_rows_are_counts_that_are_not_error_corrected():
    others = [
        *three("a-for", 0.4, subset="part"),
        *three("a-for", 0.1, mode="as_published"),
        *three("a-for", 0.1, method="acc"),
        *three("a-for", 0.2),
        *three("a-net", 0.3),
    ]
    text = section(others)
    assert lines_of(text, "a-for") == [
        "| a-for | 70.0 (60.0 to 80.0) | 50.0 (40.0 to 60.0) | +20.0 (+10.0 to +30.0) | 0.020 |"
    ]
    assert "a-net" not in text
    assert "view `exchange-head-64`" in text
    assert "**d**: % of 50 pairs in 9 prompts, and the difference in points.\n" in text


def test_gold_labels_win_where_they_could_correct():
    rows = [*three("a-for", 0.2), *three("a-for", 0.1, "ppi++"), *three("a-against", 0.2)]
    rows += [audit_row("a-against", "chosen", 0.3, "ppi++"), audit_row("a-against", "rejected", math.nan, "ppi++")]
    text = section(rows)
    (both,), (partly,) = lines_of(text, "a-for"), lines_of(text, "a-against")
    assert "| +10.0† (" in both
    assert partly.startswith("| a-against | 30.0† (20.0 to 40.0) | 50.0 (")
    assert "† corrected for the classifier's errors with labels by people (ppi++)" in text


def test_of_many_values_those_that_differ_most_are_shown():
    labels = tuple(f"v{k}" for k in range(MOST_ROWS + 3))
    rows = [row for k, label in enumerate(labels) for row in three(label, k / 100)]
    text = section(rows, labels)
    assert "The other 3 values differ less." in text
    assert not lines_of(text, "v2")
    assert len(lines_of(text, "v3")) == 1
    assert sum(line.startswith("| v") for line in text.splitlines()) == MOST_ROWS + 1


def test_uncalibrated_counts_and_intervals_that_are_undefined_are_told():
    rows = [audit_row("a-for", "chosen", 0.5, "cc-uncalibrated", ci_low=math.nan, ci_high=math.nan)]
    (line,) = lines_of(section(rows), "a-for")
    assert line == "| a-for | 50.0 | - | - | - |"


def test_without_an_audit_the_card_says_so():
    assert audit_section(None, LABELS).endswith("None: no audit of it was at hand.")
    for rows in ([], [audit_row("other", "chosen", 0.5)]):
        assert section(rows).endswith("Its audit counted no shares of values.")


def write_predictions(path, logits, targets, groups):
    columns = {"group_number": groups}
    for k, label in enumerate(LABELS):
        columns[f"{label}_logit"] = logits[:, k].astype(np.float32)
        columns[f"{label}_true"] = pa.array(targets[:, k] == 1, mask=targets[:, k] == -1)
    pq.write_table(pa.table(columns), path)


def test_test_scores_are_those_of_the_thresholds_at_hand(tmp_path):
    generator = np.random.default_rng(0)
    logits = generator.normal(size=(60, 2)).astype(np.float32)
    targets = np.where(logits + generator.normal(size=(60, 2)) > 0, 1, 0)
    targets[:5, 0] = -1
    groups = np.repeat(np.arange(20), 3)
    write_predictions(tmp_path / "p.parquet", logits, targets, groups)
    found = stored_scores(tmp_path / "p.parquet", CALIBRATION)
    expected = evaluate(logits, targets, CALIBRATION, groups)
    assert found.metrics == pytest.approx(expected, nan_ok=True)
    assert (found.n_texts, found.n_groups) == (60, 20)
    assert found.known == {"a-for": 55, "a-against": 60}
    assert found.positives["a-for"] == int((targets[:, 0] == 1).sum())
    # Whole groups are redrawn.
    decisions = CALIBRATION.decide(CALIBRATION.probabilities(logits))
    drawn = weighted_macro_f1(decisions, targets, group_weights(groups, N_REPLICATES, seed=0))
    low, high = found.intervals["f1_macro"]
    assert (low, high) == pytest.approx(np.percentile(drawn, [2.5, 97.5]))
    assert low < expected["f1_macro"] < high
    of_labels = label_f1(decisions, targets, group_weights(groups, N_REPLICATES, seed=0))
    for k, label in enumerate(LABELS):
        assert found.intervals[f"f1/{label}"] == pytest.approx(np.percentile(of_labels[:, k], [2.5, 97.5]))
    averages, per_label = {"f1_macro", "f1_micro", "ap_macro"}, ("f1", "ap")
    assert set(found.intervals) >= averages | {f"{name}/{label}" for name in per_label for label in LABELS}


def test_single_positives_have_no_interval_of_what_is_undefined(tmp_path):
    targets = np.full((10, 2), -1)
    targets[np.arange(10), np.arange(10) % 2] = 1
    write_predictions(tmp_path / "p.parquet", np.eye(2)[np.arange(10) % 2], targets, np.arange(10))
    found = stored_scores(tmp_path / "p.parquet", CALIBRATION)
    assert set(found.intervals) == {"top1_accuracy", "f1_top1_macro", *(f"f1_top1/{label}" for label in LABELS)}
    assert found.intervals["top1_accuracy"] == (1.0, 1.0)
    assert found.metrics["top1_accuracy"] == 1.0
    write_predictions(tmp_path / "one.parquet", np.eye(2), targets[:2], np.zeros(2, dtype=int))
    assert stored_scores(tmp_path / "one.parquet", CALIBRATION).intervals == {}


def test_predictions_that_are_missing_old_or_damaged(tmp_path):
    assert stored_scores(tmp_path / "none.parquet", CALIBRATION) is None
    pq.write_table(pa.table({"group_number": [1], "a-for": [0.5]}), tmp_path / "old.parquet")
    assert stored_scores(tmp_path / "old.parquet", CALIBRATION) is None
    (tmp_path / "bad.parquet").write_bytes(b"PAR1")
    with pytest.raises(InputError, match="which does not read as parquet"):
        stored_scores(tmp_path / "bad.parquet", CALIBRATION)


def test_encoders_of_a_hub_are_named_and_folders_are_not(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "mine").mkdir()

    def named(name):
        return source_of(SimpleNamespace(hparams={"encoder_name": name}))

    assert named("minilm") == "sentence-transformers/all-MiniLM-L6-v2"
    assert named("roberta-base") == "roberta-base"
    assert named("microsoft/deberta-v3-large") == "microsoft/deberta-v3-large"
    for folder in (str(tmp_path / "mine"), "mine", "./other", "../x/y", "~/encoders/a", "some/deep/folder"):
        assert named(folder) is None, folder


def test_what_an_export_lacks_is_said():
    compared = Comparison(3, 1, 1e-7)
    export = Export(Path("out"), Path("a.ckpt"), None, compared, None, ("schwartz", "fulcra"), ("a note",))
    said = report_lines(export)
    assert "only the values of the main taxonomy are in it, not those of schwartz, fulcra" in said
    assert "a note" in said
    untold = SimpleNamespace(tested=None, audit=None)
    said = "\n".join(report_lines(replace(export, run=untold, left_out=())))
    assert "main taxonomy" not in said
    assert "no metrics" in said
    assert "no audit table" in said


def test_tables_and_numbers():
    assert table(["v", "n"], [["a|b", "1"]]) == "| v | n |\n| --- | ---: |\n| a\\|b | 1 |"
    assert (digits(0.12345), digits(math.nan)) == ("0.123", "-")
