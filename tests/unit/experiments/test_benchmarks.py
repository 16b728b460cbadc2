import io
from types import SimpleNamespace

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from rich.console import Console

from audits.stats.paired_bootstrap import Scored
from datamodules.errors import InputError
from datamodules.preferences import read_preferences
from experiments.benchmarks.baseline import BothSides, put_together, read_predictions
from experiments.benchmarks.scoring import Comparison, Timed, flips, results_table, sampled_pairs, take_turns
from train.run_directory import RunDirectory


@pytest.fixture
def predictions(tmp_path):
    """A run directory with test predictions of one label on two texts, and those texts."""
    table = {"text_id": ["x", "y"], "a": [0.7, 0.2], "a_on": [True, False], "a_true": [True, None]}
    (tmp_path / "predictions").mkdir()
    pq.write_table(pa.table(table), tmp_path / "predictions" / "0123abcd-test.parquet")
    texts = [SimpleNamespace(text_id="x", labels=(1,)), SimpleNamespace(text_id="y", labels=(-1,))]
    return RunDirectory(tmp_path), texts


def test_predictions_are_read_with_their_weights(predictions):
    run, texts = predictions
    weights, scored = read_predictions(run, None, ["a"], texts)
    assert weights == "0123abcd"
    assert scored.scores.tolist() == [[0.7], [0.2]]
    assert scored.decisions.tolist() == [[True], [False]]


def test_predictions_must_be_one_file_of_the_same_texts_and_labels(predictions):
    run, texts = predictions
    changed = [texts[0], SimpleNamespace(text_id="y", labels=(0,))]
    for wrong in (texts[::-1], texts[:1], changed):
        with pytest.raises(InputError, match="not those of the test split"):
            read_predictions(run, None, ["a"], wrong)
    with pytest.raises(InputError, match="without column b"):
        read_predictions(run, None, ["b"], texts)
    with pytest.raises(InputError, match="a finished run"):
        read_predictions(run, "ffffffff", ["a"], texts)
    second = run.path / "predictions" / "4567abcd-test.parquet"
    second.write_bytes((run.path / "predictions" / "0123abcd-test.parquet").read_bytes())
    with pytest.raises(InputError, match=r"0123abcd-test.parquet, 4567abcd-test.parquet.*--weights"):
        read_predictions(run, None, ["a"], texts)
    assert read_predictions(run, "4567abcd", ["a"], texts)[0] == "4567abcd"


@pytest.fixture
def fold():
    """Make the predictions of a fold of two texts, each a group of its own."""

    def make(first_id, score):
        scores = np.array([[score], [1 - score]])
        return BothSides(
            runs=((f"run-{first_id}", "0123abcd"),),
            labels=("a",),
            run=Scored(scores, scores > 0.5),
            baseline=Scored(1 - scores, scores < 0.5),
            targets=np.array([[1], [0]]),
            groups=np.array([0, 1]),
            text_ids=(first_id, f"{first_id}-other"),
            chosen=({"min_df": 1},),
            is_sample=False,
        )

    return make


def test_folds_are_put_together_with_groups_of_their_own(fold):
    both = put_together([fold("x", 0.9), fold("y", 0.2)])
    assert both.run.scores[:, 0] == pytest.approx([0.9, 0.1, 0.2, 0.8])
    assert both.baseline.decisions[:, 0].tolist() == [False, True, True, False]
    assert both.groups.tolist() == [0, 1, 2, 3]
    assert both.targets[:, 0].tolist() == [1, 0, 1, 0]
    assert len(both.runs) == len(both.chosen) == 2


def test_folds_that_share_a_text_are_refused(fold):
    with pytest.raises(InputError, match="a test text in common"):
        put_together([fold("x", 0.9), fold("x", 0.2)])


def test_ways_take_turns_and_their_logits_come_back_in_row_order():
    calls, ticks = [], []

    def way(name):
        def score(rows):
            calls.append((name, rows.tolist()))
            return np.stack([rows, -rows], axis=1).astype(np.float32)

        return score

    in_file_order = [np.array([0, 1]), np.array([2])]
    sorted_rows = [np.array([2, 0]), np.array([1])]
    seconds, logits = take_turns(((way("a"), in_file_order), (way("b"), sorted_rows)), 2, ticks.append)
    assert calls == [("a", [0, 1]), ("b", [2, 0])] * 2 + [("a", [2]), ("b", [1])] * 2
    assert seconds.shape == (2, 2, 2)
    assert sum(ticks) == 8
    assert [found.tolist() for found in logits] == [[[0, 0], [1, -1], [2, -2]]] * 2


def test_time_is_the_fastest_repeat_of_each_slice_and_what_is_done_once():
    timed = Timed("ours", np.array([[1.0, 5.0], [2.0, 3.0]]), 0.5, np.zeros((1, 1)))
    assert timed.total == 1.0 + 3.0 + 0.5


def test_whole_pairs_are_drawn_in_file_order_by_seed():
    data = read_preferences("sample-hh-rlhf", None)
    drawn = sampled_pairs(data, 20, seed=0)
    ids = [pair.pair_id for pair in data.read()]
    positions = [ids.index(pair.pair_id) for pair in drawn.read()]
    assert len(positions) == 10
    assert positions == sorted(positions)
    assert drawn.digest == sampled_pairs(data, 20, seed=0).digest
    assert drawn.digest != sampled_pairs(data, 20, seed=1).digest != data.digest
    assert list(sampled_pairs(data, 10_000, seed=0).read()) == list(data.read())


def test_table_tells_ratio_deviation_and_flips_in_100_columns():
    logits = np.array([[0.5, -0.25], [1.0, -0.75]], dtype=np.float32)
    other = np.array([[0.5, 0.25], [1.0, -0.75]], dtype=np.float32)
    seed = Timed("seed notebooks, float32", np.array([[8.0]]), 0.0, logits)
    ours = Timed("ours, as it runs (float32)", np.array([[1.5]]), 0.5, other)
    console = Console(width=100, record=True, file=io.StringIO())
    console.print(results_table([Comparison(512, (seed, ours), 2, 2)]))
    lines = console.export_text().splitlines()
    row = next(line for line in lines if "ours" in line)
    assert [cell.strip() for cell in row.strip("│").split("│")] == [
        "512",
        "ours, as it runs (float32)",
        "1.0",
        "4.00x",
        "5.0e-01",
        "1 of 4, 25.00%",
    ]


def test_flips_count_decisions_at_one_half():
    reference = np.array([[0.1, -0.1], [0.0, 2.0]])
    logits = np.array([[-0.1, -3.0], [-0.01, 1.0]])
    assert flips(logits, reference) == (2, 4)
    assert flips(reference, reference) == (0, 4)
