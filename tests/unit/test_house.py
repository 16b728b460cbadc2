"""The house rule: a folder imports only folders that come after it, and wandb is imported in one file."""

import ast
from pathlib import Path

import pytest

import datamodules

HOUSE = ("experiments", "train", "audits", "models", "datamodules")
ROOT = Path(datamodules.__path__[0]).parent
FILES = [path for folder in HOUSE for path in sorted((ROOT / folder).rglob("*.py"))]


def imported_packages(path: Path) -> set[str]:
    names = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            names |= {alias.name.split(".")[0] for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path} imports relatively"
            names.add((node.module or "").split(".")[0])
    return names


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.relative_to(ROOT).as_posix())
def test_imports_go_down_the_house(path):
    folder = path.relative_to(ROOT).parts[0]
    above = HOUSE[: HOUSE.index(folder)]
    assert not imported_packages(path) & set(above)


def test_every_folder_is_looked_at():
    assert {path.relative_to(ROOT).parts[0] for path in FILES} == set(HOUSE)


def test_wandb_is_imported_in_one_file():
    assert [p.name for p in FILES if "wandb" in imported_packages(p)] == ["tracking.py"]


def test_statistics_know_no_tensors():
    for path in FILES:
        if path.is_relative_to(ROOT / "audits"):
            assert not imported_packages(path) & {"torch", "pytorch_lightning", "wandb"}, path
