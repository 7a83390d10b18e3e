"""The tab follows the WebUI's settings that change what a prompt is to the model, and says so."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from fastapi import FastAPI
from fastapi.testclient import TestClient

from atelier.hosts.contract import DrawnWith
from atelier.ui.server.routes import register
from tests.support.jobs_fakes import FakeHost
from tests.ui.test_tab import Page


@pytest.fixture
def page(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Page]:
    """A tab in a WebUI that draws with clip skip 2, as Forge Neo does unless told otherwise."""
    monkeypatch.setattr(FakeHost, "drawn_with", lambda host, family: DrawnWith(clip_skip=2), raising=False)
    made = Page(tmp_path)
    yield made
    made.jobs.close(timeout=30)


def test_clip_skip_is_filled_in_and_said(page: Page) -> None:
    page.fill()
    assert "Clip skip (clip_skip) is 2, as in this WebUI&#x27;s settings." in page.change()
    assert page.held[page.controls["clip_skip"]] == "2"
    page.train()
    assert page.asked[-1].settings.clip_skip == 2


def test_one_that_was_edited_stays_with_a_remark(page: Page) -> None:
    page.fill()
    page.change()
    page.set(clip_skip=3)
    page.call("atelier_clip_skip", "change")
    found = str(page.held[page.by_id["atelier_found"]])
    assert "Clip skip (clip_skip) is 3, but this WebUI draws with 2" in found
    assert page.held[page.controls["clip_skip"]] == "3"


def test_settings_of_a_program_stay_with_a_remark(page: Page) -> None:
    app = FastAPI()
    register(app, page.jobs, page.host)
    asked = {"output_name": "thing", "trigger": "zwx", "train_data_dir": str(page.pictures)}
    answer = TestClient(app, base_url="http://127.0.0.1").post("/atelier/v1/jobs", json={"settings": asked}).json()
    assert answer["settings"]["clip_skip"] is None
    assert [remark for remark in answer["remarks"] if remark.startswith("Clip skip (clip_skip) is empty")]
