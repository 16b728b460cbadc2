"""What did a search find? A table of the best trials, and files with every trial, what mattered, and plots."""

import math
import textwrap
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from optuna.distributions import BaseDistribution, CategoricalDistribution, IntDistribution
from optuna.importance import FanovaImportanceEvaluator, get_param_importances
from optuna.study import Study
from optuna.trial import FrozenTrial, TrialState

from datamodules.files import write_json, write_text
from experiments.svg_plots import Axis, Point, bars_svg, scatter_svg
from experiments.table_formats import WIDTH, Column, format_table, plain_cell
from experiments.tune_choice import ECE, Candidate, chosen
from experiments.tune_space import Space
from experiments.tune_study import RETRY_OF, Standing, is_lower_better, ranked, standing, value_of
from experiments.tune_trial import ERROR, METRICS, RUNS, SECONDS, SEEDS, STATES, WEIGHTS

SHOWN_TRIALS = 10
# Below that, what mattered cannot be told from chance.
FEWEST_FOR_IMPORTANCE = 10


@dataclass(frozen=True, slots=True)
class Found:
    """What a report is about.

    Attributes:
        study: The study.
        space: What was searched.
        record: What its trials have in common.
        storage: Name of its storage, without a password.
        listed: The second stage, the best trial first.
        is_filtered: Whether there is a second stage.
    """

    study: Study
    space: Space
    record: Mapping[str, Any]
    storage: str
    listed: Sequence[Candidate]
    is_filtered: bool

    @property
    def metric(self) -> str:
        """What is optimised."""
        return str(self.record["metric"])


def importances(study: Study, space: Space) -> dict[str, float]:
    """Return the share of each setting in the variance of the metric over the space (fANOVA), the largest first.

    All are NaN with too few trials. Optuna's own default, PED-ANOVA, asks what sets the best tenth of the trials apart
    from the others; a search that has settled on one choice gives that choice no importance then.
    """
    values = [trial.value for trial in standing(study).complete]
    if len(values) >= FEWEST_FOR_IMPORTANCE and len(set(values)) > 1:
        try:
            found = get_param_importances(study, evaluator=FanovaImportanceEvaluator(seed=0))
            return {name: float(share) for name, share in found.items()}
        except RuntimeError:
            # Values so close together that no tree splits them.
            pass
    return dict.fromkeys(space.distributions, math.nan)


def best_table(found: Found) -> str:
    """Write the table of the best trials for a terminal."""
    complete = ranked(found.study)
    picked = chosen(found.listed)
    by_number = {own.trial.number: own for own in found.listed}
    names = _short_names(list(found.space.distributions))
    columns = [Column("trial", "trial", str, numeric=True), Column("value", found.metric, _digits, numeric=True)]
    columns += [Column(name, short) for name, short in names.items()]
    columns += [Column("ece", "ECE", numeric=True)] if found.metric != ECE else []
    if any(math.isfinite(own.instability) for own in found.listed):
        columns.append(Column("instability", "instability", numeric=True))
    columns += [Column("seconds", "s", numeric=True), Column("note", "")]
    rows = []
    for trial in complete[:SHOWN_TRIALS]:
        own = by_number.get(trial.number)
        note = "chosen" if picked is not None and picked.number == trial.number else ""
        if found.is_filtered and own is not None and not own.passes:
            note = "does not pass"
        rows.append(
            {
                "trial": trial.number,
                "value": trial.value,
                "ece": trial.user_attrs.get(METRICS, {}).get(ECE),
                "instability": own.instability if own is not None else None,
                "seconds": trial.user_attrs.get(SECONDS),
                "note": note,
                **found.space.acting(trial.params),
            }
        )
    return format_table(columns, rows, "text", f"The best of {len(complete)} trials with a value")


def summary_lines(found: Found, shares: Mapping[str, float]) -> list[str]:
    """Say how many trials there are, what mattered and which trial is chosen."""
    now = standing(found.study)
    n_lost = sum(RETRY_OF in trial.user_attrs for trial in found.study.get_trials(deepcopy=False))
    again = f"; {n_lost} stopped with their process and were run again" if n_lost else ""
    lines = [f"{len(now.finished)} trials finished: {told_counts(now)}{again}"]
    if _are_told(shares):
        names = _short_names(list(shares))
        told = ", ".join(f"{names[name]} {share:.2f}" for name, share in shares.items())
        lines += textwrap.wrap(f"importances (fANOVA): {told}", WIDTH, subsequent_indent="  ")
    elif now.complete:
        lines.append(f"importances are not told: fewer than {FEWEST_FOR_IMPORTANCE} trials with distinct values")
    picked = chosen(found.listed)
    if picked is None and found.listed:
        best = found.listed[0].trial.number
        lines.append(f"none of the best {len(found.listed)} trials passes the second stage; trial {best} is the best")
    elif picked is not None:
        lines.append(f"chosen: trial {picked.number}, {found.metric} {_digits(picked.value)}")
        lines += [f"  {path}" for path in picked.user_attrs[RUNS]]
    return lines


def write_report(found: Found, folder: Path, shares: Mapping[str, float]) -> None:
    """Write study.json, trials.csv and the plots into the study's folder."""
    rows = [_row(trial, found) for trial in standing(found.study).finished]
    names = list(dict.fromkeys(name for row in rows for name in row))
    table = format_table([Column(name, name) for name in names], rows, "csv")
    write_text(folder / "trials.csv", table)
    picked = chosen(found.listed)
    now = standing(found.study)
    complete = ranked(found.study)
    content = {
        "study": found.study.study_name,
        "storage": found.storage,
        "direction": "minimize" if is_lower_better(found.study) else "maximize",
        "trials": {**state_counts(now), "running": len(now.running)},
        "best": _described(complete[0], found.space) if complete else None,
        "chosen": _described(picked, found.space) if picked is not None else None,
        "second_stage": [
            {"trial": own.trial.number, "ece": _known(own.ece), "instability": _known(own.instability)}
            | {"passes": own.passes}
            for own in found.listed
        ]
        if found.is_filtered
        else None,
        "importances": {name: _known(share) for name, share in shares.items()},
        **found.record,
    }
    write_json(folder / "study.json", content)
    _write_plots(found, folder / "plots", now, shares)


def state_counts(now: Standing) -> dict[str, int]:
    """Count finished trials by what became of them."""
    return {name: sum(trial.state == state for trial in now.finished) for state, name in STATES.items()}


def told_counts(now: Standing) -> str:
    """Tell what became of the finished trials, such as `40 complete, 10 pruned`."""
    return ", ".join(f"{n} {name}" for name, n in state_counts(now).items() if n)


def _are_told(shares: Mapping[str, float]) -> bool:
    return not any(math.isnan(share) for share in shares.values())


def _write_plots(found: Found, folder: Path, now: Standing, shares: Mapping[str, float]) -> None:
    """Draw the history, the value against each setting, and importances where they can be told."""
    if not now.complete:
        return
    files = {"history.svg": _history(found, now)}
    for name, distribution in found.space.distributions.items():
        files[f"slice-{name}.svg"] = _slice(found, now.complete, name, distribution)
    if _are_told(shares):
        title = f"{found.study.study_name}: shares of the variance of {found.metric} (fANOVA)"
        files["importances.svg"] = bars_svg(title, list(shares.items()))
    for name, content in files.items():
        write_text(folder / name, content)


def _history(found: Found, now: Standing) -> str:
    """Draw all values by number, with the best so far; a trial that was stopped early shows where it stood then."""
    shown = [trial for trial in now.finished if trial.value is not None]
    best, line = None, []
    for trial in now.complete:
        value = value_of(trial)
        if best is None or (value < best if is_lower_better(found.study) else value > best):
            best = value
            line.append((float(trial.number), value))
    line.append((float(shown[-1].number), line[-1][1]))
    points = [Point(t.number, value_of(t), _hint(t), _look(t, best)) for t in shown]
    rings = "rings: stopped early, " if any(t.state == TrialState.PRUNED for t in shown) else ""
    x = Axis.around("trial", [float(trial.number) for trial in shown], whole=True)
    y = Axis.around(found.metric, [point.y for point in points])
    return scatter_svg(f"{found.study.study_name}: history ({rings}line: best so far)", x, y, points, line)


def _look(trial: FrozenTrial, best: float | None) -> str:
    if trial.state != TrialState.COMPLETE:
        return "faint"
    return "best" if trial.value == best else "point"


def _hint(trial: FrozenTrial) -> str:
    return f"trial {trial.number}: {_digits(trial.value)}"


def _slice(found: Found, complete: Sequence[FrozenTrial], name: str, distribution: BaseDistribution) -> str:
    """Draw values against one setting, over all that it may be: the best may lie at an end of it."""
    best = ranked(found.study)[0].number
    y = Axis.around(found.metric, [value_of(trial) for trial in complete])
    complete = [trial for trial in complete if name in found.space.acting(trial.params)]
    if isinstance(distribution, CategoricalDistribution):
        choices = list(distribution.choices)
        x = Axis.of_categories(name, [plain_cell(choice) for choice in choices])
        places = _spread([choices.index(trial.params[name]) for trial in complete])
    else:
        places = [float(trial.params[name]) for trial in complete]
        low, high, log = (getattr(distribution, part) for part in ("low", "high", "log"))
        x = Axis.around(name, [low, high], log, whole=isinstance(distribution, IntDistribution))
    points = [
        Point(at, value_of(t), f"{_hint(t)} at {plain_cell(t.params[name])}", "best" if t.number == best else "point")
        for at, t in zip(places, complete, strict=True)
    ]
    # No other point may cover the best.
    points.sort(key=lambda point: point.look == "best")
    return scatter_svg(f"{found.study.study_name}: {name}", x, y, points)


def _spread(places: Sequence[int]) -> list[float]:
    """Move points of one category apart, the same way each time."""
    return [place + 0.3 * (((k * 0.618) % 1) - 0.5) for k, place in enumerate(places)]


def _row(trial: FrozenTrial, found: Found) -> dict[str, Any]:
    """One line of trials.csv."""
    attributes, settings = trial.user_attrs, found.space.acting(trial.params)
    return {
        "trial": trial.number,
        "state": STATES[trial.state],
        "value": trial.value if trial.state == TrialState.COMPLETE else None,
        "last_reported": trial.intermediate_values[trial.last_step] if trial.last_step is not None else None,
        "validations": len(trial.intermediate_values),
        **{name: settings.get(name) for name in found.space.distributions},
        "seconds": attributes.get(SECONDS),
        "runs": " ".join(attributes.get(RUNS, [])),
        "error": attributes.get(ERROR),
        **dict(sorted(attributes.get(METRICS, {}).items())),
    }


def _described(trial: FrozenTrial, space: Space) -> dict[str, Any]:
    kept = {name: trial.user_attrs.get(name) for name in (RUNS, SEEDS, WEIGHTS)}
    return {"trial": trial.number, "value": trial.value, "settings": space.acting(trial.params), **kept}


def _known(value: float) -> float | None:
    return value if math.isfinite(value) else None


def _digits(value: Any) -> str:
    return plain_cell(None) if value is None else f"{float(value):.4f}"


def _short_names(names: Sequence[str]) -> dict[str, str]:
    """Leave the section out of headings where the setting's own name tells it."""
    own = [name.rpartition(".")[2] for name in names]
    return {name: short if own.count(short) == 1 else name for name, short in zip(names, own, strict=True)}
