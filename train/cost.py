"""What did a run cost? Seconds of training, of auditing and of scoring, and the size of its model."""

import json
import math
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from datamodules.errors import InputError
from datamodules.files import read_json, write_json
from datamodules.storage import writing
from train.run_directory import RunDirectory

FILE = "cost.json"
FIX = "restore or delete that file"


@dataclass(frozen=True, slots=True)
class Cost:
    """Costs of a run; NaN (None for counts) where they were not recorded.

    Attributes:
        training_seconds: Wall time of all training sessions, validation and calibration included, audits not. NaN when
            a session was killed, or the run goes on from another one.
        audit_seconds: Wall time of the audits that were done.
        texts_per_second: Test texts scored in a second, at the end of the run.
        n_parameters: Parameters of the model.
        n_trainable: Those that were trained.
        device: Where it ran.
    """

    training_seconds: float
    audit_seconds: float
    texts_per_second: float
    n_parameters: int | None
    n_trainable: int | None
    device: str


@contextmanager
def recorded_training(run: RunDirectory) -> Iterator[None]:
    """Add what is done inside as a session to the run's cost.json, also when it is interrupted.

    A session that is killed keeps null for its seconds.

    Raises:
        InputError: The file cannot be written, and training went well otherwise.
    """
    content = read_cost_file(run)
    sessions = content.setdefault("sessions", [])
    session: dict[str, float | None] = {"started": round(time.time(), 3), "seconds": None, "audit_seconds": None}
    sessions.append(session)
    with writing(run.path / FILE, run.how_to_go_on):
        write_json(run.path / FILE, content)
    start = time.perf_counter()
    try:
        yield
    except BaseException:
        # What stopped training is to be told, not that its time could not be written down.
        with suppress(OSError):
            _end_session(run, content, session, time.perf_counter() - start)
        raise
    with writing(run.path / FILE, run.how_to_go_on):
        _end_session(run, content, session, time.perf_counter() - start)


def _end_session(run: RunDirectory, content: dict[str, Any], session: dict[str, float | None], seconds: float) -> None:
    session["seconds"] = round(seconds, 3)
    session["audit_seconds"] = round(audit_seconds(run.ledger_file, session["started"] or 0.0), 3)
    write_json(run.path / FILE, content)


def record_scoring(run: RunDirectory, n_texts: int, seconds: float | None) -> None:
    """Add to cost.json how long the test texts took; None where that does not tell how fast the model is."""
    content = read_cost_file(run)
    content["scoring"] = {"n_texts": n_texts, "seconds": seconds if seconds is None else round(seconds, 4)}
    write_json(run.path / FILE, content)


def record_members(run: RunDirectory, members: Sequence[Cost]) -> None:
    """Write the training of the runs that an ensemble is made of into its cost.json, as sessions."""
    seconds = [None if math.isnan(cost.training_seconds) else cost.training_seconds for cost in members]
    write_json(run.path / FILE, {"sessions": [{"seconds": own, "audit_seconds": 0.0} for own in seconds]})


def read_cost_file(run: RunDirectory) -> dict[str, Any]:
    """Read cost.json as nested values; empty where a run has none.

    Raises:
        InputError: It cannot be read.
    """
    path = run.path / FILE
    if not path.is_file():
        return {}
    content = read_json(path, FIX)
    if not isinstance(content, dict):
        raise InputError(f"{path}, which holds no costs", "a file as a run writes it", FIX)
    return content


def read_cost(run: RunDirectory) -> Cost:
    """Tell what a run cost.

    Raises:
        InputError: A file that cannot be read.
    """
    content = read_cost_file(run)
    environment = read_json(run.environment_file, "name a run directory")
    try:
        sessions = [_difference(each["seconds"], each["audit_seconds"]) for each in content.get("sessions", ())]
        is_whole = bool(sessions) and environment.get("parent") is None
        scoring = content.get("scoring") or {"n_texts": 0, "seconds": None}
        sizes = environment.get("parameters") or {}
        return Cost(
            training_seconds=math.fsum(sessions) if is_whole else math.nan,
            audit_seconds=audit_seconds(run.ledger_file),
            texts_per_second=scoring["n_texts"] / scoring["seconds"] if scoring["seconds"] else math.nan,
            n_parameters=sizes.get("total"),
            n_trainable=sizes.get("trainable"),
            device=str(environment.get("device", "")),
        )
    except (KeyError, TypeError, AttributeError) as error:
        found = f"{run.path / FILE} or {run.environment_file.name}, which does not hold costs ({error!r})"
        raise InputError(found, "a file as a run writes it", FIX) from error


def _difference(seconds: float | None, audits: float | None) -> float:
    return math.nan if seconds is None or audits is None else seconds - audits


def audit_seconds(ledger_file: Path, since: float = 0.0) -> float:
    """Sum the time from the beginning to the end of the audits that ended, as the ledger has it.

    Args:
        ledger_file: The ledger; none has no audits.
        since: Audits that began before this time, in seconds since 1970, are left out.
    """
    if not ledger_file.is_file():
        return 0.0
    began: dict[tuple[str, str], float] = {}
    total = 0.0
    # What follows the last line end was torn off when its process was killed.
    for line in ledger_file.read_text(encoding="utf-8").split("\n")[:-1]:
        entry = json.loads(line)
        audit = entry.get("weights", ""), entry.get("audit_key", "")
        match entry["state"]:
            case "running":
                began[audit] = entry.get("time", -math.inf)
            case "done" | "failed" if audit in began:
                start = began.pop(audit)
                total += entry["time"] - start if start >= since and "time" in entry else 0.0
    return total
