"""The live panel in a real Chromium, fed by the real routes and a trainer that the test steers."""

from __future__ import annotations

from typing import Any

import pytest

from tests.support.jobs_fakes import finished, job_named, keep_state
from tests.support.panel_pages import Site, state, text

pytestmark = pytest.mark.browser


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
    page.evaluate("atelier.tryIt({ name: 'cat' }, 'zwx cat', 'cat')")
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


# -- a checkpoint of the whole model -----------------------------------------------------------------------------------


def saved_checkpoint(site: Site, trigger: str, **settings: Any) -> None:
    """A run that saved a checkpoint and is done."""
    job = site.jobs.submit(job_named("cat", trigger=trigger, **settings))
    site.train.until("running")
    job.record.saved(site.host.folders.checkpoints / "cat.safetensors", 10, 1, "final")
    site.jobs.stop(job.id)
    finished(site.jobs, job)
    job.record.status("done", "Done.")


def test_a_checkpoint_is_chosen_and_not_called_by_the_prompt(page: Any, site: Site) -> None:
    page.evaluate("() => { document.body.insertAdjacentHTML('beforeend', '<button id=refresh_sd_model_checkpoint>'); }")
    page.evaluate("refresh_sd_model_checkpoint.onclick = () => { window.listed = (window.listed || 0) + 1; }")
    page.evaluate("window.selectCheckpoint = (name) => { window.loaded = name; }")
    job = site.jobs.submit(job_named("dog", train_whole_model=True))
    state(page, "Training")
    assert page.get_by_role("button", name="Save now").get_attribute("title").startswith("Saves the checkpoint as")
    assert "with the checkpoint" in page.get_by_role("button", name="Sample now").get_attribute("title")
    text(page, "drawn with the checkpoint so far")
    site.jobs.stop(job.id)
    finished(site.jobs, job)

    saved_checkpoint(site, "zwx cat")
    text(page, r"Done\. Try it chooses the checkpoint cat and puts zwx cat into your prompt\.")
    for button in (page.locator("#atelier_try_it"), page.locator(".atelier-saves button")):
        help_text = button.get_attribute("title")
        assert help_text.startswith("Chooses the checkpoint cat in the WebUI, puts zwx cat into"), help_text
        assert "lora" not in help_text
    page.locator("#atelier_try_it").click()
    assert page.locator("#txt2img_prompt textarea").input_value() == "a garden, zwx cat"
    assert page.evaluate("[window.tab, window.loaded, window.listed >= 1]") == ["txt2img", "cat", True]
    assert page.evaluate("window.refreshed") is None


def test_a_checkpoint_without_a_trigger(page: Any, site: Site) -> None:
    """Also of a record that does not say what it trains, as those of 0.1.0."""
    saved_checkpoint(site, "")
    text(page, "Try it chooses the checkpoint cat and goes to your prompt")
    assert page.locator("#atelier_try_it").get_attribute("title").endswith("in the WebUI and goes to the prompt")
    page.locator(".atelier-saves button").click()
    assert page.locator("#txt2img_prompt textarea").input_value() == "a garden"
    page.get_by_role("alert").get_by_text("Choose the checkpoint cat in the WebUI's list").wait_for()
    page.evaluate("document.querySelector('#txt2img_prompt').remove()")
    page.locator("#atelier_try_it").click()
    page.get_by_role("alert").get_by_text("The prompt field was not found.", exact=True).wait_for()


def test_try_it_opens_the_tab_that_draws(page: Any, site: Site) -> None:
    page.evaluate(
        "() => { document.body.insertAdjacentHTML('beforeend', '<div id=txt2img_extra_tabs><div class=tab-nav>"
        "<button onclick=\\'window.inner = 1\\'>Generation</button>"
        "<button onclick=\\'window.inner = 2\\'>Lora</button></div></div>'); }"
    )
    page.evaluate("atelier.tryIt({ name: 'cat' }, 'zwx cat', 'cat')")
    assert page.evaluate("[window.tab, window.inner]") == ["txt2img", 1]


# -- the list of runs --------------------------------------------------------------------------------------------------


def test_rows_try_and_delete_runs_and_say_what_they_take(page: Any, site: Site) -> None:
    latents = site.host.folders.cache / "latents"
    latents.mkdir(parents=True)
    (latents / "one").write_bytes(bytes(3 << 20))
    first, second = (site.jobs.submit(job_named(name)) for name in ("cat", "dog"))
    site.train.finish()
    finished(site.jobs, first, second)
    page.locator(".atelier-runs > summary").click()
    page.locator(".atelier-disk", has_text="All runs take").wait_for()
    row = page.locator(".atelier-runs li", has_text="cat")
    assert " KB" in row.inner_text()
    row.get_by_role("button", name="Try it").click()
    assert page.locator("#txt2img_prompt textarea").input_value() == "a garden, zwx <lora:cat:1>"

    page.once("dialog", lambda dialog: dialog.dismiss())
    row.get_by_role("button", name="Delete run").click()
    page.once("dialog", lambda dialog: dialog.accept())
    row.get_by_role("button", name="Delete run").click()
    row.wait_for(state="detached")
    assert [job.name for job in site.jobs.jobs()] == ["dog"]
    assert (site.host.folders.lora / "cat.safetensors").is_file()
    page.locator(".atelier-disk", has_text="Prepared pictures: 3 MB").get_by_role("button", name="Clear").click()
    page.wait_for_function("!document.querySelector('.atelier-disk').textContent.includes('Prepared pictures')")
    assert not list(latents.glob("*"))


def test_a_schedule_that_is_at_its_end_is_no_figure(page: Any) -> None:
    words = (
        "step => atelier.views.figures({state: 'running', actions: []}, {step, total: 10, epoch: 1, epochs: 1},"
        " {unet: 0}).map(([word]) => word)"
    )
    assert "rate" in page.evaluate(words, 9) and "rate" not in page.evaluate(words, 10)
