"""What mattered in a search is told, and every file of its report says what the trials say; nothing is trained here."""

import csv
import json
from xml.etree import ElementTree

import optuna
import pytest
from optuna.trial import TrialState, create_trial

from experiments.svg_plots import LEFT, RIGHT, WIDTH, Axis
from experiments.tune_choice import candidates
from experiments.tune_config import StudyConfig, TuneConfig
from experiments.tune_report import Found, best_table, importances, summary_lines, write_report
from experiments.tune_space import read_space

SPACE = {
    "optim.lr_head": {"low": 1e-4, "high": 1e-1, "log": True},
    "model.dropout": {"low": 0.0, "high": 0.5},
    "model.loss": {"choices": ["bce", "wan"]},
    "trainer.batch_size": {"low": 8, "high": 64, "step": 8},
}


def report_of(settings, value_of, direction="maximize", pruned=()):
    """A study of trials with given settings, whose values follow from them."""
    tune = TuneConfig(space=SPACE)
    space = read_space(StudyConfig(tune=tune))
    study = optuna.create_study(study_name="s", direction=direction)
    for number, own in enumerate(settings):
        state = TrialState.PRUNED if number in pruned else TrialState.COMPLETE
        attributes = {"runs": [f"trials/{number}"], "seconds": 1.5, "metrics": {"val/ece_macro": 0.1}}
        value = value_of(own)
        study.add_trial(
            create_trial(
                params=own,
                distributions=dict(space.distributions),
                value=value,
                intermediate_values={1: value},
                state=state,
                user_attrs=attributes,
            )
        )
    record = {"metric": "val/ap_macro"}
    return Found(study, space, record, "journal:j", candidates(study, tune), False)


def plan(n):
    return read_space(StudyConfig(tune=TuneConfig(space=SPACE))).plan(n, seed=0)


def loss_decides(settings):
    return 0.5 * (settings["model.loss"] == "wan") + 0.1 * settings["model.dropout"]


def test_importances_are_shares_and_tell_what_decides():
    found = report_of(plan(30), loss_decides)
    shares = importances(found.study, found.space)
    assert next(iter(shares)) == "model.loss"
    assert shares["model.loss"] > 0.8
    assert sum(shares.values()) == pytest.approx(1)
    assert shares == importances(found.study, found.space)
    # A search that has settled on one choice, as TPE does, still tells that the choice mattered.
    settled = [own if k < 6 else own | {"model.loss": "wan"} for k, own in enumerate(plan(30))]
    found = report_of(settled, loss_decides)
    assert next(iter(importances(found.study, found.space))) == "model.loss"


@pytest.mark.parametrize(("n", "value"), [(9, loss_decides), (12, lambda _: 0.5)], ids=["few", "all the same"])
def test_importances_that_cannot_be_told_are_undefined(n, value, tmp_path):
    found = report_of(plan(n), value)
    shares = importances(found.study, found.space)
    assert all(share != share for share in shares.values())
    assert "importances are not told: fewer than 10 trials with distinct values" in summary_lines(found, shares)
    write_report(found, tmp_path, shares)
    assert not (tmp_path / "plots" / "importances.svg").exists()
    assert json.loads((tmp_path / "study.json").read_text())["importances"] == dict.fromkeys(SPACE)


@pytest.mark.parametrize(("direction", "best"), [("maximize", max), ("minimize", min)])
def test_table_files_and_plots_say_what_the_trials_say(tmp_path, direction, best):
    found = report_of(plan(14), loss_decides, direction, pruned=(3,))
    shares = importances(found.study, found.space)
    write_report(found, tmp_path, shares)
    with (tmp_path / "trials.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert [row["state"] for row in rows] == ["pruned" if k == 3 else "complete" for k in range(14)]
    assert rows[3]["value"] == ""
    assert float(rows[3]["last_reported"]) == pytest.approx(loss_decides(found.study.trials[3].params))
    number = int(best((row for row in rows if row["value"]), key=lambda row: float(row["value"]))["trial"])
    content = json.loads((tmp_path / "study.json").read_text())
    assert content["direction"] == direction
    assert content["trials"] == {"complete": 13, "pruned": 1, "failed": 0, "running": 0}
    assert content["best"]["trial"] == content["chosen"]["trial"] == number
    assert best_table(found).splitlines()[4].split()[0] == str(number)
    lines = summary_lines(found, shares)
    assert max(map(len, lines)) <= 100
    assert f"chosen: trial {number}, val/ap_macro {found.study.trials[number].value:.4f}" in lines

    def drawn(name):
        root = ElementTree.parse(tmp_path / "plots" / f"{name}.svg").getroot()
        return root.findall("{http://www.w3.org/2000/svg}circle")

    # The best is drawn last, so that no other covers it; the pruned one is in the history alone.
    assert len(drawn("history")) == 14
    for name in SPACE:
        points = drawn(f"slice-{name}")
        assert len(points) == 13
        assert points[-1][0].text.startswith(f"trial {number}: ")
    text = (tmp_path / "plots" / "importances.svg").read_text()
    assert all(name in text for name in SPACE)
    # Over the whole range, not the part of it where trials are.
    share = Axis.around("", [0.0, 0.5]).share(found.study.trials[number].params["model.dropout"])
    place = LEFT + share * (WIDTH - LEFT - RIGHT)
    assert float(drawn("slice-model.dropout")[-1].get("cx")) == pytest.approx(place, abs=0.1)
