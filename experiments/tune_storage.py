"""Where is a study kept, and is it the one that is asked for?"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import optuna
from optuna.exceptions import StorageInternalError
from optuna.pruners import BasePruner, MedianPruner, NopPruner, SuccessiveHalvingPruner
from optuna.samplers import BaseSampler
from optuna.storages import BaseStorage, JournalStorage, RDBStorage
from optuna.storages.journal import JournalFileBackend, JournalFileSymlinkLock
from optuna.study import Study, StudyDirection
from sqlalchemy.engine import make_url
from sqlalchemy.exc import SQLAlchemyError

from datamodules.errors import InputError
from datamodules.files import digest_of, drop_torn_line, first_line
from datamodules.splits import Splits
from datamodules.storage import writing
from experiments.tune_config import StudyConfig, TuneConfig
from experiments.tune_space import SEARCHED_SECTIONS, Space
from train.config import config_to_dict

JOURNAL = "journal:"
FIX = "--storage"
CHANGED_FIX = "put it back, or begin another study: --study NAME"
# Attribute of the study that says what it is about.
RECORD = "imprint"
# What may change from one process to the next: where files lie, and what they are computed on.
FREE_SETTINGS = ("data.root", "data.path", "trainer.accelerator", "trainer.save_top_k", "trainer.save_last")


def storage_name(requested: str | None, folder: Path) -> str:
    """Return the storage's name as it may be shown: without a password."""
    if requested is None:
        return f"{JOURNAL}{folder / 'journal.log'}"
    if "://" not in requested:
        return requested
    try:
        return make_url(requested).render_as_string(hide_password=True)
    except SQLAlchemyError as error:
        needed = f"{JOURNAL}FILE, or a database URL such as postgresql+psycopg://USER@HOST/NAME"
        raise InputError("a --storage that is no URL", needed, FIX) from error


def open_storage(requested: str | None, folder: Path) -> BaseStorage:
    """Open the storage of studies; makes what is not there.

    Args:
        requested: `journal:FILE` or a database URL; a journal file in the study's folder when left out.
        folder: The study's folder.

    Raises:
        InputError: Neither of them, a file that is no journal, or a database that cannot be reached.
    """
    name = storage_name(requested, folder)
    if name.startswith(JOURNAL):
        return _journal(Path(name.removeprefix(JOURNAL)))
    if requested is None or "://" not in requested:
        raise InputError(f"storage {name!r}", f"{JOURNAL}FILE or a database URL", FIX)
    try:
        return RDBStorage(requested)
    except ImportError as error:
        # Optuna's own text speaks of Optuna's dependencies.
        module = str(getattr(error.__cause__ or error, "name", None) or first_line(error))
        raise InputError(
            f"no driver for {name} ({module})",
            "the database's Python driver",
            f"install it, such as psycopg[binary] for PostgreSQL, or name another one in {FIX}",
        ) from error
    except (SQLAlchemyError, optuna.exceptions.OptunaError) as error:
        raise InputError(f"{name}, which cannot be opened ({_reason(error)})", "a database in reach", FIX) from error


def _journal(path: Path) -> JournalStorage:
    with writing(path, "start the command again"):
        path.parent.mkdir(parents=True, exist_ok=True)
        if path.is_file():
            # Under Optuna's own lock: whoever holds it may be in the middle of a line.
            lock = JournalFileSymlinkLock(str(path))
            lock.acquire()
            try:
                drop_torn_line(path)
            finally:
                lock.release()
        backend = JournalFileBackend(str(path))
    try:
        return JournalStorage(backend)
    except (ValueError, KeyError, TypeError, AssertionError) as error:
        found = f"{path}, which is no journal of Optuna ({first_line(error)})"
        raise InputError(found, "a journal file, or a name that no file has", FIX) from error


@contextmanager
def storage_errors(shown: str) -> Iterator[None]:
    """Turn what a storage raises that cannot be reached or written to any more into one message.

    Args:
        shown: Its name, without a password.

    Raises:
        InputError: Nothing that was finished is lost then; a trial that was not is run again.
    """
    try:
        with writing(Path(shown.removeprefix(JOURNAL)), "start the command again"):
            yield
    except (SQLAlchemyError, StorageInternalError) as error:
        found = f"{shown}, where a query failed ({_reason(error)})"
        fix = f"mend that, then start the command again, or {FIX}"
        raise InputError(found, "a database in reach that may be written to", fix) from error


def _reason(error: BaseException) -> str:
    return first_line(getattr(error, "orig", None) or error.__cause__ or error)


def make_pruner(tune: TuneConfig) -> BasePruner:
    """Return the pruner that the settings ask for."""
    match tune.pruner:
        case "median":
            return MedianPruner(n_startup_trials=tune.pruner_startup, n_warmup_steps=tune.pruner_warmup)
        case "halving":
            return SuccessiveHalvingPruner(min_resource=max(1, tune.pruner_warmup))
        case _:
            return NopPruner()


def texts_digest(splits: Sequence[Splits]) -> str:
    """Digest of the texts of each split of each data set with their labels, as hex."""
    plain = [
        {name: [(t.text_id, t.text, list(t.labels)) for t in own] for name, own in each.by_name.items()}
        for each in splits
    ]
    return digest_of(plain)


def study_record(
    config: StudyConfig, space: Space, splits: Sequence[Splits], metric: str, plan: str, seed: int
) -> dict[str, Any]:
    """Return what all trials of a study have in common, as plain values."""
    plain = config_to_dict(config)
    settings = {
        f"{section}.{name}": value
        for section in SEARCHED_SECTIONS
        for name, value in plain[section].items()
        if f"{section}.{name}" not in FREE_SETTINGS and f"{section}.{name}" not in space.distributions
    }
    return {
        "optuna": optuna.__version__,
        "metric": metric,
        "plan": plan,
        "seed": seed,
        "seeds": config.tune.seeds,
        "run.seed": config.run.seed,
        "space": space.to_dict(),
        "space_digest": space.digest,
        "data_digest": texts_digest(splits),
        "settings": settings,
    }


def open_study(
    storage: BaseStorage,
    name: str,
    record: Mapping[str, Any],
    is_lower_better: bool,
    sampler: BaseSampler,
    pruner: BasePruner,
    say: Callable[[str], None],
) -> Study:
    """Open a study, or begin it; one that is about something else stays as it is.

    Raises:
        InputError: A study of that name that is about something else.
    """
    direction = StudyDirection.MINIMIZE if is_lower_better else StudyDirection.MAXIMIZE
    if name not in optuna.get_all_study_names(storage):
        # Another machine may begin it at this very moment.
        optuna.create_study(storage=storage, study_name=name, direction=direction, load_if_exists=True)
    study = optuna.load_study(study_name=name, storage=storage, sampler=sampler, pruner=pruner)
    if RECORD in study.user_attrs:
        require_same(name, study.user_attrs[RECORD], record, say)
    elif study.directions == [direction] and not study.get_trials(deepcopy=False):
        study.set_user_attr(RECORD, dict(record))
    else:
        found = f"study {name}, which another program began"
        raise InputError(found, "a study of `imprint tune`, or a new name", "--study")
    return study


def load_study(storage: BaseStorage, name: str) -> tuple[Study, dict[str, Any]]:
    """Load a study that is there, with its record.

    Raises:
        InputError: There is none, or another program began it.
    """
    names = optuna.get_all_study_names(storage)
    if name not in names:
        found = f"no study {name} in the storage"
        raise InputError(found, f"one of {', '.join(names)}" if names else "a study", f"--study, or {FIX}")
    study = optuna.load_study(study_name=name, storage=storage)
    if RECORD not in study.user_attrs:
        raise InputError(f"study {name}, which another program began", "a study of `imprint tune`", "--study")
    return study, study.user_attrs[RECORD]


def require_same_texts(name: str, there: Mapping[str, Any], digest: str) -> None:
    """Raise InputError unless these are the texts, labels and splits that the trials of a study were compared on."""
    if there["data_digest"] != digest:
        found = f"other texts, labels or splits than study {name} began with"
        raise InputError(found, "the data that its trials were compared on", CHANGED_FIX)


def require_same(name: str, there: Mapping[str, Any], now: Mapping[str, Any], say: Callable[[str], None]) -> None:
    """Raise InputError unless a study is about what is asked for now; says where another Optuna began it."""
    fix = CHANGED_FIX
    require_same_texts(name, there, now["data_digest"])
    if there["space_digest"] != now["space_digest"]:
        changed = _first_difference(there["space"], now["space"])
        raise InputError(f"another tune.space than study {name} began with: {changed}", "the same space", fix)
    for key in ("metric", "plan", "seed", "seeds", "run.seed"):
        if there[key] != now[key]:
            flag = {"metric": "tune.metric", "seeds": "tune.seeds"}.get(key, key)
            raise InputError(
                f"{flag} {now[key]} in a study that began with {there[key]}", "the same in all trials", fix
            )
    # A setting that only one of two versions has was not there to be changed.
    both = [name for name in there["settings"] if name in now["settings"]]
    before, after = ({key: own["settings"][key] for key in both} for own in (there, now))
    if before != after:
        changed = _first_difference(before, after)
        raise InputError(f"other settings than study {name} began with: {changed}", "the same in all trials", fix)
    if there["optuna"] != now["optuna"]:
        say(f"warning: begun with optuna {there['optuna']}, this is {now['optuna']}: it may draw other settings")


def _first_difference(before: Mapping[str, Any], now: Mapping[str, Any]) -> str:
    for name in dict.fromkeys([*before, *now]):
        if before.get(name) != now.get(name):
            values = [own.get(name, "nothing") for own in (before, now)]
            return f"{name} was {values[0]} and is {values[1]}"
    return "its order"
