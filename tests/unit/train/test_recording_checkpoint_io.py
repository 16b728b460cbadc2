import resource
from pathlib import Path

import pytest
import torch

from datamodules.errors import InputError
from models.digest import weights_digest
from train.callbacks.recording_checkpoint_io import RecordingCheckpointIO


@pytest.fixture
def written():
    return []


@pytest.fixture
def checkpoint_io(written):
    return RecordingCheckpointIO(lambda *noted: written.append(noted), lambda: "go on so")


def checkpoint(*sizes):
    return {"state_dict": {f"w{k}": torch.randn(size) for k, size in enumerate(sizes)}, "global_step": 7}


def test_a_file_is_written_and_then_told(checkpoint_io, written, tmp_path):
    content = checkpoint(3, 1000)
    checkpoint_io.save_checkpoint(content, tmp_path / "new" / "a.ckpt")
    assert written == [(weights_digest(content["state_dict"]), 7, tmp_path / "new" / "a.ckpt")]
    again = torch.load(tmp_path / "new" / "a.ckpt", weights_only=True)
    assert weights_digest(again["state_dict"]) == written[0][0]


@pytest.fixture
def small_disk():
    """No file of this process can grow above 30,000 bytes."""
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (30_000, limits[1]))
    yield
    resource.setrlimit(resource.RLIMIT_FSIZE, limits)


# In one tensor, between two of them, in the last bytes, and in what Python still holds when the file is closed.
@pytest.mark.parametrize("sizes", [(50_000,), (4000, 4000), (7_300,), (400,) * 40])
def test_no_room_is_told_and_the_old_file_stays(checkpoint_io, written, tmp_path, small_disk, sizes):
    path = tmp_path / "last.ckpt"
    path.write_text("old")
    with pytest.raises(
        InputError, match=r"last\.ckpt, where writing failed \(File too large; .* MB free\).*then go on so"
    ):
        checkpoint_io.save_checkpoint(checkpoint(*sizes), path)
    assert [(own.name, own.read_text()) for own in tmp_path.iterdir()] == [("last.ckpt", "old")]
    assert not written


def test_what_is_no_matter_of_the_disk_keeps_its_error(checkpoint_io, tmp_path, monkeypatch):
    def fail(*_):
        raise RuntimeError("a bug")

    monkeypatch.setattr(torch, "save", fail)
    with pytest.raises(RuntimeError, match="a bug"):
        checkpoint_io.save_checkpoint(checkpoint(1), tmp_path / "a.ckpt")
    assert not list(tmp_path.iterdir())
    with pytest.raises(TypeError, match="storage_options"):
        checkpoint_io.save_checkpoint(checkpoint(1), Path("a.ckpt"), {"x": 1})
