"""The whole journey in a real Chromium: pictures in, trained while pictures are drawn, tried at once."""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

pytestmark = [pytest.mark.browser, pytest.mark.slow]
playwright = pytest.importorskip("playwright.sync_api")

FLAGS = [
    "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-background-networking",
    "--disable-component-update", "--disable-sync",
]  # fmt: skip
STEPS = 200
WAIT = 240_000
"""Milliseconds: the longest that any one thing may take on a busy machine."""


def chromium() -> str:
    found = next((path for name in ("chromium", "google-chrome", "chrome") if (path := shutil.which(name))), None)
    if found is None:
        pytest.skip("there is no Chromium on this machine")
    return found


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("data")


@pytest.fixture(scope="module")
def address(root: Path, data: Path) -> Iterator[str]:
    """A running embedded WebUI with the demo base, on a port of the system's choice."""
    if not (root / "assets" / "demo" / "base" / "unet").is_dir():
        pytest.skip("the demo base is not there")
    process = subprocess.Popen(
        [sys.executable, "-m", "atelier.cli", "serve", "--data-dir", str(data), "--port", "0", "--device", "cpu"],
        cwd=root / "lib", stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
    )  # fmt: skip
    assert process.stdout is not None
    said = []
    for line in process.stdout:
        said.append(line)
        if found := re.search(r"http://127\.0\.0\.1:\d+", line):
            yield found.group()
            break
    else:
        pytest.fail("the WebUI did not start:\n" + "".join(said))
    process.terminate()
    try:
        process.wait(60)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()


@pytest.fixture(scope="module")
def page(address: str) -> Iterator[Any]:
    with playwright.sync_playwright() as player:
        browser = player.chromium.launch(executable_path=chromium(), args=FLAGS)
        page = browser.new_page(viewport={"width": 1400, "height": 1000})
        page.set_default_timeout(WAIT)
        page.goto(address)
        yield page
        browser.close()


def open_tab(page: Any, name: str) -> None:
    page.get_by_role("tab", name=name, exact=True).click()


def generate(page: Any, data: Path, prompt: str) -> Image.Image:
    """Draws with seed 7 through the page and gives the picture that was saved."""
    open_tab(page, "txt2img")
    before = set((data / "outputs").rglob("*.png"))
    page.locator("#txt2img_prompt textarea").fill(prompt)
    page.locator("#txt2img_seed input").fill("7")
    with page.expect_response(lambda response: "queue/data" in response.url or "/queue/join" in response.url):
        page.locator("#txt2img_generate").click()
    page.wait_for_function("document.querySelectorAll('#txt2img_gallery img').length > 0")
    new: set[Path] = set()
    for _ in range(600):
        new = set((data / "outputs").rglob("*.png")) - before
        if new:
            break
        page.wait_for_timeout(200)
    assert len(new) == 1
    with Image.open(new.pop()) as picture:
        return picture.convert("RGB").copy()


def bits(picture: Image.Image) -> bytes:
    return np.asarray(picture).tobytes()


def state(page: Any) -> str:
    return str(page.locator("#atelier_state").inner_text())


def points_in_curve(page: Any) -> int:
    return int(
        page.evaluate(
            "() => { const line = document.querySelector('#atelier_panel svg polyline');"
            " return line ? line.getAttribute('points').trim().split(/\\s+/).length : 0; }"
        )
    )


def test_the_journey(page: Any, address: str, data: Path, root: Path) -> None:
    from atelier.demo.measure import subject_similarity

    subject = sorted((root / "assets" / "demo" / "subject").glob("*.png"))
    known_before = generate(page, data, "a red circle")

    # Pictures, trigger word, name, Train.
    open_tab(page, "Train")
    captions = [path.with_suffix(".txt") for path in subject]
    page.locator("#atelier_files input[type=file]").set_input_files([*subject, *captions])
    page.locator("#atelier_trigger input, #atelier_trigger textarea").first.fill("zwx")
    page.get_by_label("object").check()
    page.locator("#atelier_output_name input, #atelier_output_name textarea").first.fill("journey")
    page.locator("#atelier_output_name input, #atelier_output_name textarea").first.blur()
    page.locator("#atelier_found").get_by_text(re.compile("7 of 7 captioned|7 pictures")).first.wait_for()
    page.locator("#atelier_found").get_by_text(re.compile("This needs about .* beside the loaded model")).wait_for()
    page.locator("#atelier_advanced > button, #atelier_advanced .label-wrap").first.click()
    wanted = (
        ("Learning", "max_train_steps", STEPS),
        ("", "learning_rate", 4e-3),
        ("Saving", "save_every_n_steps", 30),
        ("Samples", "sample_every_n_steps", 40),
    )
    for group, key, value in wanted:
        if group:
            page.locator("#atelier_advanced").get_by_role("button", name=re.compile(f"^{group}")).first.click()
        field = page.locator(f"#atelier_{key} input").first
        if key == "max_train_steps":  # what the choice of an object filled in has come
            page.wait_for_function("(document.querySelector('#atelier_max_train_steps input') || {}).value === '300'")
        field.fill(str(value))
        field.blur()
    page.locator("#atelier_train").click()

    # It trains, and the curve moves.
    page.wait_for_function("(document.querySelector('#atelier_state') || {}).textContent === 'Training'")
    page.wait_for_function("document.querySelector('#atelier_panel svg polyline')")
    first = points_in_curve(page)
    page.wait_for_function(
        "count => { const line = document.querySelector('#atelier_panel svg polyline');"
        " return line && line.getAttribute('points').trim().split(/\\s+/).length > count; }",
        arg=first,
    )

    # A picture while it trains has the same bits as one without training.
    known_during = generate(page, data, "a red circle")
    open_tab(page, "Train")
    assert state(page) in ("Training", "Done")
    assert bits(known_during) == bits(known_before)

    # The first save is in the list of LoRAs without a reload.
    open_tab(page, "txt2img")
    page.locator("#txt2img_lora_cards .card", has_text="journey").first.wait_for()

    # Reloading the page in the middle loses nothing.
    page.goto(address)
    open_tab(page, "Train")
    page.wait_for_function(
        "['Training', 'Done'].includes((document.querySelector('#atelier_state') || {}).textContent)"
    )
    page.wait_for_function("(document.querySelector('#atelier_state') || {}).textContent === 'Done'", timeout=600_000)
    assert page.locator("#atelier_panel img").count() >= 1

    # Try it puts the newest save and the trigger word into the prompt and goes there.
    page.get_by_role("button", name="Try it").first.click()
    box = page.locator("#txt2img_prompt textarea")
    box.wait_for(state="visible")
    prompt = box.input_value()
    assert "<lora:journey:1>" in prompt and "zwx" in prompt
    pictures = []
    for path in subject:
        with Image.open(path) as opened:
            pictures.append(opened.convert("RGB").copy())
    without = generate(page, data, "a zwx badge")
    learnt = generate(page, data, "a zwx badge <lora:journey:1>")
    assert subject_similarity(learnt, pictures) > subject_similarity(without, pictures) + 0.1
