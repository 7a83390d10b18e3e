"""The tab in the embedded WebUI as somebody meets it who has never trained anything, by clicks in a real Chromium."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from atelier.jobs.job import Job
from tests.support.jobs_fakes import finished, keep_state
from tests.support.panel_pages import WAIT, state
from tests.support.tab_pages import TabSite, field, fill, fill_form, open_section, open_tab
from tests.support.waiting import until

pytestmark = pytest.mark.browser
SMALL = {"width": 1366, "height": 660}


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[TabSite]:
    made = TabSite(tmp_path_factory.mktemp("site"))
    yield made
    made.close()


@pytest.fixture(scope="module")
def pictures(site: TabSite) -> Path:
    return site.pictures("cats")


@pytest.fixture(scope="module")
def opened(browser: Any, site: TabSite) -> Iterator[Any]:
    """One page for all tests: building it takes seconds."""
    made = browser.new_page(viewport=SMALL)
    made.set_default_timeout(WAIT)
    open_tab(made, site.address)
    yield made
    made.close()


@pytest.fixture
def page(opened: Any, site: TabSite) -> Iterator[Any]:
    wrong: list[str] = []
    opened.set_viewport_size(SMALL)
    opened.on("pageerror", lambda error: wrong.append(str(error)))
    opened.get_by_role("tab", name="Train", exact=True).click()
    yield opened
    for job in site.jobs.jobs():
        site.jobs.stop(job.id)
        finished(site.jobs, job)
    assert not wrong


def bottom(page: Any, selector: str) -> float:
    return float(page.locator(selector).evaluate("made => made.getBoundingClientRect().bottom"))


def top(page: Any, selector: str) -> float:
    return float(page.locator(selector).evaluate("made => made.getBoundingClientRect().top"))


def open_runs(page: Any) -> None:
    if not page.locator(".atelier-runs").evaluate("made => made.open"):
        page.locator(".atelier-runs > summary").click()


def train(page: Any, site: TabSite, name: str) -> Job:
    """Presses Train and waits until the page shows that run training."""
    page.locator("#atelier_train").click()
    page.locator(".atelier-name", has_text=re.compile(f"^{name}$")).wait_for()
    state(page, "Training")
    job = site.jobs.running
    assert job is not None and job.name == name
    return job


def test_one_screen(page: Any, site: TabSite, pictures: Path) -> None:
    assert bottom(page, "#atelier_train") <= SMALL["height"]
    assert page.locator("#atelier_files").is_visible()
    fill_form(page, pictures, "one_screen")
    page.locator("#atelier_files").wait_for(state="hidden")
    assert bottom(page, "#atelier_train") <= SMALL["height"]
    found = page.locator("#atelier_found details")
    assert found.evaluate("made => made.open") and page.locator("#atelier_found img").count() == 3

    train(page, site, "one_screen")
    assert not found.evaluate("made => made.open")
    assert page.locator("#atelier_found summary").is_visible()
    assert top(page, "#atelier_panel") >= 0 and bottom(page, "#atelier_state") < SMALL["height"]
    assert page.evaluate("scrollY") == 0
    page.locator("#atelier_found summary").click()
    page.locator("#atelier_found img").first.wait_for()
    site.train.step()
    page.locator("#atelier_panel", has_text="1 of 10").wait_for()
    assert found.evaluate("made => made.open")


def test_a_narrow_page_goes_to_the_run(page: Any, site: TabSite, pictures: Path) -> None:
    page.set_viewport_size({"width": 800, "height": 660})
    assert top(page, "#atelier_run_side") >= bottom(page, "#atelier_form_side")
    fill_form(page, pictures, "narrow")
    train(page, site, "narrow")
    page.wait_for_function("(top => top >= -1 && top < 330)(atelier_panel.getBoundingClientRect().top)")
    assert page.evaluate("document.documentElement.scrollWidth") <= 800


def test_the_form_comes_back(page: Any, site: TabSite, pictures: Path) -> None:
    fill_form(page, pictures, "back")
    page.get_by_label("style").check()
    open_section(page, "atelier_advanced", "atelier_group_network")
    fill(page, "network_dropout", "0.25")
    page.locator("#atelier_found summary", has_text="3 pictures").wait_for()
    kept = site.folder / "runs" / "forms" / "embedded.json"
    until(lambda: kept.is_file() and "0.25" in kept.read_text("utf-8"), "keeping the form")
    open_tab(page, site.address)
    page.locator("#atelier_found summary", has_text="3 pictures").wait_for()
    assert [field(page, key).input_value() for key in ("train_data_dir", "trigger", "output_name")] == [
        str(pictures), "zwx cat", "back",
    ]  # fmt: skip
    assert page.get_by_label("style").is_checked()
    open_section(page, "atelier_advanced", "atelier_group_network")
    assert field(page, "network_dropout").input_value() == "0.25"
    job = train(page, site, "back")
    assert job.config.settings.network_dropout == 0.25


def test_the_settings_of_a_run_come_back_into_the_form(page: Any, site: TabSite, pictures: Path) -> None:
    fill_form(page, pictures, "again")
    job = train(page, site, "again")
    site.jobs.stop(job.id)
    state(page, "Stopped")
    fill(page, "trigger", "another")
    open_runs(page)
    row = page.locator(".atelier-runs li", has_text="again").first
    row.get_by_role("button", name="Use these settings").click()
    page.locator("#atelier_message", has_text="The settings of again are in the form.").wait_for()
    assert field(page, "trigger").input_value() == "zwx cat"
    assert field(page, "train_data_dir").input_value() == str(pictures)
    train(page, site, "again")


def test_the_line_follows_the_model_and_train_says_first_what_it_trains_on(
    page: Any, site: TabSite, pictures: Path
) -> None:
    fill_form(page, pictures, "which")
    line = page.locator("#atelier_model_line")
    line.get_by_text("Trains on first.safetensors.").wait_for()
    site.host.load("second.safetensors")
    line.get_by_text("Trains on second.safetensors.").wait_for()
    page.locator("#atelier_train").click()
    page.locator("#atelier_message", has_text="The checkpoint is now second.safetensors; this form").wait_for()
    assert site.jobs.running is None
    assert train(page, site, "which").base["title"] == "second.safetensors"
    site.host.load("first.safetensors")


def test_messages_go_with_what_they_speak_of(page: Any, site: TabSite, pictures: Path) -> None:
    message = page.locator("#atelier_message [data-of]:not([hidden])")
    fill_form(page, pictures, "stale")
    fill(page, "trigger", "zwx cat")
    fill(page, "output_name", "")
    page.locator("#atelier_train").click()
    message.get_by_text("give it a name").wait_for()
    assert field(page, "output_name").get_attribute("aria-invalid") == "true"
    field(page, "output_name").fill("s")
    message.wait_for(state="detached")
    assert field(page, "output_name").get_attribute("aria-invalid") is None
    fill(page, "output_name", "stale")
    train(page, site, "stale")
    message.wait_for(state="detached")

    fill(page, "output_name", "stale2")
    page.locator("#atelier_train").click()
    message.get_by_text("stale2 is in the queue. Runs before it: 1.").wait_for()
    first, second = site.jobs.jobs()[-2:]
    site.jobs.stop(first.id)
    page.locator(".atelier-name", has_text="stale2").wait_for()
    message.wait_for(state="detached")
    assert second.name == "stale2"


def test_errors_mark_their_field_and_open_its_section(page: Any, site: TabSite, pictures: Path) -> None:
    fill(page, "output_name", "marked")
    fill(page, "trigger", "zwx")
    fill(page, "train_data_dir", str(pictures / "0.png"))
    page.locator("#atelier_found", has_text="0.png is a file. Name the folder that it is in").wait_for()
    fill(page, "train_data_dir", str(pictures))
    page.locator("#atelier_found summary").wait_for()
    open_section(page, "atelier_advanced", "atelier_group_network")
    fill(page, "network_dim", "0")
    page.locator("#atelier_group_network > button, #atelier_group_network > .label-wrap").first.click()
    page.locator("#atelier_advanced > button, #atelier_advanced > .label-wrap").first.click()
    page.locator("#atelier_train").click()
    page.locator("#atelier_message", has_text="Rank (network_dim) is").wait_for()
    page.locator("#atelier_network_dim[data-atelier-wrong]").wait_for()
    assert field(page, "network_dim").is_visible()
    assert field(page, "network_dim").get_attribute("aria-invalid") == "true"
    fill(page, "network_dim", "4")
    page.locator("#atelier_found summary").wait_for()
    page.wait_for_function("document.querySelector('#atelier_network_alpha input').value === '2'")


def test_what_happened_is_told_with_the_time(page: Any, site: TabSite, pictures: Path) -> None:
    fill_form(page, pictures, "told")
    train(page, site, "told")
    page.get_by_role("button", name="Pause").click()
    state(page, "Paused")
    page.locator("#atelier_resume").click()
    state(page, "Training")
    page.locator("#atelier_save").click()
    events = page.locator(".atelier-messages")
    for words in ("Paused", "Resumed", "Saved told"):
        line = events.locator("li", has_text=words).first
        line.wait_for(state="attached")
        assert ":" in line.locator("time").text_content()


def test_the_run_that_is_clicked_or_resumed_is_the_one_shown(page: Any, site: TabSite, pictures: Path) -> None:
    fill_form(page, pictures, "earlier")
    earlier = train(page, site, "earlier")
    keep_state(earlier.record, 1)
    page.locator("#atelier_save").click()
    page.locator("#atelier_try_it").wait_for()
    site.jobs.stop(earlier.id)
    state(page, "Stopped")
    fill(page, "output_name", "newer")
    train(page, site, "newer")
    open_runs(page)
    row = page.locator(f'.atelier-runs li:has([data-focus="run {earlier.id}"])')
    row.locator(".atelier-link").click()
    page.locator(".atelier-name", has_text="earlier").wait_for()
    page.get_by_role("button", name="Back to newer").click()
    page.locator(".atelier-name", has_text="newer").wait_for()
    row.get_by_role("button", name="Resume").click()
    page.locator(".atelier-name", has_text="earlier").wait_for()
    state(page, "In the queue")

    earlier.record.status("done", "Done.")
    row.get_by_role("button", name="Try it").click()
    page.locator("#txt2img_prompt textarea").wait_for()
    assert "<lora:earlier-step" in page.locator("#txt2img_prompt textarea").input_value()


@pytest.mark.slow
@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_axe_finds_nothing_serious(page: Any, site: TabSite, pictures: Path, scheme: str) -> None:
    """With what was found, a run, an enlarged picture and every section of Advanced open."""
    axe = pytest.importorskip("axe_playwright_python.sync_playwright").Axe()
    page.emulate_media(color_scheme=scheme)
    open_tab(page, site.address)
    fill_form(page, pictures, f"axe_{scheme}")
    train(page, site, f"axe_{scheme}")
    site.train.step()
    page.locator("#atelier_sample").click()
    page.locator("#atelier_save").click()
    page.locator(".atelier-saves").wait_for()
    page.locator("#atelier_found summary").click()
    open_runs(page)
    sections = page.evaluate(
        "async () => { const open = (id) => document.querySelector(`#${id} > button, #${id} > .label-wrap`).click();"
        " open('atelier_advanced'); open('atelier_tools');"
        " await atelier.until(() => document.querySelector('[id^=atelier_group_]'), 5000);"
        " const found = [...document.querySelectorAll('[id^=atelier_group_]')].map((made) => made.id);"
        " found.forEach(open); return found; }"
    )
    assert len(sections) > 8
    page.locator("#atelier_tools_report").wait_for(state="attached")
    found = axe.run(page, context="#atelier_tab").response["violations"]
    serious = [
        f"{fault['id']}: {fault['help']}: {node['html'][:160]}"
        for fault in found
        if fault["impact"] in ("serious", "critical")
        for node in fault["nodes"]
    ]
    assert not serious, "\n".join(serious)
