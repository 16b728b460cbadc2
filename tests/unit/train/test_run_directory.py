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
    run.write_environment(torch.device("cpu"), {"x": {"digest": "d"}}, None)
    environment = json.loads((run.path / "env.json").read_text())
    assert environment["packages"]["torch"] == torch.__version__
    assert environment["device"] == "cpu"
    assert environment["data"] == {"x": {"digest": "d"}}


@pytest.mark.parametrize(
    ("environment", "text"),
    [
        ({"python": "3.11"}, r"no format of the run directory in .*env\.json; needed format 1; fix: add \"format\": 1"),
        ({"format": 2}, r"of format 2; needed format 1; fix: use the newer imprint that wrote it"),
        ({"format": 0}, r"of format 0; needed format 1; fix: use the imprint that wrote it"),
        ({"format": "one"}, r"of format 'one'; needed format 1; fix: use the imprint that wrote it"),
        ([], r"no format of the run directory"),
        (None, r"no file at .*env\.json"),
    ],
)
def test_a_run_of_another_layout_is_told(tmp_path, environment, text):
    (tmp_path / "config.yaml").write_text("run: {}\n")
    if environment is not None:
        (tmp_path / "env.json").write_text(json.dumps(environment))
    with pytest.raises(InputError, match=text):
        RunDirectory.open(tmp_path)


def test_a_run_of_this_layout_opens(tmp_path):
    run = RunDirectory.create(tmp_path, "demo", 0)
    run.write_config({"run": {}})
    run.write_environment(torch.device("cpu"), {}, {"run_id": "x"})
    assert RunDirectory.open(run.path) == run
    assert run.parent == {"run_id": "x"}
