from pathlib import Path

from train.audit_config import AuditConfig, RewardSource
from train.config import DataConfig
from train.shared import Shared


def test_equal_settings_are_made_once():
    shared, made = Shared(), []

    def make():
        made.append(object())
        return made[-1]

    rewards = [RewardSource("a", "file", "x.csv")]
    first = shared.once("texts", [DataConfig(path=Path("a")), AuditConfig(rewards=rewards), 1], make)
    again = shared.once("texts", [DataConfig(path=Path("a")), AuditConfig(rewards=list(rewards)), 1], make)
    assert first is again
    assert len(made) == 1
    for settings in (
        [DataConfig(path=Path("b")), AuditConfig(rewards=rewards), 1],
        [DataConfig(path=Path("a")), AuditConfig(), 1],
        [DataConfig(path=Path("a")), AuditConfig(rewards=rewards), 2],
    ):
        assert shared.once("texts", settings, make) is not first
    assert shared.once("splits", [DataConfig(path=Path("a")), AuditConfig(rewards=rewards), 1], make) is not first


def test_what_was_longest_out_of_use_goes_first():
    shared, made = Shared(size=2), []
    for name in ("a", "b", "a", "c", "a", "b"):
        shared.once("x", [name], lambda name=name: made.append(name))
    assert made == ["a", "b", "c", "b"]
