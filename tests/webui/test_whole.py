"""In a running WebUI: however a run ends, the model and the process are as they were."""

from __future__ import annotations

import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.webui.hosts import WebUI, wait
from tests.webui.probe import probed

pytestmark = [pytest.mark.webui, pytest.mark.browser]


@pytest.fixture(scope="module")
def look(webui: WebUI, pictures: Path) -> Iterator[Any]:
    """Looks into the process after the same picture each time, which leaves the WebUI's own randomness alike."""
    with probed(webui) as ask:

        def looked() -> Any:
            webui.draw()
            found = ask()
            assert found.status == 200, found
            return found

        # The first run imports what every later one uses.
        webui.until(webui.train("w" + uuid.uuid4().hex[:6], pictures, max_train_steps=2, sample_every_n_steps=2))
        yield looked


def end(webui: WebUI, pictures: Path, how: str) -> None:
    """A run that ends in one way."""
    name = "w" + uuid.uuid4().hex[:6]
    if how == "done":
        settings = {"max_train_steps": 3, "sample_every_n_steps": 2, "network_train_unet_only": False}
        webui.until(webui.train(name, pictures, **settings))
    elif how == "stopped":
        run = webui.train(name, pictures, max_train_steps=500)
        webui.until(run, "running", 1)
        webui.press(run, "stop")
        wait(lambda: webui.job(run)["state"] == "stopped", "the end of the run")
    elif how == "diverged":
        run = webui.train(name, pictures, max_train_steps=500, learning_rate=10.0, network_alpha=4096)
        wait(lambda: webui.job(run)["state"] == "failed", "the loss to be no number any more")
    else:
        run = webui.train(name, pictures, optimizer_type="no.such.Optimizer")
        wait(lambda: webui.job(run)["state"] == "failed", "the error of the run")


@pytest.mark.parametrize("how", ["done", "stopped", "diverged", "error"])
def test_all_is_as_it_was(webui: WebUI, pictures: Path, look: Any, how: str) -> None:
    before = look()
    end(webui, pictures, how)
    after = look()
    assert after["parameters"] == before["parameters"]
    assert after["process"] == before["process"]


def test_memory_comes_back(webui: WebUI, pictures: Path, look: Any) -> None:
    # What the allocator keeps grows over the first runs and then stays.
    end(webui, pictures, "done")
    before = look()["memory"]
    end(webui, pictures, "done")
    assert look()["memory"] < before * 1.01
