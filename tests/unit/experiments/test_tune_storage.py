"""A study is gone on with only where it is the one that is asked for; nothing is trained here."""

import optuna
import pytest
from optuna.samplers import RandomSampler
from optuna.storages import InMemoryStorage

from datamodules.errors import InputError
from experiments.tune_config import TuneConfig
from experiments.tune_storage import load_study, make_pruner, open_study, storage_errors, storage_name

RECORD = {
    "optuna": optuna.__version__,
    "metric": "val/ap_macro",
    "plan": "tpe",
    "seed": 0,
    "seeds": 1,
    "run.seed": 0,
    "space": {},
    "space_digest": "s",
    "data_digest": "d",
    "settings": {"model.loss": "bce"},
}


def opened(storage, is_lower_better=False, **changed):
    said = []
    pruner = make_pruner(TuneConfig())
    study = open_study(storage, "s", RECORD | changed, is_lower_better, RandomSampler(), pruner, said.append)
    return study, said


def test_a_study_is_begun_once_and_found_again():
    storage = InMemoryStorage()
    first, _ = opened(storage)
    first.ask()
    again, said = opened(storage)
    assert (len(again.trials), said) == (1, [])
    assert load_study(storage, "s")[1] == RECORD
    with pytest.raises(InputError, match=r"no study t in the storage; needed one of s"):
        load_study(storage, "t")


def test_another_optuna_is_told_and_a_new_setting_is_no_change():
    storage = InMemoryStorage()
    opened(storage)
    newer = {"model.loss": "bce", "model.window": None}
    _, said = opened(storage, optuna="6.0.0", settings=newer)
    assert "begun with optuna" in said[0]


@pytest.mark.parametrize("begin", ["trials", "direction", "objectives"])
def test_what_another_program_began_is_left_alone(begin):
    storage = InMemoryStorage()
    directions = {"trials": ["maximize"], "direction": ["minimize"], "objectives": ["maximize", "minimize"]}[begin]
    study = optuna.create_study(storage=storage, study_name="s", directions=directions)
    if begin == "trials":
        study.ask()
    for open_it in (opened, lambda storage: load_study(storage, "s")):
        with pytest.raises(InputError, match="which another program began"):
            open_it(storage)
    assert study.user_attrs == {}


def test_a_name_of_a_storage_has_no_password(tmp_path):
    assert storage_name("postgresql://me:secret@host/db", tmp_path) == "postgresql://me:***@host/db"
    assert storage_name(None, tmp_path) == f"journal:{tmp_path / 'journal.log'}"
    with pytest.raises(InputError, match="a --storage that is no URL") as error:
        storage_name("://secret@", tmp_path)
    assert "secret" not in str(error.value)


def test_a_storage_that_fails_is_one_message():
    with pytest.raises(InputError, match=r"found db, where a query failed \(gone\).*--storage"), storage_errors("db"):
        raise optuna.exceptions.StorageInternalError("gone")
    with (
        pytest.raises(InputError, match=r"found /x/j.log, where writing failed \(No space"),
        storage_errors("journal:/x/j.log"),
    ):
        raise OSError(28, "")
