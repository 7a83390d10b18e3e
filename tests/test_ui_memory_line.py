"""The tab's line about memory: it never holds up what is filled in, and comes as soon as it is known."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
from gradio_pages import handler_of
from test_ui_tab import Page


@pytest.fixture
def page(tmp_path: Path) -> Iterator[Page]:
    made = Page(tmp_path)
    yield made
    made.jobs.close(timeout=30)


def test_what_is_filled_in_comes_before_the_memory(page: Page, monkeypatch: pytest.MonkeyPatch) -> None:
    """A value that the person types while the memory is worked out is not written over by a preset."""
    monkeypatch.setattr("atelier.ui.memory_line.MemoryLine.about", lambda *_: "This needs much memory.")
    page.fill()
    handler = handler_of(page.blocks, page.by_id["atelier_train_data_dir"], "change")
    first, second = handler.fn({block: page.held[block] for block in handler.inputs})
    controls = {block for key, block in page.by_id.items() if block in handler.inputs}
    assert controls & set(first) and not controls & set(second)
    assert "much memory" in second[page.by_id["atelier_found"]]


def test_the_page_asks_again_while_the_memory_is_worked_out(page: Page, monkeypatch: pytest.MonkeyPatch) -> None:
    known = threading.Event()

    def memory_lines(*arguments: object) -> list[str]:
        assert known.wait(30)
        return ["This needs much memory."]

    monkeypatch.setattr("atelier.training.memory_run.memory_lines", memory_lines)
    monkeypatch.setattr("atelier.ui.memory_line.PATIENCE", 0.0)
    page.fill()
    for _ in range(2):
        found = page.change()
        assert "being worked out" in found and 'class="atelier-found atelier-again"' in found
    known.set()
    monkeypatch.setattr("atelier.ui.memory_line.PATIENCE", 30.0)
    while "being worked out" in (found := page.change()):  # the one that was begun first ends
        pass
    assert "This needs much memory." in found and "atelier-again" not in found
    monkeypatch.setattr("atelier.training.memory_run.memory_lines", lambda *arguments: 1 / 0)
    assert "memory" not in page.change()
