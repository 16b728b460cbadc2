"""What may be searched, and what of it a plan draws."""

from dataclasses import fields

import pytest

from datamodules.errors import InputError
from experiments.tune_config import StudyConfig, TuneConfig
from experiments.tune_space import (
    NOT_SEARCHED,
    SEARCHED_DATA,
    SEARCHED_SECTIONS,
    read_space,
    some_settings,
    with_settings,
)
from train.config import Config


def space_of(**entries):
    return read_space(StudyConfig(tune=TuneConfig(space={name.replace("__", "."): e for name, e in entries.items()})))


def test_ranges_and_choices_become_distributions():
    space = space_of(
        optim__lr_head={"low": 1e-4, "high": 1e-2, "log": True},
        trainer__batch_size={"low": 8, "high": 33, "step": 8},
        model__dropout={"low": 0, "high": 0.5, "step": 0.25},
        model__loss={"choices": ["bce", "wan"]},
        model__encoder_dropout={"choices": [None, 0.1]},
    )
    assert space.to_dict() == {
        "optim.lr_head": {"low": 1e-4, "high": 1e-2, "log": True},
        # The last step inside.
        "trainer.batch_size": {"low": 8, "high": 32, "step": 8},
        "model.dropout": {"low": 0.0, "high": 0.5, "step": 0.25},
        "model.loss": {"choices": ["bce", "wan"]},
        "model.encoder_dropout": {"choices": [None, 0.1]},
    }
    assert space.size == float("inf")
    assert (
        space_of(
            trainer__batch_size={"low": 8, "high": 33, "step": 8},
            model__dropout={"low": 0, "high": 0.5, "step": 0.25},
            model__loss={"choices": ["bce", "wan"]},
        ).size
        == 4 * 3 * 2
    )


def test_the_digest_tells_spaces_apart_and_not_their_spelling():
    one = space_of(model__dropout={"low": 0, "high": 0.5})
    assert one.digest == space_of(model__dropout={"high": 0.5, "low": 0.0, "log": False}).digest
    assert one.digest != space_of(model__dropout={"low": 0, "high": 0.4}).digest


@pytest.mark.parametrize(
    ("entries", "found", "fix"),
    [
        ({}, "no setting to search", "--config"),
        ({"model.los": {"choices": ["bce"]}}, "names no setting", "model.los"),
        ({"loss": {"choices": ["bce"]}}, "names no setting", "loss"),
        ({"run.seed": {"low": 0, "high": 9}}, "names no setting", "run.seed"),
        ({"data.val_fraction": {"low": 0.1, "high": 0.3}}, "could not be compared", "--data.val_fraction"),
        ({"trainer.monitor": {"choices": ["val/loss"]}}, "the same for all trials", "--trainer.monitor"),
        ({"model.loss": {"choices": ["bce", "cross"]}}, "model.loss with choice 'cross'", "model.loss"),
        ({"model.loss": {"low": 0, "high": 1}}, "model.loss with a range", "model.loss"),
        ({"model.loss": ["bce"]}, "model.loss ['bce']", "model.loss"),
        ({"model.loss": {"choices": []}}, "choices []", "model.loss"),
        ({"model.loss": {"choices": ["bce", "bce"]}}, "same choice twice", "model.loss"),
        ({"model.loss": {"choices": ["bce"], "low": 1}}, "model.loss {", "model.loss"),
        ({"model.dropout": {"low": 0, "high": 1.5}}, "model.dropout 1.5", "model.dropout"),
        ({"model.dropout": {"choices": [0.1, -1]}}, "model.dropout -1", "model.dropout"),
        ({"model.dropout": {"low": 0.5, "high": 0.1}}, "low 0.5 above high 0.1", "model.dropout"),
        ({"model.dropout": {"low": 0, "high": 0.5, "log": True}}, "log and low 0", "model.dropout"),
        ({"model.dropout": {"low": 0, "high": 0.5, "log": 1}}, "neither true nor false", "model.dropout"),
        ({"model.dropout": {"low": 0.1, "high": 0.5, "log": True, "step": 0.1}}, "log and step", "model.dropout"),
        ({"model.dropout": {"low": 0, "high": 0.5, "step": 0}}, "step 0", "model.dropout"),
        ({"model.dropout": {"low": 0, "high": 0.5, "steps": 3}}, "'steps'", "model.dropout"),
        ({"optim.lr_head": {"low": "1e-4", "high": 0.1}}, "write 1.0e-4", "optim.lr_head"),
        ({"trainer.batch_size": {"low": 1.5, "high": 8}}, "low 1.5", "trainer.batch_size"),
        ({"model.lora_targets": {"choices": [["query"]]}}, "a list among its choices", "model.lora_targets"),
    ],
)
def test_an_impossible_entry_is_told_with_its_mending(entries, found, fix):
    with pytest.raises(InputError) as error:
        read_space(StudyConfig(tune=TuneConfig(space=entries)))
    assert found in error.value.found
    assert fix in error.value.fix


@pytest.mark.parametrize("section", SEARCHED_SECTIONS)
def test_every_setting_can_be_searched_but_those_that_trials_must_share(section):
    defaults, whole = Config(), getattr(Config(), section)
    accepted, refused = set(), []
    for setting in (each.name for each in fields(whole)):
        name, own = f"{section}.{setting}", getattr(whole, setting)
        if isinstance(own, list):
            continue
        try:
            space = read_space(StudyConfig(tune=TuneConfig(space={name: {"choices": [own]}})))
        except InputError as error:
            refused.append(error.found)
        else:
            accepted.add(setting)
            assert with_settings(defaults, some_settings(defaults, space)) == defaults
    assert all("could not be compared" in found or "the same for all trials" in found for found in refused)
    if section == "data":
        assert accepted == set(SEARCHED_DATA)
    else:
        kept = {name.partition(".")[2] for name in NOT_SEARCHED if name.startswith(section)}
        lists = {each.name for each in fields(whole) if isinstance(getattr(whole, each.name), list)}
        assert accepted == {each.name for each in fields(whole)} - kept - lists


def test_a_setting_that_acts_under_one_choice_only_is_searched_with_that_choice():
    width = {"model.head_width": {"choices": [32, 64, 128]}}
    for further in ({}, {"model.head": {"choices": ["linear", "label-attention"]}}):
        with pytest.raises(InputError, match=r"head_width 32 with head linear, where it does nothing.*head mlp"):
            read_space(StudyConfig(tune=TuneConfig(space={**width, **further})))
    only = read_space(StudyConfig(tune=TuneConfig(space={**width, "model.head": {"choices": ["mlp"]}})))
    assert (only.size, only.conditions) == (3, {})
    heads = {"model.head": {"choices": ["linear", "mlp"]}, "model.loss": {"choices": ["bce", "wan"]}}
    space = read_space(StudyConfig(tune=TuneConfig(space={**width, **heads})))
    # Per loss: the linear head, and the other one in three widths.
    assert space.size == 2 * (1 + 3)
    linear = {"model.head": "linear", "model.head_width": 64, "model.loss": "bce"}
    assert space.acting(linear) == {"model.head": "linear", "model.loss": "bce"}
    assert space.acting(linear | {"model.head": "mlp"}) == linear | {"model.head": "mlp"}
    plan = [tuple(sorted(space.acting(own).items())) for own in space.plan(8, seed=0)]
    assert len(set(plan)) == 8


def test_a_plan_is_drawn_by_its_seed_alone_and_grows_at_its_end():
    space = space_of(model__dropout={"low": 0, "high": 0.5}, model__loss={"choices": ["bce", "wan"]})
    plan = space.plan(12, seed=3)
    assert plan[:5] == space.plan(5, seed=3)
    assert plan != space.plan(12, seed=4)
    assert {settings["model.loss"] for settings in plan} == {"bce", "wan"}
    # Another order in the file is no other space.
    turned = space_of(model__loss={"choices": ["bce", "wan"]}, model__dropout={"low": 0, "high": 0.5})
    assert (turned.digest, turned.plan(12, seed=3)) == (space.digest, plan)


def test_a_plan_of_a_small_space_holds_each_setting_once():
    space = space_of(trainer__batch_size={"low": 1, "high": 4}, model__loss={"choices": ["bce", "wan"]})
    plan = space.plan(8, seed=0)
    assert sorted((own["trainer.batch_size"], own["model.loss"]) for own in plan) == [
        (size, loss) for size in (1, 2, 3, 4) for loss in ("bce", "wan")
    ]


def test_settings_are_put_into_a_copy():
    config = Config()
    changed = with_settings(config, {"model.loss": "wan", "model.dropout": 0.3, "optim.lr_head": 0.5})
    assert (changed.model.loss, changed.model.dropout, changed.optim.lr_head) == ("wan", 0.3, 0.5)
    assert config == Config()
    assert changed.data is config.data


def test_a_possible_trial_has_the_configs_own_settings_where_it_may():
    space = space_of(
        model__loss={"choices": ["wan", "bce"]},
        model__pooling={"choices": ["cls"]},
        model__dropout={"low": 0.0, "high": 0.5},
        optim__lr_head={"low": 0.1, "high": 0.2},
    )
    own = some_settings(Config(), space)
    assert own == {"model.loss": "bce", "model.pooling": "cls", "model.dropout": 0.1, "optim.lr_head": 0.1}
