"""Shared fixtures."""

import os
from pathlib import Path

import pytest


@pytest.fixture(scope="session")
def data_root() -> Path:
    """The real data root, or a skip that says why."""
    root = os.environ.get("IMPRINT_DATA")
    if not root:
        pytest.skip("real data: IMPRINT_DATA is not set")
    path = Path(root)
    if not path.is_dir():
        pytest.skip(f"real data: IMPRINT_DATA={root} is not a folder")
    return path.resolve()
