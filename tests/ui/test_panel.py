"""The live panel in a real Chromium, fed by the real routes and a trainer that the test steers."""

from __future__ import annotations

import re
import shutil
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("fastapi")
uvicorn = pytest.importorskip("uvicorn")
playwright = pytest.importorskip("playwright.sync_api")

from fastapi import FastAPI  # noqa: E402
from fastapi.responses import HTMLResponse, Response  # noqa: E402

from atelier.jobs.queue import Jobs  # noqa: E402
from atelier.ui.server.routes import register  # noqa: E402
from tests.support.jobs_fakes import PATIENCE, FakeHost, Steered, finished, job_named, keep_state  # noqa: E402

pytestmark = pytest.mark.browser

FLAGS = [
    "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-background-networking",
    "--disable-component-update", "--disable-sync",
]  # fmt: skip
WAIT = 60_000
PAGE = """<!doctype html><title>a WebUI</title><link rel="stylesheet" href="style.css">
<div id="txt2img_prompt"><textarea>a garden &lt;lora:cat-step00000002:1&gt;</textarea></div>
<button id="txt2img_lora_extra_refresh" onclick="window.refreshed = (window.refreshed || 0) + 1">Refresh</button>
<button role="tab" onclick="window.tab = 'txt2img'">txt2img</button><button id="atelier_train">Train</button>
<div id="atelier_panel"></div><script>window.gradio_config = {root: "ROOT"}</script><script src="panel.js"></script>
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


def test_from_nothing_to_done(page: Any, site: Site) -> None:
    text(page, "Nothing is training yet")
    job = site.jobs.submit(job_named("cat", trigger="zwx cat"))
    state(page, "Training")
    site.train.step(4)
    text(page, "4 of 10")
    assert page.locator(".atelier-raw").get_attribute("points").count(",") == 4
    assert page.locator("[role=progressbar]").get_attribute("aria-valuenow") == "40"
    text(page, r"Learning rate\s*1e-4")

    page.get_by_role("button", name="Sample now").click()
    page.locator("#atelier_panel img").wait_for()
    assert page.locator("#atelier_panel img").evaluate("image => image.decode().then(() => image.naturalWidth)") == 8
    page.get_by_role("button", name="Save now").click()
    page.wait_for_function("window.refreshed === 1")
    text(page, "cat-step00000004")

    page.get_by_role("button", name="Pause").click()
    state(page, "Paused")
    page.get_by_role("button", name="Resume").click()
    state(page, "Training")
    site.train.finish()
    state(page, "Done")
    finished(site.jobs, job)
    text(page, "<lora:cat:1>")
    page.wait_for_function("window.refreshed === 2")

    page.locator("#atelier_try_it").click()
    assert page.locator("#txt2img_prompt textarea").input_value() == "a garden, zwx cat <lora:cat:1>"
    assert page.evaluate("window.tab") == "txt2img"


def test_try_it_in_modernui_goes_to_its_own_page(page: Any, site: Site) -> None:
    page.evaluate(
        "() => { document.body.insertAdjacentHTML('beforeend', '<div id=control_prompt><textarea></textarea></div>"
        "<button id=control_nav onclick=\\'window.tab = 1\\'>Images</button>'); }"
    )
    page.evaluate("atelier.tryIt('cat', 'zwx cat', 'cat')")
    assert page.locator("#control_prompt textarea").input_value() == "zwx cat <lora:cat:1>"
    assert "cat:1" not in page.locator("#txt2img_prompt textarea").input_value()
    assert page.evaluate("window.tab") == 1


def test_a_reload_finds_the_run_again(page: Any, site: Site) -> None:
    site.jobs.submit(job_named("cat"))
    site.train.step(6)
    text(page, "6 of 10")
    page.reload()
    text(page, "6 of 10")
    assert page.locator(".atelier-raw").get_attribute("points").count(",") == 6
    assert page.evaluate("window.refreshed") is None


def test_the_panel_may_come_later_and_be_built_anew(page: Any, site: Site) -> None:
    site.jobs.submit(job_named("cat"))
    state(page, "Training")
    page.evaluate("document.querySelector('#atelier_panel').remove()")
    page.evaluate("document.body.append(Object.assign(document.createElement('div'), {id: 'atelier_panel'}))")
    state(page, "Training")


def test_stop_queue_and_resume(page: Any, site: Site) -> None:
    first, second, third = (site.jobs.submit(job_named(name)) for name in ("one", "two", "three"))
    text(page, "2 waiting")
    page.locator(".atelier-runs li", has_text="two").get_by_role("button", name="Remove from queue").click()
    text(page, "1 waiting")
    keep_state(first.record, 3)
    page.locator(".atelier-title").get_by_role("button", name="Stop").click()
    finished(site.jobs, first, second)
    state(page, "Training")
    page.locator(".atelier-name", has_text="three").wait_for()
    page.locator(".atelier-runs li", has_text="one").get_by_role("button", name="Resume").click()
    text(page, "1 waiting")
    site.train.finish()
    finished(site.jobs, first, third)
    assert [job.state for job in site.jobs.jobs()] == ["done", "stopped", "done"]


def test_markup_stays_text(page: Any, site: Site) -> None:
    attack = '<img src=x onerror="window.hurt = 1"><script>window.hurt = 1</script>'
    job = site.jobs.submit(job_named("cat", trigger=attack))
    site.train.until("running")
    job.record.message(attack, "warning")
    job.record.event("message", text=attack, level='" onclick="')
    text(page, "onerror")
    site.jobs.stop(job.id)
    finished(site.jobs, job)
    job.record.status("failed", attack)
    page.locator(".atelier-sentence", has_text="onerror").wait_for()
    assert page.evaluate("window.hurt") is None
    assert page.locator("#atelier_panel script, #atelier_panel img[src=x]").count() == 0


def test_a_refusal_shows_the_sentence(page: Any, site: Site) -> None:
    job = site.jobs.submit(job_named("cat"))
    state(page, "Training")
    page.route("**/save", lambda route: route.fulfill(status=400, json={"error": "The disk is full."}))
    page.get_by_role("button", name="Save now").click()
    page.get_by_role("alert").get_by_text("The disk is full.").wait_for()
    page.unroute("**/save")
    page.get_by_role("button", name="Save now").click()
    page.wait_for_function("!document.querySelector('#atelier_panel [role=alert]')")
    site.train.finish()
    finished(site.jobs, job)


def test_a_failed_run_has_a_text_for_a_bug_report(page: Any, site: Site) -> None:
    """The link leads to where the WebUI is served, also one that was on the page before the script was."""
    job = site.jobs.submit(job_named("cat"))
    site.train.until("running")
    assert page.locator("a.atelier-report").count() == 0
    site.jobs.stop(job.id)
    finished(site.jobs, job)
    job.record.status("failed", "It failed.")
    wanted = f"{site.path}/atelier/v1/report"
    assert page.locator("a.atelier-report").get_attribute("href") == wanted
    page.evaluate("document.body.insertAdjacentHTML('beforeend', '<a class=\"atelier-report\" id=own>Text</a>')")
    page.evaluate("document.addEventListener('click', (event) => event.preventDefault())")
    page.locator("#own").click()
    assert page.locator("#own").get_attribute("href") == wanted
    told = page.evaluate("address => fetch(address).then((answer) => answer.text())", wanted)
    assert told.startswith("Report of Atelier") and "It failed." in told


def test_a_server_that_ends_is_told(page: Any, site: Site) -> None:
    site.jobs.submit(job_named("cat"))
    state(page, "Training")
    page.route("**/atelier/**", lambda route: route.abort())
    page.get_by_role("alert").get_by_text("does not answer").wait_for()
    page.unroute("**/atelier/**")
    page.wait_for_function("!document.querySelector('#atelier_panel [role=alert]')")


@pytest.mark.parametrize("width", [1400, 800, 400])
def test_nothing_is_wider_than_the_page(page: Any, site: Site, width: int) -> None:
    page.set_viewport_size({"width": width, "height": 900})
    job = site.jobs.submit(job_named("a_name_without_any_place_to_break_" * 2))
    site.train.step(5)
    text(page, "5 of 10")
    for step in range(30):
        site.jobs.get(job.id).record.validation(step, 0.1)
    page.get_by_role("button", name="Sample now").click()
    page.locator("#atelier_panel img").wait_for()
    assert page.evaluate("document.documentElement.scrollWidth") <= width
