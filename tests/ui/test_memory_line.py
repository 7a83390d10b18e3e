"""The tab's line about memory: it never holds up what is filled in, and comes as soon as it is known."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
from fastapi import FastAPI
from fastapi.testclient import TestClient

from atelier.config.job import JobConfig
from atelier.ui.server.memory_line import MemoryLine
from atelier.ui.server.routes import register
from tests.support.gradio_pages import handler_of
from tests.ui.test_tab import Page


@pytest.fixture
def page(tmp_path: Path) -> Iterator[Page]:
    made = Page(tmp_path)
    yield made
    made.jobs.close(timeout=30)


def test_what_is_filled_in_comes_before_the_memory(page: Page, monkeypatch: pytest.MonkeyPatch) -> None:
    """A value that the person types while the memory is worked out is not written over by a preset."""
    monkeypatch.setattr("atelier.ui.server.memory_line.MemoryLine.about", lambda *_: "This needs much memory.")
    page.fill()
    handler = handler_of(page.blocks, page.by_id["atelier_train_data_dir"], "change")
    first, second = handler.fn({block: page.held[block] for block in handler.inputs})
    controls = {block for key, block in page.by_id.items() if block in handler.inputs}
    assert controls & set(first) and not controls & set(second)
    assert "much memory" in second[page.by_id["atelier_found"]]


def test_the_page_asks_until_the_memory_is_worked_out(page: Page, monkeypatch: pytest.MonkeyPatch) -> None:
    known = threading.Event()
    asked: list[int] = []

    def memory_lines(job: JobConfig, *arguments: object) -> list[str]:
        asked.append(job.settings.network_dim)
        assert known.wait(30)
        return [f"Rank {job.settings.network_dim} needs much memory."]

    monkeypatch.setattr("atelier.training.memory.for_run.memory_lines", memory_lines)
    monkeypatch.setattr("atelier.ui.server.memory_line.PATIENCE", 0.0)
    app = FastAPI()
    register(app, page.jobs, page.host)
    client = TestClient(app, base_url="http://127.0.0.1")

    def sentences() -> object:
        return client.get("/atelier/v1/memory").json()["sentences"]

    assert sentences() == ""
    page.fill()
    for rank in (4, 5, 6):  # while the first is worked out, only the newest of the others waits
        page.set(network_dim=rank)
        found = page.change()
        assert "Working out how much memory" in found and "atelier-worked-out" in found and sentences() is None
    known.set()
    monkeypatch.setattr("atelier.ui.server.memory_line.PATIENCE", 30.0)
    line = MemoryLine.of(page.jobs, page.host)
    with line._changed:
        assert line._changed.wait_for(lambda: line.newest is not None, 30)
    assert sentences() == "Rank 6 needs much memory." and asked == [4, 6]
    found = page.change()
    assert "Rank 6 needs much memory." in found and "atelier-worked-out" not in found
    monkeypatch.setattr("atelier.training.memory.for_run.memory_lines", lambda *arguments: 1 / 0)
    assert "memory" not in page.change() and sentences() == ""
