import gzip
from argparse import ArgumentError
from types import SimpleNamespace

import pytest
import yaml

from datamodules.errors import InputError
from experiments.config_files import add_sections, config_files_first, config_of
from experiments.fit_command import run_fit
from experiments.parsing import command_parser, read_config
from train.config import Config, config_to_dict


def parse(*arguments):
    parser = command_parser("fit", "")
    add_sections(parser, Config, {})
    return config_of(parser, parser.parse_args(config_files_first(arguments, Config)), Config)


@pytest.fixture
def files(tmp_path):
    for name, content in {
        "a": {"optim": {"lr_head": 0.1, "lr_encoder": 0.2}},
        "b": {"optim": {"lr_head": 0.3}},
    }.items():
        (tmp_path / f"{name}.yaml").write_text(yaml.safe_dump(content))
    return str(tmp_path / "a.yaml"), str(tmp_path / "b.yaml")


def test_defaults_then_files_left_to_right_then_flags(files):
    a, b = files
    assert parse().optim.lr_head == Config().optim.lr_head
    assert parse("--config", a, "--config", b).optim.lr_head == 0.3
    assert parse("--config", b, "--config", a).optim.lr_head == 0.1
    assert parse("--config", a, f"--config={b}").optim.lr_encoder == 0.2


@pytest.mark.parametrize("before", [True, False])
def test_flags_win_wherever_they_stand(files, before):
    flag = ["--optim.lr_head", "0.7"]
    arguments = [*flag, "--config", files[0]] if before else ["--config", files[0], *flag]
    assert parse(*arguments).optim.lr_head == 0.7


def test_a_written_config_reads_back_equal(tmp_path):
    config = parse("--model.loss=wan", "--audit.datasets=[a,b]", "--data.root=/x/y", "--track.tags=[t]")
    path = tmp_path / "config.yaml"
    path.write_text(yaml.safe_dump(config_to_dict(config)))
    assert read_config(path) == config


@pytest.mark.parametrize(
    ("content", "text"),
    [
        ("model:\n  los: wan\n", r"setting model\.los in .*needed one of .*class_weights"),
        ("modle: {}\n", r"section 'modle' in .*needed sections data, model"),
        ("- a\n", "holds no mapping"),
        ("data: 3\n", "section data in .*, which holds 3; needed settings, indented below it"),
        ("data:\n", "section data in .*, which holds nothing"),
        ("a: [\n", "that is not YAML"),
        ("", r"nothing in .*bad\.yaml"),
        ("optim:\n  lr_head: 0.001\n  lr_head: 0.5\n", "line 3, that is not YAML .key lr_head occurs twice"),
        ("optim: {lr_head: 2020-13-01}\n", "not YAML .month must be"),
        ("optim: {lr_head: " + "[" * 3000 + "]" * 3000 + "}\n", "not YAML .nested too deeply"),
        ("optim: {lr_head: " + "9" * 5000 + "}\n", "not YAML .Exceeds the limit"),
    ],
)
def test_a_bad_config_file_is_told(tmp_path, content, text):
    path = tmp_path / "bad.yaml"
    path.write_text(content)
    with pytest.raises(InputError, match=text):
        parse("--config", str(path))


def test_a_missing_config_file_is_told():
    with pytest.raises(InputError, match=r"no file at nowhere\.yaml"):
        parse("--config", "nowhere.yaml")
    with pytest.raises(InputError, match="--config without a file"):
        parse("--config")


@pytest.mark.parametrize("flag", ["--model.los=wan", "--model.loss=hinge", "--data.max_length=many", "--epochs=3"])
def test_a_bad_flag_is_a_usage_error(flag):
    with pytest.raises((ArgumentError, SystemExit)):
        parse(flag)


def test_every_setting_has_a_help_text():
    parser = command_parser("fit", "")
    add_sections(parser, Config, {})
    text = parser.format_help()
    for section, kind in Config.__annotations__.items():
        for name in kind.__dataclass_fields__:
            entry = text.split(f"--{section}.{name} ")[-1]
            assert len(entry.split("(type:")[0].split()) > 2, f"{section}.{name} has no help text"


def test_a_packed_config_file_is_told(tmp_path):
    path = tmp_path / "c.yaml.gz"
    path.write_bytes(gzip.compress(b"optim: {lr_head: 0.5}\n"))
    with pytest.raises(InputError, match=r"c\.yaml\.gz, which is packed; .*fix: unpack it, or --config"):
        parse("--config", str(path))


@pytest.mark.parametrize(
    ("content", "text"),
    [
        (b"", r"nothing in .*config\.yaml; .*fix: edit .*config\.yaml"),
        (b"\xff\xfeo", r"not UTF-8 in .*config\.yaml.*--resume"),
        (b"optim: {lr_head: 1, lr_head: 2}", "key lr_head occurs twice"),
        (b"optim: 3", "section optim in .*holds 3"),
    ],
)
def test_the_config_of_a_run_to_go_on_with_is_checked(tmp_path, monkeypatch, content, text):
    run = SimpleNamespace(config_file=tmp_path / "config.yaml")
    run.config_file.write_bytes(content)
    monkeypatch.setattr("experiments.fit_command.RunDirectory", SimpleNamespace(open=lambda _: run))
    with pytest.raises(InputError, match=text):
        run_fit(["--resume", str(tmp_path)])
