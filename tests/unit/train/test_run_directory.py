import json

import pytest
import torch

from datamodules.errors import InputError
from train.run_directory import RunDirectory


def test_two_runs_in_one_second_get_two_folders(tmp_path):
    runs = [RunDirectory.create(tmp_path, "demo", 3) for _ in range(3)]
    assert len({run.run_id for run in runs}) == 3
    assert all(run.run_id.startswith("demo-s3-") for run in runs)


def test_a_root_that_is_a_file_is_told(tmp_path):
    (tmp_path / "file").write_text("x")
    with pytest.raises(InputError, match=r"takes no new folder.*--run\.root"):
        RunDirectory.create(tmp_path / "file", "demo", 0)


def test_a_folder_that_is_no_run_is_told(tmp_path):
    with pytest.raises(InputError, match="name a run directory"):
        RunDirectory.open(tmp_path)


def test_the_environment_has_versions_device_and_data(tmp_path):
    run = RunDirectory.create(tmp_path, "demo", 0)
    run.write_environment(torch.device("cpu"), {"x": {"digest": "d"}})
    environment = json.loads((run.path / "env.json").read_text())
    assert environment["packages"]["torch"] == torch.__version__
    assert environment["device"] == "cpu"
    assert environment["data"] == {"x": {"digest": "d"}}
