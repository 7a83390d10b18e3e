"""A page with the panel in a real Chromium, fed by the real routes and a trainer that the test steers."""

from __future__ import annotations

import re
import shutil
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import uvicorn
from fastapi import FastAPI
from fastapi.responses import HTMLResponse, Response

from atelier.jobs.queue import Jobs
from atelier.ui.server.routes import register
from tests.support.jobs_fakes import PATIENCE, FakeHost, Steered

FLAGS = [
    "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-background-networking",
    "--disable-component-update", "--disable-sync",
]  # fmt: skip
WAIT = 60_000
PAGE = """<!doctype html><title>a WebUI</title><link rel="stylesheet" href="style.css">
<div id="txt2img_prompt"><textarea>a garden &lt;lora:cat-step00000002:1&gt;</textarea></div>
<button id="txt2img_lora_extra_refresh" onclick="window.refreshed = (window.refreshed || 0) + 1">Refresh</button>
<div id="tabs"><button role="tab" onclick="window.tab = 'txt2img'">txt2img</button></div>
<div id="atelier_tab"><button id="atelier_train">Train</button><div id="atelier_model_line"><p></p></div>
<div id="atelier_message"></div><div id="atelier_found"></div><div id="atelier_panel"></div></div>
<script>window.gradio_config = {root: "ROOT"}</script><script src="panel.js"></script>
"""


class Site:
    """A page with the panel, below a path of its own, on a port of the system's choice."""

    def __init__(self, folder: Path, root: Path) -> None:
        self.host = FakeHost(folder)
        self.train = Steered()
        self.jobs = Jobs(self.host, self.train)
        page = FastAPI()
        register(page, self.jobs, self.host)
        scripts = sorted((root / "javascript").glob("*.js"))

        @page.get("/")
        def index() -> HTMLResponse:
            return HTMLResponse(PAGE.replace("ROOT", f"http://elsewhere:1{self.path}"))

        @page.get("/panel.js")
        def panel() -> Response:
            return Response(";\n".join(script.read_text("utf-8") for script in scripts), media_type="text/javascript")

        @page.get("/style.css")
        def style() -> Response:
            return Response((root / "style.css").read_text("utf-8"), media_type="text/css")

        self.path = "/sub/path"
        app = FastAPI()
        app.mount(self.path, page)
        self.server = uvicorn.Server(uvicorn.Config(app, host="127.0.0.1", port=0, log_level="error"))
        self.started = threading.Event()
        startup = self.server.startup

        async def announced(sockets: Any = None) -> None:
            await startup(sockets)
            self.started.set()

        self.server.startup = announced
        self.thread = threading.Thread(target=self.server.run, daemon=True)
        self.thread.start()
        assert self.started.wait(PATIENCE)
        self.port = self.server.servers[0].sockets[0].getsockname()[1]
        self.address = f"http://127.0.0.1:{self.port}{self.path}/"

    def close(self) -> None:
        self.train.finish()
        self.jobs.close(PATIENCE)
        self.server.should_exit = True
        self.thread.join(PATIENCE)


@pytest.fixture
def site(tmp_path: Path, root: Path) -> Iterator[Site]:
    made = Site(tmp_path, root)
    yield made
    made.close()


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    found = next((path for name in ("chromium", "google-chrome", "chrome") if (path := shutil.which(name))), None)
    if found is None:
        pytest.skip("there is no Chromium on this machine")
    playwright = pytest.importorskip("playwright.sync_api")
    with playwright.sync_playwright() as player:
        running = player.chromium.launch(executable_path=found, args=FLAGS)
        yield running
        running.close()


@pytest.fixture
def page(browser: Any, site: Site) -> Iterator[Any]:
    opened = browser.new_page(viewport={"width": 1400, "height": 1000})
    opened.set_default_timeout(WAIT)
    wrong: list[str] = []
    opened.on("pageerror", lambda error: wrong.append(str(error)))
    opened.goto(site.address)
    yield opened
    opened.close()
    assert not wrong


def state(page: Any, wanted: str) -> None:
    page.wait_for_function("text => (document.querySelector('#atelier_state') || {}).textContent === text", arg=wanted)


def text(page: Any, wanted: str) -> None:
    page.locator("#atelier_panel", has_text=re.compile(wanted)).wait_for()
