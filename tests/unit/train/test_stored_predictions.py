import json

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import yaml

from datamodules.errors import InputError
from train.ledger import Ledger
from train.run_directory import RunDirectory
from train.stored_predictions import read_test_predictions

COLUMNS = {
    "text_id": ["x", "y", "z"],
    "group_id": ["g2", "g1", "g2"],
    "group_number": [4, 0, 4],
    "duty": [0.75, 0.25, 0.5],
    "duty_on": [True, False, True],
    "duty_true": [True, None, False],
    "duty_logit": [1.0, -1.0, 0.0],
}


@pytest.fixture
def run(tmp_path):
    (tmp_path / "predictions").mkdir()
    config = {"trainer": {"monitor": "auto"}, "audit": {}, "run": {}}
    (tmp_path / "config.yaml").write_text(yaml.safe_dump(config))
    return RunDirectory(tmp_path)


def write(run, weights="aaaaaaaa", **changes):
    columns = {name: value for name, value in (COLUMNS | changes).items() if value is not None}
    pq.write_table(pa.table(columns), run.path / "predictions" / f"{weights}-test.parquet")


def test_what_was_written_is_read(run):
    write(run)
    found = read_test_predictions(run)
    assert (found.weights, found.step, found.labels) == ("aaaaaaaa", None, ("duty",))
    assert found.text_ids.tolist() == ["x", "y", "z"]
    assert found.targets.tolist() == [[1], [-1], [0]]
    assert found.probabilities.tolist() == [[0.75], [0.25], [0.5]]
    assert found.decisions.tolist() == [[True], [False], [True]]
    assert found.groups.tolist() == [1, 0, 1]


def test_without_numbers_the_declared_groups_count(run):
    write(run, group_number=None)
    assert read_test_predictions(run).groups.tolist() == [1, 0, 1]


def test_of_several_checkpoints_the_best_one_is_read(run):
    ledger = Ledger(run.ledger_file)
    for step, weights in enumerate(("aaaaaaaa", "bbbbbbbb", "cccccccc")):
        write(run, weights)
        ledger.record_seen(weights + "0" * 8, step, None, f"{step}.ckpt")
    rows = [{"step": 0, "val/ap_macro": 0.4, "val/loss": 0.3}, {"step": 1, "val/ap_macro": 0.6, "val/loss": 0.5}]
    # Undefined at the last one.
    rows.append({"step": 2, "val/ap_macro": None, "val/loss": 0.4})
    run.metrics_file.write_text("".join(json.dumps(row) + "\n" for row in rows))
    assert read_test_predictions(run).weights == "bbbbbbbb"
    assert read_test_predictions(run).step == 1
    run.config_file.write_text(run.config_file.read_text().replace("auto", "val/loss"))
    assert read_test_predictions(run).weights == "aaaaaaaa"
    run.metrics_file.unlink()
    with pytest.raises(InputError, match=r"several checkpoints in .*aaaaaaaa-test\.parquet.* and no val/loss of any"):
        read_test_predictions(run)


@pytest.mark.parametrize(
    ("changes", "told"),
    [
        ({"duty_on": None}, r"without column duty_on"),
        ({"text_id": None}, r"without column text_id"),
        ({"duty_true": None}, r"without column <label>_true"),
    ],
)
def test_a_file_without_its_columns_is_told(run, changes, told):
    write(run, **changes)
    with pytest.raises(InputError, match=told):
        read_test_predictions(run)


def test_a_run_that_was_not_finished_and_a_damaged_file_are_told(run):
    with pytest.raises(InputError, match=r"no predictions/\*-test\.parquet.*a finished run; fix: imprint fit --resume"):
        read_test_predictions(run)
    (run.path / "predictions" / "aaaaaaaa-test.parquet").write_bytes(b"PAR1")
    with pytest.raises(InputError, match="does not read as Parquet"):
        read_test_predictions(run)


def test_reliability_files_are_no_predictions(run):
    write(run)
    pq.write_table(pa.table({"a": [1]}), run.path / "predictions" / "aaaaaaaa-test-reliability.parquet")
    assert np.array_equal(read_test_predictions(run).targets[:, 0], [1, -1, 0])


def test_validation_of_a_further_taxonomy_that_ends_alike_is_no_test(run):
    (run.path / "predictions" / "aaaaaaaa-val-my-test.parquet").write_bytes(b"")
    with pytest.raises(InputError, match=r"no predictions/\*-test\.parquet"):
        read_test_predictions(run)
