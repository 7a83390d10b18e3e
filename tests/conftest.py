"""Puts the package on the path, keeps torch to one thread and the hub offline; adds the options for a real WebUI."""

from __future__ import annotations

import gc
import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from tests.webui.hosts import WebUI

os.environ.setdefault("HF_HUB_OFFLINE", "1")
os.environ.setdefault("OMP_NUM_THREADS", "1")
ROOT = Path(__file__).resolve().parent.parent
sys.path[:0] = [str(ROOT), str(ROOT / "lib")]


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--webui", default=None, help="address of a running WebUI to test against")
    parser.addoption("--webui-dir", default=None, help="folder of that WebUI")
    parser.addoption(
        "--webui-start", default=None, help="command that starts such a WebUI; flags such as --port are added to it"
    )


@pytest.fixture(scope="module", autouse=True)
def few_objects_to_collect() -> None:
    """Every run collects garbage. What was imported so far, a million objects, is left out of that search."""
    gc.collect()
    gc.freeze()


@pytest.fixture(scope="session")
def root() -> Path:
    """The folder of the checkout."""
    return ROOT


@pytest.fixture(scope="session")
def webui(request: pytest.FixtureRequest) -> WebUI:
    """The running WebUI to test against; skips without one."""
    address, folder = request.config.getoption("--webui"), request.config.getoption("--webui-dir")
    if not address or not folder:
        pytest.skip("needs a running WebUI: run.py test --webui URL --webui-dir DIR")
    from tests.webui.hosts import WebUI

    host = WebUI(address, Path(folder))
    assert host.is_up(), f"no WebUI with this extension answers at {address}"
    return host


@pytest.fixture(scope="session")
def pictures(root: Path) -> Path:
    """A folder of a few captioned pictures of one subject."""
    return root / "assets" / "demo" / "subject"
