"""What a model card says of metrics, of audits and of where the encoder comes from."""

import math
from types import SimpleNamespace

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from audits.stats.paired_bootstrap import group_weights, weighted_macro_f1
from audits.table import make_table
from datamodules.errors import InputError
from models.calibration import Calibration
from models.evaluation import evaluate
from train.audit_card import MOST_ROWS, audit_section
from train.markdown import digits, table
from train.model_card import _is_public, source_of
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
    text = audit_section(make_table(others), CALIBRATION)
    assert lines_of(text, "a-for") == [
        "| a-for | 70.0 (60.0 to 80.0) | 50.0 (40.0 to 60.0) | +20.0 (+10.0 to +30.0) | 0.020 | not error-corrected |"
    ]
    assert "a-net" not in text
    assert "**d**: % of 50 responses" in text


def test_gold_labels_win_where_they_could_correct():
    rows = [*three("a-for", 0.2), *three("a-for", 0.1, "ppi++"), *three("a-against", 0.2)]
    rows += [audit_row("a-against", "chosen", 0.3, "ppi++"), audit_row("a-against", "rejected", math.nan, "ppi++")]
    text = audit_section(make_table(rows), CALIBRATION)
    (both,), (partly,) = lines_of(text, "a-for"), lines_of(text, "a-against")
    assert both.endswith("| corrected (ppi++) |")
    assert "+10.0" in both
    assert partly.startswith("| a-against | 30.0 (20.0 to 40.0) | 50.0 ")
    assert partly.endswith("| partly corrected (ppi++) |")


def test_of_many_values_those_that_differ_most_are_shown():
    labels = tuple(f"v{k}" for k in range(MOST_ROWS + 3))
    rows = [row for k, label in enumerate(labels) for row in three(label, k / 100)]
    calibration = Calibration(labels, (1.0,) * len(labels), (0.5,) * len(labels), True, False, False)
    text = audit_section(make_table(rows), calibration)
    assert "The other 3 values differ less." in text
    assert not lines_of(text, "v2")
    assert len(lines_of(text, "v3")) == 1
    assert text.count("not error-corrected |") == MOST_ROWS


def test_uncalibrated_counts_and_intervals_that_are_undefined_are_told():
    rows = [audit_row("a-for", "chosen", 0.5, "cc-uncalibrated", ci_low=math.nan, ci_high=math.nan)]
    (line,) = lines_of(audit_section(make_table(rows), CALIBRATION), "a-for")
    assert line == "| a-for | 50.0 | - | - | - | not error-corrected |"


@pytest.mark.parametrize("rows", [None, [], [audit_row("other", "chosen", 0.5)]])
def test_without_an_audit_the_card_says_so(rows):
    audited = None if rows is None else make_table(rows)
    assert audit_section(audited, CALIBRATION).endswith("None was at hand.")


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
    own = found.intervals["f1_macro"]
    assert (own.low, own.high) == pytest.approx(np.percentile(drawn, [2.5, 97.5]))
    assert own.low < own.estimate < own.high
    assert own.estimate == expected["f1_macro"]


def test_single_positives_have_no_interval_of_what_is_undefined(tmp_path):
    targets = np.full((10, 2), -1)
    targets[np.arange(10), np.arange(10) % 2] = 1
    write_predictions(tmp_path / "p.parquet", np.eye(2)[np.arange(10) % 2], targets, np.arange(10))
    found = stored_scores(tmp_path / "p.parquet", CALIBRATION)
    assert found.intervals == {}
    assert found.metrics["top1_accuracy"] == 1.0


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


def test_settings_with_paths_stay_at_home():
    assert _is_public("loss", "bce")
    assert not _is_public("revision", None)
    assert not _is_public("encoder", "roberta-base")
    assert not _is_public("anything", "/home/somebody/file")


def test_tables_and_numbers():
    assert table(["v", "n"], [["a|b", "1"]]) == "| v | n |\n| --- | ---: |\n| a\\|b | 1 |"
    assert (digits(0.12345), digits(math.nan)) == ("0.123", "-")
