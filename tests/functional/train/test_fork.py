"""A run goes on in a new directory: the old one stays as it is, what was audited there is not audited again."""

import json

import pytest
import torch

from experiments.cli import main
from models.digest import weights_digest
from train.patient_tracker import PatientTracker
from train.run_directory import RunDirectory
from train.run_lock import run_lock

FLAGS = ("--data.name=value-imprint", "--model.loss=wan", "--trainer.batch_size=16", "--track.wandb=disabled")
FLAGS += ("--audit.datasets=[webgpt]", "--optim.schedule=constant", "--optim.warmup_fraction=0")


def digest_of_last(run):
    return weights_digest(torch.load(run / "checkpoints" / "last.ckpt", weights_only=True)["state_dict"])


@pytest.fixture
def parent(tiny_run, only_run, tmp_path, counts):
    assert tiny_run(*FLAGS, "--trainer.max_epochs=1", "--trainer.save_top_k=1") == 0
    counts.reset()
    return only_run()


@pytest.fixture
def fork(tmp_path):
    """Fork a run into `tmp_path / name`; gives the exit code and the new directory, if there is one."""

    def run(parent, name, *flags):
        code = main(["fit", "--resume", str(parent), "--fork", f"--run.root={tmp_path / name}", *flags])
        (new,) = (tmp_path / name).iterdir() if (tmp_path / name).exists() else (None,)
        return code, new

    return run


def files(run):
    return {path: (path.read_bytes(), path.stat().st_mtime_ns) for path in run.rglob("*") if path.is_file()}


def test_the_parent_stays_as_it_is_even_while_it_is_locked_and_the_fork_trains_on_alike(parent, fork, tmp_path, counts):
    # Half a line, as a process leaves it that is killed: reading the parent must not mend it.
    with (parent / "ledger.jsonl").open("a") as file:
        file.write('{"state": "se')
    with run_lock(RunDirectory(parent), print):
        before = files(parent)
        code, new = fork(parent, "forks", "--trainer.max_epochs=3", "--run.experiment=longer")
        assert code == 0
        assert files(parent) == before
    assert new.name.startswith("longer-s0-")
    assert len(counts.audits) == 2
    origin = json.loads((new / "env.json").read_text())["parent"]
    assert origin == {"path": str(parent), "run_id": parent.name, "weights": digest_of_last(parent), "step": 6}
    (parent / "ledger.jsonl").write_text((parent / "ledger.jsonl").read_text().rpartition("\n")[0] + "\n")
    assert main(["fit", "--resume", str(parent), "--trainer.max_epochs=3"]) == 0
    assert digest_of_last(parent) == digest_of_last(new)


def test_it_stands_alone(parent, fork, counts, tmp_path, entries, capsys):
    _, new = fork(parent, "forks", "--trainer.max_epochs=2")
    parent.rename(tmp_path / "away")
    new = new.rename(tmp_path / "moved")
    counts.reset()
    capsys.readouterr()
    assert main(["audit", str(new), "--pending"]) == 0
    assert "0 audited now, 1 done before" in capsys.readouterr().out
    assert main(["fit", "--resume", str(new), "--trainer.max_epochs=3"]) == 0
    assert len(counts.audits) == 1
    assert len(entries(new, "done")) == 2
    assert json.loads((new / "env.json").read_text())["parent"]["run_id"] == parent.name
    assert str(parent) not in capsys.readouterr().out


def test_it_can_be_resumed_before_its_first_epoch_has_ended(parent, fork, counts, monkeypatch):
    from models.classifier import ValueClassifier

    def fail(*_):
        raise RuntimeError("no luck")

    with monkeypatch.context() as patch:
        patch.setattr(ValueClassifier, "training_step", fail)
        with pytest.raises(RuntimeError, match="no luck"):
            fork(parent, "forks", "--trainer.max_epochs=2")
    (new,) = (parent.parent.parent / "forks").iterdir()
    assert main(["audit", str(new), "--pending"]) == 2, "nothing of its own to audit"
    assert main(["fit", "--resume", str(new)]) == 0
    assert len(counts.audits) == 1


def test_the_same_weights_are_not_audited_again_in_a_fork_or_its_fork(
    parent, fork, counts, entries, audit_folders, monkeypatch
):
    sent = []
    monkeypatch.setattr(PatientTracker, "log_artifact", lambda self, name, kind, files, *_: sent.extend(files))
    still = ("--optim.lr_head=0", "--optim.lr_encoder=0", "--optim.weight_decay=0")
    _, child = fork(parent, "child", "--trainer.max_epochs=2", *still)
    _, grandchild = fork(child, "grandchild", "--trainer.max_epochs=3", *still)
    for run in (child, grandchild):
        # The weights never moved: every file holds those that the first run audited.
        assert {entry["weights"] for entry in entries(run, "seen")} == {digest_of_last(parent)}
        assert audit_folders(run) == []
    assert counts.audits == []
    assert sent
    assert all(file.is_file() for file in sent), "an audit of the parent is not this run's to send"
    # Another set-up is another audit, here alone.
    assert main(["audit", str(grandchild), "--datasets", "hh-rlhf"]) == 0
    assert len(counts.audits) == 1
    assert len(audit_folders(grandchild)) == 1
    assert len(audit_folders(parent)) == 1


def test_what_the_parent_did_not_audit_is_left_to_it(tiny_run, only_run, fork, counts, entries):
    assert tiny_run(*FLAGS, "--trainer.max_epochs=1", "--audit.enabled=false") == 0
    parent = only_run()
    _, new = fork(parent, "forks", "--trainer.max_epochs=2", "--audit.enabled=true")
    assert counts.audits == [digest_of_last(new)]
    assert main(["audit", str(parent), "--pending"]) == 0
    assert counts.audits == [digest_of_last(new), digest_of_last(parent)]


@pytest.mark.parametrize(
    ("flags", "text"),
    [
        (("--trainer.max_epochs=1",), "max_epochs 1 for a run with 1 epochs done; needed 2 or more"),
        (("--trainer.max_epochs=2", "--model.pooling=cls"), "changed pooling"),
        (("--trainer.max_epochs=2", "--data.split_seed=3"), "another train split"),
    ],
)
def test_a_mistake_makes_no_directory(parent, fork, capsys, flags, text):
    code, new = fork(parent, "forks", *flags)
    assert code == 2
    assert new is None
    assert text in capsys.readouterr().err


def test_a_fork_of_nothing_is_told(capsys):
    assert main(["fit", "--fork"]) == 2
    assert "--fork alone; needed a run directory to go on with; fix: --resume RUN_DIR" in capsys.readouterr().err
