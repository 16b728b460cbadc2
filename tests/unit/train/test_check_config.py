import inspect
from dataclasses import replace

import pytest

from datamodules.errors import InputError
from train.audit_config import AuditConfig
from train.audit_setup import AUDITS
from train.check_config import ACTS_UNDER, check_config, setting_of
from train.config import Config
from train.data_audits import DATA_AUDITS

# A value of each setting that it may have.
VALUES = {
    "model.label_smoothing": 0.0,
    "model.asl_gamma_positive": 0.0,
    "model.asl_gamma_negative": 4.0,
    "model.asl_margin": 0.0,
    "model.effective_beta": 0.9,
    "model.head_width": 256,
    "model.lora_rank": 8,
    "model.lora_alpha": 16.0,
    "model.lora_dropout": 0.0,
    "model.lora_targets": ["query"],
    "trainer.ema_decay": 0.99,
}


def with_values(**values):
    """Build a config with `section.setting` values."""
    config = Config()
    for name, value in values.items():
        section, _, setting = name.partition(".")
        config = replace(config, **{section: replace(getattr(config, section), **{setting: value})})
    return config


@pytest.mark.parametrize("setting", ACTS_UNDER)
def test_a_setting_without_effect_is_told_and_one_that_acts_passes(setting):
    choice, needed = ACTS_UNDER[setting]
    section, name = choice.split(".")
    assert setting_of(Config(), setting) is None
    with pytest.raises(InputError) as raised:
        check_config(with_values(**{setting: VALUES[setting]}))
    chosen = setting_of(Config(), choice)
    assert raised.value.found == f"{setting} {VALUES[setting]} with {name} {chosen}, where it does nothing"
    assert raised.value.fix == f"--{section}.{name} {needed}, or leave out --{setting}"
    check_config(with_values(**{setting: VALUES[setting], choice: needed}))


@pytest.mark.parametrize(
    ("setting", "value"),
    [
        ("model.head_width", 0),
        ("model.lora_rank", 0),
        ("model.lora_alpha", 0.0),
        ("model.lora_alpha", float("inf")),
        ("model.lora_dropout", 1.0),
        ("trainer.ema_decay", 0.0),
        ("trainer.ema_decay", 1.0),
    ],
)
def test_a_number_out_of_range_is_told(setting, value):
    with pytest.raises(InputError) as raised:
        check_config(with_values(**{setting: value} | dict([ACTS_UNDER[setting]])))
    assert raised.value.found == f"{setting} {value}"
    assert raised.value.fix == f"--{setting}"


def test_no_layer_to_adapt_is_told_and_not_read_as_the_default():
    lora = {"model.encoder_training": "lora"}
    with pytest.raises(InputError) as raised:
        check_config(with_values(**lora, **{"model.lora_targets": []}))
    assert raised.value.found == "model.lora_targets [], no layer at all"
    check_config(with_values(**lora))


def test_the_help_of_audits_names_all_of_them():
    """The text below the field is the only help text."""
    text = inspect.getsource(AuditConfig)
    text = text[text.index("    audits: list[str]") : text.index("    view: ViewName")]
    assert [name for name in (*AUDITS, *DATA_AUDITS) if name not in text] == []
