"""The live panel for the keyboard and for screen readers, and that nothing on it is made anew without need."""

from __future__ import annotations

from typing import Any

import pytest

from tests.support.jobs_fakes import finished, job_named
from tests.support.panel_pages import Site, state, text

pytestmark = pytest.mark.browser

FOCUS = "() => document.activeElement.dataset.focus || document.activeElement.dataset.slot || ''"


def focus(page: Any, wanted: str) -> None:
    page.wait_for_function(f"wanted => ({FOCUS})() === wanted", arg=wanted)


def press(page: Any, button: Any, key: str = "Enter") -> None:
    button.focus()
    page.keyboard.press(key)


def test_the_focus_stays_where_it_was(page: Any, site: Site) -> None:
    first = site.jobs.submit(job_named("one"))
    state(page, "Training")
    for action, now, shown in (("pause", "resume", "Paused"), ("resume", "pause", "Training")):
        press(page, page.locator(f"#atelier_{action}"))
        state(page, shown)
        focus(page, f"{now} {first.id}")
    press(page, page.locator("#atelier_save"), "Space")
    page.locator("#atelier_try_it").wait_for()
    focus(page, f"save {first.id}")

    second, third = (site.jobs.submit(job_named(name)) for name in ("two", "three"))
    text(page, "2 waiting")
    listed = page.locator(".atelier-runs li", has_text="two")
    press(page, listed.get_by_role("button", name="Remove from queue"))
    text(page, "1 waiting")
    focus(page, f"run {second.id}")

    # The next run's Stop stands where this one's was: another Enter must not end that one, too.
    press(page, page.locator("#atelier_stop"))
    page.locator(".atelier-name", has_text="three").wait_for()
    state(page, "Training")
    focus(page, "title")
    page.keyboard.press("Enter")
    finished(site.jobs, first, second)
    assert site.jobs.running is third and not third.control.stopping


def test_a_button_that_is_at_work_is_not_pressed_again_and_keeps_the_focus(page: Any, site: Site) -> None:
    job = site.jobs.submit(job_named("cat"))
    state(page, "Training")
    asked: list[Any] = []
    page.route("**/save", lambda route: asked.append(route))
    for _ in range(3):
        press(page, page.locator("#atelier_save"))
    page.wait_for_function("document.querySelector('#atelier_save').getAttribute('aria-disabled') === 'true'")
    focus(page, f"save {job.id}")
    assert page.locator("#atelier_save").evaluate("button => getComputedStyle(button).opacity") == "0.5"
    asked[0].fulfill(status=400, json={"error": "The disk is full."})
    page.get_by_role("alert").get_by_text("The disk is full.").wait_for()
    page.wait_for_function("!document.querySelector('#atelier_panel [aria-disabled]')")
    focus(page, f"save {job.id}")
    assert len(asked) == 1


def said(page: Any, wanted: str) -> None:
    page.wait_for_function(
        "wanted => (document.querySelector('#atelier_panel > [role=status]') || {}).textContent === wanted", arg=wanted
    )


def test_changes_of_the_state_are_said(page: Any, site: Site) -> None:
    site.jobs.submit(job_named("cat"))
    site.train.until("running")
    page.reload()
    state(page, "Training")
    said(page, "")
    kept = page.evaluate_handle("document.querySelector('#atelier_panel > [role=status]')")
    site.train.step(3)
    text(page, "3 of 10")
    said(page, "")
    page.get_by_role("button", name="Pause").click()
    said(page, "cat: Paused.")
    page.get_by_role("button", name="Resume").click()
    said(page, "cat: Training.")
    site.train.finish()
    said(page, "cat: Done. Try it puts <lora:cat:1> into your prompt.")
    box = kept.evaluate("made => [made.isConnected, made.getBoundingClientRect().width]")
    assert box == [True, 1]


def test_a_hidden_page_does_not_ask_for_the_memory_line(page: Any, site: Site) -> None:
    """Asked for twice, the page looks once more when it has looked: what a look asks for has then been asked for."""
    page.evaluate("document.querySelector('#atelier_found').innerHTML = '<p class=atelier-worked-out></p>'")
    page.evaluate(
        "() => { const real = window.fetch; window.asked = 0; window.looks = 0; window.fetch = (address, more) => {"
        " window.asked += address.endsWith('/memory'); window.looks += address.endsWith('/jobs');"
        " return real(address, more); }; }"
    )
    page.evaluate("Object.defineProperty(document, 'hidden', { value: true, configurable: true })")
    page.evaluate("() => { window.looks = 0; atelier.tick(); atelier.tick(); }")
    page.wait_for_function("window.looks >= 2")
    assert page.evaluate("window.asked") == 0
    page.evaluate("Object.defineProperty(document, 'hidden', { value: false, configurable: true })")
    page.evaluate("atelier.tick()")
    page.wait_for_function("window.asked === 1")


def test_the_curve_is_read_by_arrow_keys_also_while_it_grows(page: Any, site: Site) -> None:
    site.jobs.submit(job_named("cat"))
    site.train.step(4)
    text(page, "4 of 10")
    curve = page.locator(".atelier-chart")
    assert "arrow keys" in curve.get_attribute("aria-label").lower()
    curve.focus()
    for _ in range(2):
        page.keyboard.press("ArrowLeft")
    text(page, "Step 3: loss 0.333")
    assert page.locator(".atelier-chart").get_attribute("aria-valuetext").startswith("Step 3: loss 0.333")
    site.train.step()
    text(page, "5 of 10")
    page.wait_for_function("document.activeElement.matches('.atelier-chart')")
    text(page, "Step 3: loss 0.333")
    page.keyboard.press("End")
    text(page, "Step 5: loss 0.2")


def test_figures_are_set_and_not_made_anew(page: Any, site: Site) -> None:
    site.jobs.submit(job_named("cat"))
    site.train.step(2)
    text(page, "2 of 10")
    made = page.evaluate_handle("[...document.querySelectorAll('.atelier-facts, .atelier-bar, .atelier-sentences')]")
    site.train.step()
    text(page, "3 of 10")
    assert made.evaluate("made => made.map((one) => one.isConnected)") == [True, True, True]


def test_what_goes_on_is_said_and_counted(page: Any, site: Site) -> None:
    job = site.jobs.submit(job_named("cat"))
    site.train.until("running")
    state(page, "Training")
    job.record.activity("Drawing the sample before training…", 3, 20)
    page.locator(".atelier-sentence", has_text="Drawing the sample before training…").wait_for()
    page.wait_for_function("document.querySelector('[role=progressbar]').getAttribute('aria-valuenow') === '15'")
    job.record.activity("Reading the pictures…")
    page.locator(".atelier-busy").wait_for()


def test_an_enlarged_picture_has_a_name(page: Any, site: Site) -> None:
    site.jobs.submit(job_named("cat"))
    state(page, "Training")
    page.get_by_role("button", name="Sample now").click()
    page.locator(".atelier-pictures button").click()
    page.get_by_role("dialog", name="Sample picture").wait_for()
    page.keyboard.press("Escape")
    page.locator("dialog").wait_for(state="detached")


def test_sections_of_gradio_3_are_reached_by_the_keyboard(page: Any) -> None:
    page.evaluate(
        "() => { const header = document.createElement('div'); header.className = 'label-wrap';"
        " header.textContent = 'Advanced'; header.onclick = () => header.classList.toggle('open');"
        " document.querySelector('#atelier_train').before(header); }"
    )
    page.get_by_role("button", name="Advanced", expanded=False).wait_for()
    for key, opened in (("Enter", True), ("Space", False)):
        press(page, page.get_by_role("button", name="Advanced"), key)
        page.get_by_role("button", name="Advanced", expanded=opened).wait_for()
    page.keyboard.press("Tab")
    assert page.evaluate("document.activeElement.id") == "atelier_train"
