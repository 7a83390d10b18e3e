"""Per cent in the page's title, and the browser's notifications, in a real Chromium with a steered trainer."""

from __future__ import annotations

from typing import Any

import pytest

from tests.support.jobs_fakes import finished, job_named
from tests.support.panel_pages import Site, state, text

pytestmark = pytest.mark.browser

STAND_IN = """permission => {
    window.told = [];
    window.asked = 0;
    window.Notification = class {
        static permission = permission;
        static async requestPermission() {
            window.asked += 1;
            window.Notification.permission = window.answer || "granted";
            return window.Notification.permission;
        }
        constructor(title, { body, tag }) { window.told.push([title, body, tag]); }
        close() {}
    };
}"""
"""Takes the place of the browser's notifications, which a test cannot see."""


def title(page: Any, wanted: str) -> None:
    page.wait_for_function("wanted => document.title === wanted", arg=wanted)


def test_the_title_counts_and_is_put_back(page: Any, site: Site) -> None:
    host = page.title()
    assert host == "a WebUI"
    job = site.jobs.submit(job_named("cat"))
    site.train.step(4)
    title(page, f"40% · {host}")
    page.get_by_role("button", name="Pause").click()
    title(page, host)
    page.get_by_role("button", name="Resume").click()
    title(page, f"40% · {host}")
    page.evaluate("document.title = '[12%] a WebUI'")
    title(page, "40% · [12%] a WebUI")
    page.evaluate("document.title = 'a WebUI'")
    title(page, f"40% · {host}")

    page.route("**/atelier/**", lambda route: route.abort())
    title(page, host)
    page.unroute("**/atelier/**")
    title(page, f"40% · {host}")
    left = "() => { window.dispatchEvent(new PageTransitionEvent('pagehide')); return document.title; }"
    assert page.evaluate(left) == host
    title(page, f"40% · {host}")
    site.jobs.stop(job.id)
    finished(site.jobs, job)
    title(page, host)


def test_nothing_is_asked_or_told_until_the_switch_is_pressed(page: Any, site: Site) -> None:
    page.evaluate(STAND_IN, "default")
    first = site.jobs.submit(job_named("cat"))
    state(page, "Training")
    switch = page.get_by_role("switch", name="Tell me when it is done")
    assert not switch.is_checked()
    site.jobs.stop(first.id)
    finished(site.jobs, first)
    state(page, "Stopped")
    second = site.jobs.submit(job_named("dog"))
    state(page, "Training")
    assert page.evaluate("[asked, told.length]") == [0, 0]

    switch.focus()
    page.keyboard.press("Space")
    page.wait_for_function("asked === 1")
    page.wait_for_function("document.querySelector('#atelier_tell').checked")
    site.jobs.stop(second.id)
    finished(site.jobs, second)
    state(page, "Stopped")
    assert page.evaluate("told.length") == 0
    second.record.status("waiting", "The model of this run is not loaded.")
    page.wait_for_function("told.length === 1")
    second.record.status("done", "Done. It is saved.")
    page.wait_for_function("told.length === 2")
    waiting, done = page.evaluate("told")
    assert waiting[0] == "Atelier" and waiting[1].startswith("dog: Waiting. ")
    assert waiting[2] == f"atelier {second.id} waiting"
    assert done[1].startswith("dog: Done. ") and done[2] == f"atelier {second.id} done"
    assert page.evaluate("document.activeElement.id") == "atelier_tell"

    page.keyboard.press("Space")
    third = site.jobs.submit(job_named("bird"))
    page.locator(".atelier-name", has_text="bird").wait_for()
    site.jobs.stop(third.id)
    finished(site.jobs, third)
    third.record.status("failed", "Out of memory.")
    state(page, "Failed")
    assert page.evaluate("[asked, told.length]") == [1, 2]


def test_a_browser_that_refuses_is_told_of(page: Any, site: Site) -> None:
    page.evaluate(STAND_IN, "denied")
    site.jobs.submit(job_named("cat"))
    state(page, "Training")
    page.get_by_role("switch", name="Tell me when it is done").click()
    text(page, "Notifications of this page are turned off in the browser's settings.")
    assert not page.locator("#atelier_tell").is_checked()
    assert page.evaluate("asked") == 0
