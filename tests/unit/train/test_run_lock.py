import errno
import fcntl
import os
import subprocess
import sys

import pytest

from datamodules.errors import InputError
from train.run_directory import RunDirectory
from train.run_lock import run_lock


def test_the_lock_is_free_again_and_leaves_nothing(tmp_path):
    run = RunDirectory(tmp_path)
    for _ in range(2):
        with run_lock(run, print):
            assert str(os.getpid()) in run.lock_file.read_text()
        assert list(tmp_path.iterdir()) == []


def test_a_file_that_its_holder_has_just_removed_keeps_others_out(tmp_path, monkeypatch):
    run = RunDirectory(tmp_path)
    real = fcntl.flock

    def flock_after_the_holder_has_gone(handle, how):
        monkeypatch.setattr(fcntl, "flock", real)
        run.lock_file.unlink()
        real(handle, how)

    monkeypatch.setattr(fcntl, "flock", flock_after_the_holder_has_gone)
    with run_lock(run, print), pytest.raises(InputError, match="in use by process"), run_lock(run, print):
        pass


def test_an_error_under_the_lock_frees_it(tmp_path):
    run = RunDirectory(tmp_path)
    with pytest.raises(BlockingIOError, match="of the body"), run_lock(run, print):
        raise BlockingIOError("of the body")
    with run_lock(run, print):
        pass


def test_a_process_that_died_holds_nothing(tmp_path):
    # It holds the lock in the same way, without torch to wait for, and dies without a chance to clean up.
    script = "import fcntl, os, sys, signal; h = os.open(sys.argv[1], os.O_RDWR | os.O_CREAT); "
    script += 'fcntl.flock(h, fcntl.LOCK_EX); os.write(h, b\'{"pid": 1, "host": "there", "since": "then"}\'); '
    script += "print('locked', flush=True); sys.stdin.read()"
    run = RunDirectory(tmp_path)
    command = [sys.executable, "-c", script, str(run.lock_file)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout.readline() == "locked\n"
        with pytest.raises(InputError, match="in use by process 1 on there since then"), run_lock(run, print):
            pass
        process.kill()
        process.wait()
        with run_lock(run, print):
            assert str(os.getpid()) in run.lock_file.read_text()


def test_without_locks_the_user_is_warned_and_work_goes_on(tmp_path, monkeypatch):
    def unsupported(*_):
        raise OSError(errno.ENOLCK, "No locks available")

    monkeypatch.setattr(fcntl, "flock", unsupported)
    (tmp_path / "checkpoints").mkdir()
    (tmp_path / "checkpoints" / ".last.ckpt.x.part").write_text("of another process, perhaps")
    said, worked = [], []
    with run_lock(RunDirectory(tmp_path), said.append):
        worked.append(True)
    assert worked
    assert said == [f"warning: no file locks at {tmp_path}: see to it that no other process works on this run"]
    assert (tmp_path / "checkpoints" / ".last.ckpt.x.part").exists()


def test_what_dead_processes_left_half_written_is_removed(tmp_path):
    run = RunDirectory(tmp_path)
    parts = [run.checkpoints / ".last.ckpt.abc.part", tmp_path / "audits" / ".1234-5678.part99" / "table.parquet"]
    kept = [run.last_checkpoint, tmp_path / "audits" / "1234-5678" / "table.parquet"]
    for path in (*parts, *kept):
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text("x")
    with run_lock(run, print):
        assert not any(path.exists() for path in parts)
        assert not parts[1].parent.exists()
        assert all(path.exists() for path in kept)


def test_a_folder_that_takes_no_lock_file_is_told(tmp_path):
    (tmp_path / ".lock").mkdir()
    message = r"\.lock, where writing failed \(Is a directory; .* MB free\)"
    with pytest.raises(InputError, match=message), run_lock(RunDirectory(tmp_path), print):
        pass
