"""In a running WebUI, as a person does it: pictures in, trained, found in the list of LoRAs, tried at once."""

from __future__ import annotations

import json
import re
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.webui.hosts import WebUI, wait
from tests.webui.page import TAB, fill, open_page, open_tab, points, reload_page, state

pytestmark = [pytest.mark.webui, pytest.mark.browser]


@pytest.fixture(scope="module")
def page(webui: WebUI) -> Iterator[Any]:
    with open_page(webui) as page:
        yield page


@pytest.fixture(scope="module")
def name() -> str:
    return "p" + uuid.uuid4().hex[:6]


def has_text(page: Any, text: str) -> None:
    page.wait_for_function(
        "text => ((document.querySelector('#atelier_state') || {}).textContent || '') === text", arg=text
    )


def card(webui: WebUI, page: Any, tab: str, name: str) -> Any:
    cards = webui.kind.lora_cards.format(tab=tab)
    return page.locator(f"{cards}[data-name='{name}'], {cards}:has(:text-is('{name}'))").first


COUNT = """() => {
    window.presses = 0;
    for (const name of ["refreshLoras", "refreshCheckpoints"]) {
        const usual = atelier[name];
        atelier[name] = () => { window.presses += 1; return usual(); };
    }
}"""


def test_an_idle_page_presses_no_button(page: Any) -> None:
    """The WebUI's lists are renewed for new files only, not again and again."""
    page.evaluate(COUNT)
    for _ in range(5):
        with page.expect_response(lambda answer: answer.url.endswith("/atelier/v1/jobs")):
            pass
    assert page.evaluate("window.presses") == 0


def test_the_journey(webui: WebUI, page: Any, pictures: Path, name: str) -> None:
    open_tab(page, TAB)
    fill(page, "train_data_dir", str(pictures))
    fill(page, "trigger", "zwx")
    fill(page, "output_name", name)
    page.locator("#atelier_found").get_by_text(re.compile("7 ")).first.wait_for()
    advanced = page.locator("#atelier_advanced")
    advanced.locator(".label-wrap").first.click()
    for group, values in (
        ("Pictures", {"resolution": "64,64"}),
        ("Learning", {"max_train_steps": "12"}),
        ("Saving", {"save_every_n_steps": "4"}),
        ("Samples", {"sample_every_n_steps": "6"}),
    ):
        advanced.locator(".label-wrap").get_by_text(re.compile(f"^{group}")).first.click()
        for key, value in values.items():
            fill(page, key, value)
    page.locator("#atelier_train").click()

    has_text(page, "Training")
    wait(lambda: points(page) > 0, "the first point of the curve")
    first = points(page)
    wait(lambda: points(page) > first, "the curve to move")
    assert state(page) in ("Training", "Done")

    # At the first save the card is in both lists, without a reload.
    for tab in ("txt2img", "img2img"):
        card(webui, page, tab, f"{name}-step00000004").wait_for(state="attached")
    has_text(page, "Done")
    for tab in ("txt2img", "img2img"):
        card(webui, page, tab, name).wait_for(state="attached")
    assert page.locator("#atelier_panel img").count() >= 1
    sidecar = json.loads((webui.loras / f"{name}.json").read_text(encoding="utf-8"))
    assert sidecar["activation text"] == "zwx"
    assert (webui.loras / f"{name}.png").exists()


def test_the_card_writes_the_trigger(webui: WebUI, page: Any, name: str) -> None:
    open_tab(page, webui.kind.txt2img)
    page.locator("#txt2img_prompt textarea").first.fill("a red circle")
    page.locator("#txt2img_extra_tabs .tab-nav button").get_by_text("Lora", exact=True).click()
    shown = card(webui, page, "txt2img", name)
    shown.wait_for()
    assert re.search(r"url\(|<img|preview", shown.inner_html())
    shown.click(position={"x": 20, "y": 60})
    if not webui.kind.card_writes_trigger:
        shown.locator(".tag").get_by_text("zwx", exact=True).click()
    written = page.locator("#txt2img_prompt textarea").first.input_value()
    assert re.search(rf"<lora:{name}:1(\.0)?>", written) and "zwx" in written
    page.locator("#txt2img_prompt textarea").first.fill("")
    page.locator("#txt2img_extra_tabs .tab-nav button").first.click()


def test_try_it(webui: WebUI, page: Any, name: str) -> None:
    open_tab(page, TAB)
    page.locator("#atelier_try_it").click()
    box = page.locator("#txt2img_prompt textarea").first
    box.wait_for(state="visible")
    assert f"<lora:{name}:1>" in box.input_value() and "zwx" in box.input_value()
    for key, value in (("steps", "2"), ("width", "64"), ("height", "64")):
        field = page.locator(f"#txt2img_{key} input[type=number]").first
        field.fill(value)
        field.blur()
    page.locator("#txt2img_generate").click()
    page.locator("#txt2img_gallery img").first.wait_for()
    said = page.locator("#html_info_txt2img").first
    said.get_by_text(re.compile(name)).first.wait_for(state="attached")


def test_reload_ui_keeps_the_run(webui: WebUI, page: Any, pictures: Path, name: str) -> None:
    if webui.kind.reload_ends_process:
        pytest.skip("this WebUI has no Reload UI: its button starts it again, which the next test is about")
    run = webui.train(f"{name}long", pictures, max_train_steps=2000)
    step = webui.until(run, "running", 1)["step"]
    reload_page(page, webui)
    job = webui.until(run, "running", step)
    open_tab(page, TAB)
    has_text(page, "Training")
    webui.until(run, "running", job["step"] + 1)
    webui.press(run, "stop")
    has_text(page, "Stopped")


def test_a_restarted_server_goes_on_with_the_run(webui: WebUI, page: Any, pictures: Path, name: str) -> None:
    if not webui.kind.reload_ends_process:
        pytest.skip("this WebUI's button builds the page anew and goes on: the test before is about that")
    run = webui.train(f"{name}again", pictures, max_train_steps=60)
    step = webui.until(run, "running", 3)["step"]
    reload_page(page, webui)
    job = webui.job(run)
    assert job["state"] == "interrupted" and job["resumable"] and job["step"] >= step, job
    assert f"go on from step {job['step']}" in job["message"]
    open_tab(page, TAB)
    has_text(page, "Interrupted")
    page.locator("#atelier_resume").click()
    has_text(page, "Training")
    wait(lambda: webui.job(run)["step"] > job["step"], "a step after those that were kept")
    has_text(page, "Done")
    assert (webui.loras / f"{name}again.safetensors").exists()


def test_a_wrong_folder_is_one_sentence(page: Any, name: str) -> None:
    open_tab(page, TAB)
    fill(page, "train_data_dir", "/no/such/folder")
    fill(page, "output_name", f"{name}wrong")
    page.locator("#atelier_train").click()
    page.locator("#atelier_message .atelier-error").get_by_text("There is no folder /no/such/folder").wait_for()
