import errno
import json
import os

import pytest

from train.patient_tracker import PatientTracker
from train.tracking import LocalRecord


class Full(LocalRecord):
    """A record on a disk that is full for its first writes."""

    def __init__(self, path, n_failures, number=errno.ENOSPC):
        super().__init__(path)
        self._path, self._left, self._number = path, n_failures, number

    def log(self, metrics, step, epoch=None):
        if self._left:
            self._left -= 1
            with self._path.open("a") as file:
                file.write('{"step": 1, "ha')
            raise OSError(self._number, os.strerror(self._number))
        super().log(metrics, step, epoch)


def test_rows_wait_in_order_and_half_lines_are_dropped(tmp_path):
    path, said = tmp_path / "metrics.jsonl", []
    tracker = PatientTracker(Full(path, 2), path, said.append)
    for step in (1, 2, 3):
        tracker.log({"loss": float(step)}, step)
        assert tracker.n_unwritten == (step if step < 3 else 0)
    assert [json.loads(line)["loss"] for line in path.read_text().splitlines()] == [1.0, 2.0, 3.0]
    tracker.finish(0)
    assert len(said) == 1
    assert "No space left on device" in said[0]


def test_rows_that_are_lost_are_told_in_the_end(tmp_path):
    path, said = tmp_path / "metrics.jsonl", []
    tracker = PatientTracker(Full(path, 100), path, said.append)
    tracker.log({"loss": 1.0}, 1)
    tracker.log({"loss": 2.0}, 2)
    tracker.finish(0)
    assert said[-1] == f"  2 rows of metrics are lost: they could not be written to {path}"


def test_another_error_is_raised(tmp_path):
    path = tmp_path / "metrics.jsonl"
    with pytest.raises(OSError, match=os.strerror(errno.ECONNRESET)):
        PatientTracker(Full(path, 1, errno.ECONNRESET), path, print).log({"loss": 1.0}, 1)
