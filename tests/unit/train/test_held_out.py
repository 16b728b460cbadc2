"""Do stored predictions give the held-out scores, and tell two audits apart?"""

from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pyarrow.parquet as pq
import pytest

from datamodules.errors import InputError
from models.calibration import cross_fitted, fit_calibration
from models.evaluation import split_metrics
from train.audit_setup import AuditSetup
from train.held_out import N_PARTS, absence_line, held_out_digest, held_out_scores, predictions_beside
from train.predictions import write_predictions
from train.thresholds import EDITED

LABELS = ("a", "b")


def head(**changes):
    """What a classifier says about its outputs."""
    kind = {"softmax": False, "chance_thresholds": None, "max_false_negative_rate": None}
    return SimpleNamespace(labels=LABELS, taxonomy=SimpleNamespace(signed=False), **(kind | changes))


@pytest.fixture
def scored():
    """Logits, as a model gives them, of a split of 120 texts in 30 groups."""
    rng = np.random.default_rng(0)
    logits = rng.normal(size=(120, 2)).astype(np.float32)
    targets = np.where(rng.random(logits.shape) < 0.1, -1, logits + rng.normal(size=logits.shape) > 0.5).astype(int)
    texts = [SimpleNamespace(text_id=f"t{i}", group_id=f"declared-{i}") for i in range(120)]
    return logits, SimpleNamespace(texts=texts, targets=targets, groups=np.arange(120) // 4)


@pytest.fixture
def calibration(scored):
    logits, split = scored
    return fit_calibration(logits, split.targets, LABELS, False, False)


@pytest.fixture
def path(scored, calibration, tmp_path):
    logits, split = scored
    path = tmp_path / "predictions" / "w-val.parquet"
    write_predictions(path, split, logits, calibration)
    return path


def test_each_part_is_decided_by_the_others(path, scored, calibration):
    logits, split = scored
    found = held_out_scores(path, calibration, head())
    p, d = cross_fitted(logits, split.targets, split.groups, LABELS, False, False, n_parts=N_PARTS)
    np.testing.assert_array_equal(found.probabilities, p)
    np.testing.assert_array_equal(found.decisions, d)
    np.testing.assert_array_equal(found.targets, split.targets)
    assert found.groups.tolist() == [str(group) for group in split.groups]
    stored = np.stack([pq.read_table(path)[f"{label}_on"].to_numpy() for label in LABELS], axis=1)
    assert (stored != found.decisions).any()  # those of the fitted thresholds are not held out


def test_a_bound_on_missed_labels_is_cross_fitted_too(path, scored, calibration):
    logits, split = scored
    bounded = held_out_scores(path, calibration, head(max_false_negative_rate=0.2))
    assert bounded.decisions.sum() > held_out_scores(path, calibration, head()).decisions.sum()
    bound = {"max_false_negative_rate": 0.2, "n_parts": N_PARTS}
    p, d = cross_fitted(logits, split.targets, split.groups, LABELS, False, False, **bound)
    np.testing.assert_array_equal(bounded.decisions, d)
    assert split_metrics(p, d, split.targets, LABELS, logits)["recall/a"] > 0.7


def test_thresholds_that_were_edited_decide(path, scored, calibration):
    logits, _ = scored
    edited = replace(calibration, thresholds=(0.9, 0.1), notes=(EDITED,))
    found = held_out_scores(path, edited, head())
    np.testing.assert_array_equal(found.probabilities, calibration.probabilities(logits))
    np.testing.assert_array_equal(found.decisions, calibration.probabilities(logits) >= [0.9, 0.1])
    assert held_out_scores(path, replace(edited, notes=()), head()).decisions.tolist() != found.decisions.tolist()


def test_any_calibration_can_be_had_from_the_file(path, scored, calibration):
    logits, _ = scored
    table = pq.read_table(path)
    again = np.stack([table[f"{label}_logit"].to_numpy() for label in LABELS], axis=1)
    np.testing.assert_array_equal(again, logits)
    probabilities = np.stack([table[label].to_numpy() for label in LABELS], axis=1)
    np.testing.assert_array_equal(calibration.probabilities(again), probabilities)


def test_without_the_file_or_its_logits_there_is_none(path, calibration):
    table = pq.read_table(path)
    pq.write_table(table.drop_columns(["a_logit", "b_logit"]), path)
    assert held_out_scores(path, calibration, head()) is None
    assert absence_line(path) == (
        "  predictions w-val.parquet of an earlier version, without logits: "
        "prevalence rows get no band from held-out texts; to have both made again, delete it and thresholds/w.json"
    )
    path.unlink()
    assert held_out_scores(path, calibration, head()) is None
    assert "w-val.parquet missing: prevalence" in absence_line(path)


def test_a_damaged_file_is_told(path, calibration):
    path.write_bytes(path.read_bytes()[:200])
    with pytest.raises(InputError, match=r"w-val\.parquet, which does not read .*delete it and thresholds/w\.json"):
        held_out_scores(path, calibration, head())


def test_an_audit_with_held_out_texts_is_another_than_without(path, calibration):
    setup = AuditSetup(audits=(), audited=(), precision="float32", token_budget=1, code="c")
    found = held_out_scores(path, calibration, head())
    flipped = replace(found, decisions=~found.decisions)
    moved = replace(found, groups=np.roll(found.groups, 1))
    keys = [setup.key(calibration, held_out_digest(own)) for own in (None, found, flipped, moved)]
    assert len(set(keys)) == 4
    assert setup.key(calibration) == keys[0]
    # The last bits of probabilities differ between machines.
    nearly = replace(found, probabilities=found.probabilities * (1 - 1e-12))
    assert held_out_digest(nearly) == held_out_digest(found)


def test_the_file_is_found_beside_the_checkpoint(tmp_path):
    expected = tmp_path / "predictions" / "01234567-val.parquet"
    assert predictions_beside(tmp_path / "checkpoints" / "e000.ckpt", "0123456789") == expected
