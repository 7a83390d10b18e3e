"""The embedded host's page in Chromium: drawing, the LoRA list, checkpoints, and that it fetches nothing elsewhere."""

from __future__ import annotations

import io
import shutil
import threading
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import torch
import uvicorn
from PIL import Image

from atelier.adapters.files.kohya_file import save_lora
from atelier.hosts.embedded.host import EmbeddedHost
from atelier.hosts.embedded.server import PageServer, listening_socket, make_app
from atelier.jobs.queue import Jobs
from atelier.models.checkpoints.save import save_checkpoint
from atelier.ui.server.routes import register
from atelier.ui.tab.tab import build
from tests.support.models_tiny import tiny_parts
from tests.support.waiting import until

playwright = pytest.importorskip("playwright.sync_api")
FLAGS = [
    "--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run",
    "--disable-background-networking", "--disable-component-update", "--disable-sync",
]  # fmt: skip
PATIENCE = 60_000
"""Milliseconds until a test gives up on the page."""

pytestmark = pytest.mark.browser


@pytest.fixture(scope="module")
def host(tmp_path_factory: pytest.TempPathFactory) -> EmbeddedHost:
    root = tmp_path_factory.mktemp("data")
    (root / "models").mkdir()
    for number, name in enumerate(("first", "second")):
        save_checkpoint(root / "models" / f"{name}.safetensors", tiny_parts("sd1", number), dtype=torch.float32)
    return EmbeddedHost(root, "first.safetensors", device="cpu", demo_base=None)


@pytest.fixture(scope="module")
def address(host: EmbeddedHost) -> Iterator[str]:
    jobs = Jobs(host, lambda *_: None)
    app = make_app(host, [("Train", "atelier", lambda: build(jobs, host))], lambda app: register(app, jobs, host))
    server = PageServer(uvicorn.Config(app, log_level="error"))
    ready = threading.Event()
    server.when_ready = ready.set
    listener = listening_socket("127.0.0.1", 0)
    thread = threading.Thread(target=lambda: server.run(sockets=[listener]), daemon=True)
    thread.start()
    assert ready.wait(60)
    yield f"http://127.0.0.1:{listener.getsockname()[1]}"
    server.should_exit = True
    thread.join(30)
    jobs.close(timeout=30)


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    found = next((path for name in ("chromium", "google-chrome", "chrome") if (path := shutil.which(name))), None)
    if found is None:
        pytest.skip("no Chromium on this machine")
    with playwright.sync_playwright() as player:
        running = player.chromium.launch(executable_path=found, args=FLAGS)
        yield running
        running.close()


class Watched:
    """A page that remembers what it asked for and complained about."""

    def __init__(self, browser: Any, address: str, width: int = 1400, scheme: str = "light") -> None:
        self.address = address
        self.page = browser.new_page(viewport={"width": width, "height": 900}, color_scheme=scheme)
        self.page.set_default_timeout(PATIENCE)
        self.asked: list[str] = []
        self.complaints: list[str] = []
        self.page.on("request", lambda request: self.asked.append(request.url))
        self.page.on("pageerror", lambda error: self.complaints.append(str(error)))
        self.page.on("console", lambda line: self.complaints.append(line.text) if line.type == "error" else None)
        self.page.goto(address)
        self.page.wait_for_selector("#txt2img_lora_cards > *", state="attached")

    def generate(self, prompt: str) -> bytes:
        """Draws with 2 steps and gives the picture's pixels."""
        page = self.page
        page.fill("#txt2img_prompt textarea", prompt)
        page.fill("#txt2img_steps input[type=number]", "2")
        page.fill("#txt2img_seed input", "7")
        before = page.inner_text("#txt2img_html_info")
        page.click("#txt2img_generate")
        page.wait_for_function(
            "([before, prompt]) => { const text = document.querySelector('#txt2img_html_info').innerText;"
            " return text !== before && text.startsWith(prompt); }",
            arg=[before, prompt],
        )
        return self.picture()

    def picture(self) -> bytes:
        source = self.page.get_attribute("#txt2img_gallery img", "src")
        body = self.page.request.get(source).body()
        with Image.open(io.BytesIO(body)) as image:
            return image.convert("RGB").tobytes()


@pytest.fixture
def watched(browser: Any, address: str) -> Iterator[Watched]:
    made = Watched(browser, address)
    yield made
    made.page.close()


def make_lora(host: EmbeddedHost, name: str) -> Path:
    assert host.current is not None
    layer = "lora_unet_mid_block_attentions_0_transformer_blocks_0_attn1_to_out_0"
    width = host.current.parts.denoiser.mid_block.attentions[0].transformer_blocks[0].attn1.to_out[0].in_features
    down, up = torch.ones(1, width), torch.ones(width, 1)
    tensors = {f"{layer}.lora_down.weight": down, f"{layer}.lora_up.weight": up, f"{layer}.alpha": torch.tensor(1.0)}
    return save_lora(host.folders.lora / f"{name}.safetensors", tensors, {}, overwrite=True)


def test_the_journey_of_a_lora_through_the_list(watched: Watched, host: EmbeddedHost) -> None:
    page = watched.page
    page.fill("#txt2img_width input[type=number]", "64")
    page.fill("#txt2img_height input[type=number]", "64")
    plain = watched.generate("a red circle")
    path = make_lora(host, "badge")
    path.with_suffix(".json").write_text('{"activation text": "zwx", "preferred weight": 0.9}', encoding="utf-8")
    Image.new("RGB", (32, 32), "orange").save(path.with_suffix(".png"))
    page.click("#txt2img_lora_extra_refresh")
    card = page.locator("#txt2img_lora_cards .card", has_text="badge")
    card.wait_for()
    assert card.locator("img").evaluate("image => image.decode().then(() => image.naturalWidth)") == 32
    card.focus()
    page.keyboard.press("Enter")
    prompt = page.input_value("#txt2img_prompt textarea")
    assert prompt == "a red circle, zwx <lora:badge:0.9>"
    worn = watched.generate(prompt)
    assert worn != plain
    with Image.open(sorted(host.folders.outputs.rglob("*.png"))[-1]) as saved:
        text = saved.text["parameters"]  # type: ignore[attr-defined]
        assert saved.convert("RGB").tobytes() == worn
    assert text.startswith(prompt) and "Seed: 7" in text and 'Lora hashes: "badge: ' in text
    card.click()
    assert page.input_value("#txt2img_prompt textarea") == "a red circle"
    assert watched.generate("a red circle") == plain
    assert watched.complaints == []


def test_a_lora_that_is_not_there_is_said_on_the_page(watched: Watched) -> None:
    page = watched.page
    page.fill("#txt2img_prompt textarea", "<lora:absent:1>")
    page.press("#txt2img_prompt textarea", "Control+Enter")
    page.wait_for_selector("#txt2img_html_info [role=alert]")
    assert "There is no LoRA named 'absent'" in page.inner_text("#txt2img_html_info")


def has_loaded(host: EmbeddedHost, title: str) -> bool:
    return host.current is not None and host.current.title == title


def test_the_checkpoint_is_switched_from_the_list(watched: Watched, host: EmbeddedHost) -> None:
    page = watched.page
    for name in ("second", "first"):
        page.click("#setting_sd_model_checkpoint input")
        page.get_by_role("option", name=f"{name}.safetensors").click()
        page.wait_for_function(
            "name => document.querySelector('#setting_sd_model_checkpoint input').value === name",
            arg=f"{name}.safetensors",
        )
        until(partial(has_loaded, host, f"{name}.safetensors"), f"loading {name}")


def test_a_script_chooses_the_checkpoint_by_its_files_name(watched: Watched, host: EmbeddedHost) -> None:
    """As in other WebUIs. Try it of a run that made a checkpoint does."""
    for name in ("second", "first"):
        watched.page.evaluate(f"selectCheckpoint('{name}')")
        watched.page.wait_for_function(
            "name => document.querySelector('#setting_sd_model_checkpoint input').value === name",
            arg=f"{name}.safetensors",
        )
        assert has_loaded(host, f"{name}.safetensors")
    assert watched.complaints == []


@pytest.mark.parametrize("width", [1400, 800])
@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_it_fits_the_window_and_fetches_nothing_from_elsewhere(
    browser: Any, address: str, width: int, scheme: str
) -> None:
    watched = Watched(browser, address, width, scheme)
    page = watched.page
    for tab in ("txt2img", "Train"):
        page.get_by_role("tab", name=tab).click()
        page.wait_for_selector("#atelier_train" if tab == "Train" else "#txt2img_generate")
        assert page.evaluate("document.documentElement.scrollWidth") <= width
    assert [url for url in watched.asked if not url.startswith((address, "data:", "blob:"))] == []
    assert watched.complaints == []
    page.close()


def test_only_its_own_files_are_served(address: str, watched: Watched) -> None:
    get = watched.page.request.get
    assert get(f"{address}/atelier-host/lora-preview?name=../models/first").status == 404
    assert get(f"{address}/atelier-host/lora-preview?name=absent").status == 404
    assert "gradioApp" in get(f"{address}/atelier-host/page.js").text()
