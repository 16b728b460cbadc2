"""`imprint tune`: search settings of `imprint fit`, or train the best trial again."""

import gc
import shlex
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path

from datamodules.errors import InputError
from datamodules.storage import writing
from experiments.config_files import add_sections, config_files_first, config_of
from experiments.parsing import command_parser
from experiments.tune_choice import audit_trials, candidates, check_second_stage, is_filtered
from experiments.tune_config import StudyConfig
from experiments.tune_loop import work
from experiments.tune_report import Found, best_table, importances, summary_lines, told_counts, write_report
from experiments.tune_reproduce import reproduce
from experiments.tune_space import Space, read_space, some_settings, with_settings
from experiments.tune_storage import make_pruner, open_storage, open_study, storage_errors, storage_name, study_record
from experiments.tune_study import SeededByNumber, SharedStudy, Standing, standing, study_lock
from experiments.tune_trial import ERROR, base_config
from models.evaluation import is_error
from train.audit_setup import build_audits
from train.check_config import NAME, NOT_NEGATIVE, POSITIVE, POSITIVE_WHOLE, check_ranges
from train.config import Config
from train.inputs import data_root, read_audited_data
from train.prepare import Prepared, prepare
from train.progress import Progress
from train.shared import Shared

# Inputs of trials with different views or encoders that are kept side by side.
KEPT_INPUTS = 4
TUNE_RANGES = {
    "tune.seeds": POSITIVE_WHOLE,
    "tune.top_k": POSITIVE_WHOLE,
    "tune.pruner_startup": NOT_NEGATIVE,
    "tune.pruner_warmup": NOT_NEGATIVE,
    "tune.stale_hours": POSITIVE,
    "tune.max_ece": NOT_NEGATIVE,
    "tune.max_instability": NOT_NEGATIVE,
}


def run_tune(arguments: Sequence[str]) -> int:
    """Run `imprint tune`; see `imprint tune --help`."""
    parser = command_parser(
        "tune",
        "Search settings of `imprint fit` for the best value of a validation metric; several processes may share it.",
        usage="imprint tune --config FILE ... [--trials N] [--storage journal:FILE|URL] [--study NAME] [--seed N]\n"
        "                    [--plan tpe|frozen] [--reproduce best|NUMBER] [--SECTION.SETTING VALUE ...]",
    )
    add_sections(parser, StudyConfig, {})
    parser.add_argument("--trials", type=int, default=20, help="Trials that the study shall have in all, not new ones")
    parser.add_argument(
        "--storage", type=str | None, default=None, help="journal:FILE or a database URL; a journal file by default"
    )
    parser.add_argument("--study", type=str | None, default=None, help="Name of the study; run.experiment by default")
    parser.add_argument("--seed", type=int, default=0, help="Seed of what is drawn")
    parser.add_argument(
        "--plan", choices=["tpe", "frozen"], default="tpe", help="tpe learns from trials; frozen draws all beforehand"
    )
    parser.add_argument(
        "--reproduce", type=str | None, default=None, help="best or a number: train that trial again and compare"
    )
    settings = parser.parse_args(config_files_first(arguments, StudyConfig))
    config = config_of(parser, settings, StudyConfig)
    if not config.audit.enabled:
        config.tune.audit = "none"
    name = settings.study or config.run.experiment
    # The longest that the name of a trial's run becomes.
    if not NAME.fullmatch(f"{name}-t9999"):
        needed = "at most 54 letters, digits, dots, hyphens and underscores, beginning with a letter or digit"
        raise InputError(f"study name {name!r}", needed, "--study, which is --run.experiment when left out")
    folder = config.run.root / name
    if settings.reproduce is not None:
        return reproduce(config, name, folder, settings.storage, settings.reproduce)
    if settings.trials < 1:
        raise InputError(f"--trials {settings.trials}", "a whole number from 1", "--trials")
    code = search(config, name, folder, settings.storage, settings.trials, settings.plan, settings.seed)
    print(f"Train the chosen trial again, and compare:\n  imprint tune {shlex.join(arguments)} --reproduce best")
    return code


def search(
    config: StudyConfig, name: str, folder: Path, storage: str | None, n_trials: int, plan: str, seed: int
) -> int:
    """Bring a study to a number of finished trials, alone or with other processes, and report.

    Args:
        config: Settings of the runs and of the search.
        name: Name of the study.
        folder: Its folder on this machine.
        storage: As `open_storage`.
        n_trials: Finished trials that the study shall have in all.
        plan: `tpe` or `frozen`.
        seed: Seed of what is drawn.

    Returns:
        The exit code: 1 where an audit failed.

    Raises:
        InputError: A user's mistake, before anything was written; what keeps every trial from being run; or no trial
            with a value.
    """
    progress = Progress(config.run.progress)
    space = checked_space(config, n_trials)
    shown = storage_name(storage, folder)
    shared = Shared(KEPT_INPUTS)
    base = base_config(config)
    prepared = checked_trial(config, base, space, shared, progress)
    metric = prepared.monitor
    record = study_record(config, space, [own.splits for own in prepared.annotations.all], metric, plan, seed)
    sampler = SeededByNumber(space, seed)
    with storage_errors(shown):
        with study_lock(folder):
            store = open_storage(storage, folder)
            study = open_study(store, name, record, is_error(metric), sampler, make_pruner(config.tune), progress.say)
        own = SharedStudy(study, space, folder, n_trials, config.tune.stale_hours)
        require_total(own, progress.say)
        if plan == "frozen":
            own.enqueue_plan(seed)
        with study_lock(folder):
            again = own.recover()
        for number in again:
            progress.say(f"trial {number} was stopped with its process: it is run again")
        if shown.startswith("sqlite"):
            require_alone(own, shown, progress.say)
        progress.say(f"study {name} in {shown}: {len(standing(study).finished)} of {n_trials} trials finished")
        # What is there by now stays: the collection after each run (`run_seeds`) need not look at it, which takes long.
        gc.collect()
        gc.freeze()
        try:
            work(own, base, config.tune, metric, shared, progress)
        finally:
            gc.unfreeze()
        return report(Found(study, space, record, shown, [], is_filtered(config.tune)), own, config, base)


def checked_space(config: StudyConfig, n_trials: int) -> Space:
    """Check the settings of a search, without reading any data.

    Raises:
        InputError: The first that is not possible.
    """
    check_ranges(config, TUNE_RANGES)
    space = read_space(config)
    if space.size < n_trials:
        found = f"a space of {space.size:.0f} distinct settings for {n_trials} trials"
        raise InputError(found, "as many settings as trials", f"--trials {space.size:.0f}, or more under tune.space")
    check_second_stage(config.tune, config.trainer.save_top_k)
    return space


def checked_trial(config: StudyConfig, base: Config, space: Space, shared: Shared, progress: Progress) -> Prepared:
    """Read and check all that trials need, with settings that one of them could have; writes nothing but caches.

    Raises:
        InputError: A user's mistake.
    """
    tune = config.tune
    possible = with_settings(base, space.acting(some_settings(base, space)))
    monitor = base.trainer.monitor if tune.metric == "auto" else tune.metric
    trainer = replace(possible.trainer, monitor=monitor)
    if tune.audit != "none":
        build_audits(base.audit)
        read_audited_data(base.audit, data_root(base.data))
    try:
        return prepare(replace(possible, trainer=trainer, audit=replace(base.audit, enabled=False)), progress, shared)
    except InputError as error:
        if tune.metric != "auto" and error.fix.startswith("--trainer.monitor"):
            raise InputError(error.found, error.needed, "--tune.metric") from error
        raise


def require_total(own: SharedStudy, say: Callable[[str], None]) -> None:
    """Raise InputError for fewer trials than the study has: who asks for that means new ones."""
    n_finished, name = len(standing(own.study).finished), own.study.study_name
    if own.n_trials < n_finished:
        found = f"--trials {own.n_trials}, and {n_finished} trials of study {name} that are finished"
        fix = f"--trials {n_finished + own.n_trials} for {own.n_trials} more, or {n_finished} to report again"
        raise InputError(found, "the trials that the study shall have in all", fix)
    if own.n_trials == n_finished:
        say(f"all {n_finished} trials are finished: a larger --trials, which counts all of them, adds more")


def require_alone(own: SharedStudy, shown: str, say: Callable[[str], None]) -> None:
    """Raise InputError where another process works on a study in SQLite, which loses writes then."""
    say(f"warning: {shown} is for one process at a time; a journal file is safe for several")
    if others := own.others():
        owner = others[0].user_attrs.get("owner") or {}
        found = f"{shown} in use by process {owner.get('pid', 'unknown')}"
        needed = "a journal file or a database server for several processes"
        raise InputError(found, needed, "--storage journal:FILE, or wait for that process")


def report(found: Found, own: SharedStudy, config: StudyConfig, base: Config) -> int:
    """Audit what is to be audited once all trials are finished, write the files and print the table."""
    study, tune = found.study, config.tune
    progress = Progress(config.run.progress)
    is_audited = True
    with study_lock(own.folder), writing(own.folder, "start the command again"):
        now = standing(study)
        is_finished = len(now.finished) >= own.n_trials
        if is_finished and now.complete:
            is_audited = audit_trials(study, tune, base, progress.say)
        found = replace(found, listed=candidates(study, tune))
        shares = importances(study, found.space)
        write_report(found, own.folder, shares)
    if is_finished and not now.complete:
        raise no_value(study.study_name, now, own.folder)
    if now.complete:
        print(best_table(found), end="")
    for line in summary_lines(found, shares):
        print(line)
    if not is_finished:
        print(f"with other processes: {len(now.running)}; the last to finish audits and reports")
    print(f"Results are in {own.folder}: study.json, trials.csv, plots/*.svg, and the runs in trials/")
    return 0 if is_audited else 1


def no_value(name: str, now: Standing, folder: Path) -> InputError:
    """Return the error of a study that ends without anything to choose."""
    reason = next((f"; the first failed of: {t.user_attrs[ERROR]}" for t in now.finished if ERROR in t.user_attrs), "")
    found = f"no trial of study {name} with a value ({told_counts(now)}{reason})"
    fix = "--tune.pruner none" if not reason else f"mend that (more in {folder / 'trials.csv'})"
    return InputError(found, "one that is trained to its end", f"{fix}, and begin another study: --study NAME")
