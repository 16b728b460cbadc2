"""A trial hears every validation but sanity checks, and stops training where its pruner says so."""

import os
import subprocess
import sys
from types import SimpleNamespace

import optuna
import pytest
import torch

from datamodules.errors import InputError
from train.pruning import Pruning


class Trial:
    """A trial whose pruner always says stop."""

    def __init__(self, stop=True):
        self.reported, self.attributes, self._stop = [], {}, stop

    def report(self, value, step):
        self.reported.append((step, value))

    def should_prune(self):
        return self._stop

    def set_user_attr(self, name, value):
        self.attributes[name] = value


def trainer_at(value, epoch=0, is_last_batch=True, sanity=False):
    return SimpleNamespace(
        sanity_checking=sanity,
        is_global_zero=True,
        callback_metrics={"val/ap_macro": torch.tensor(value), "val/f1/a": torch.tensor(0.0)},
        is_last_batch=is_last_batch,
        current_epoch=epoch,
        max_epochs=3,
        should_stop=False,
        strategy=SimpleNamespace(reduce_boolean_decision=lambda stop, all: stop),
    )


def test_a_hopeless_trial_stops_at_that_validation():
    trial = Trial()
    pruning, trainer = Pruning(trial, "val/ap_macro"), trainer_at(0.25)
    pruning.on_validation_end(trainer, None)
    assert (trainer.should_stop, pruning.pruned_at, trial.reported) == (True, 1, [(1, 0.25)])
    assert trial.attributes["seen"] > 0
    with pytest.raises(optuna.TrialPruned, match="validation 1"):
        pruning.raise_if_pruned()


@pytest.mark.parametrize(
    ("stop", "trainer"),
    [(False, trainer_at(0.25)), (True, trainer_at(0.25, epoch=2)), (True, trainer_at(0.25, sanity=True))],
    ids=["promising", "over anyway", "sanity check"],
)
def test_what_does_not_stop(stop, trainer):
    pruning = Pruning(Trial(stop), "val/ap_macro")
    pruning.on_validation_end(trainer, None)
    assert not trainer.should_stop
    pruning.raise_if_pruned()


def test_the_last_epoch_may_be_stopped_before_its_end():
    trainer = trainer_at(0.25, epoch=2, is_last_batch=False)
    Pruning(Trial(), "val/ap_macro").on_validation_end(trainer, None)
    assert trainer.should_stop


def test_sanity_checks_are_not_counted_and_undefined_values_not_reported():
    trial = Trial(stop=False)
    pruning = Pruning(trial, "val/ap_macro")
    for trainer in (trainer_at(0.1, sanity=True), trainer_at(0.2), trainer_at(float("nan")), trainer_at(0.4)):
        pruning.on_validation_end(trainer, None)
    assert trial.reported == [(1, pytest.approx(0.2)), (3, pytest.approx(0.4))]


def test_without_a_trial_it_watches_only():
    pruning, trainer = Pruning(None, "val/ap_macro"), trainer_at(0.25)
    pruning.on_validation_end(trainer, None)
    assert not trainer.should_stop
    pruning.raise_if_pruned()


def test_a_metric_that_is_not_logged_is_named():
    with pytest.raises(InputError, match=r"found metric val/nothing.*needed one of val/ap_macro; fix: --tune.metric"):
        Pruning(Trial(), "val/nothing").on_validation_end(trainer_at(0.25), None)


TWO = """
import sys, warnings
warnings.filterwarnings("ignore")
import torch, pytorch_lightning as pl
sys.path.insert(0, {here!r})
from test_pruning import Trial
from train.pruning import Pruning

class Model(pl.LightningModule):
    def __init__(self):
        super().__init__()
        self.layer = torch.nn.Linear(1, 1)
    def training_step(self, batch, _):
        return self.layer(batch).sum()
    def validation_step(self, batch, _):
        # Another value on each process: the decision of the first one counts.
        self.log("val/ap_macro", float(self.global_rank), sync_dist=False)
    def configure_optimizers(self):
        return torch.optim.SGD(self.parameters(), 0.1)

class First(Trial):
    def should_prune(self):
        return len(self.reported) == 2

if __name__ == "__main__":
    data = torch.utils.data.DataLoader(torch.ones(8, 1), batch_size=2)
    pruning = Pruning(First(), "val/ap_macro")
    trainer = pl.Trainer(accelerator="cpu", devices=2, strategy="ddp", max_epochs=6, logger=False, callbacks=[pruning],
        enable_checkpointing=False, enable_progress_bar=False, enable_model_summary=False)
    trainer.fit(Model(), data, data)
    with open(f"rank{{trainer.global_rank}}", "w") as file:
        print(trainer.current_epoch, pruning.pruned_at, pruning._trial.reported, file=file)
    # Left to the interpreter's end, threads of gloo now and then abort the process.
    torch.distributed.barrier()
    torch.distributed.destroy_process_group()
"""


@pytest.mark.ddp
@pytest.mark.slow
def test_two_processes_stop_together_on_what_the_first_decides(tmp_path):
    script = tmp_path / "two.py"
    here = os.path.dirname(__file__)
    script.write_text(TWO.format(here=here))
    root = os.path.dirname(os.path.dirname(os.path.dirname(here)))
    environment = {**os.environ, "PYTHONPATH": root, "OMP_NUM_THREADS": "1"}
    done = subprocess.run(
        [sys.executable, str(script)], capture_output=True, text=True, timeout=200, env=environment, cwd=tmp_path
    )
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "rank0").read_text() == "2 2 [(1, 0.0), (2, 0.0)]\n"
    assert (tmp_path / "rank1").read_text() == "2 2 []\n"
