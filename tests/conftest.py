"""Puts the package on the path, keeps torch to one thread and the hub offline; adds the options for a real WebUI."""

from __future__ import annotations

import os
import sys
from pathlib import Path

import pytest

os.environ.setdefault("HF_HUB_OFFLINE", "1")
os.environ.setdefault("OMP_NUM_THREADS", "1")
ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT / "lib"))


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--webui", default=None, help="address of a running WebUI to test against")
    parser.addoption("--webui-dir", default=None, help="folder of that WebUI")


@pytest.fixture(scope="session")
def root() -> Path:
    """The folder of the checkout."""
    return ROOT
