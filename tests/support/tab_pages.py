"""The embedded WebUI with the training tab in a real Chromium, a tiny model, and a trainer that the test steers."""

from __future__ import annotations

import threading
from pathlib import Path
from typing import Any

import torch
import uvicorn
from PIL import Image

from atelier.hosts.embedded.host import EmbeddedHost
from atelier.hosts.embedded.server import PageServer, listening_socket, make_app
from atelier.jobs.queue import Jobs
from atelier.models.checkpoints.save import save_checkpoint
from atelier.ui.server.routes import register
from atelier.ui.tab.tab import build
from tests.support.jobs_fakes import PATIENCE, Steered
from tests.support.models_tiny import tiny_parts


class DescribingHost(EmbeddedHost):
    """With a captioner, as other WebUIs have them."""

    def captioners(self) -> tuple[str, ...]:
        return ("BLIP", "DeepBooru")

    def caption(self, picture: Image.Image, captioner: str) -> str:
        return f"a picture of {picture.width} pixels"


class KnownMemory:
    """Says at once how much memory a run needs; the real prediction is tested elsewhere."""

    newest = "This needs about 1 GB beside the loaded model."

    def about(self, *_: object) -> str:
        return self.newest


class TabSite:
    """The page on a port of the system's choice. `train` is steered; `host` has the checkpoints first and second."""

    def __init__(self, folder: Path) -> None:
        (folder / "models").mkdir(parents=True)
        for number, name in enumerate(("first", "second")):
            save_checkpoint(folder / "models" / f"{name}.safetensors", tiny_parts("sd1", number), dtype=torch.float32)
        self.folder = folder
        self.host = DescribingHost(folder, "first.safetensors", device="cpu", demo_base=None)
        self.train = Steered()
        self.jobs = Jobs(self.host, self.train)
        self.jobs.for_page["memory line"] = KnownMemory()
        tabs = [("Train", "atelier", lambda: build(self.jobs, self.host))]
        app = make_app(self.host, tabs, lambda app: register(app, self.jobs, self.host))
        self.server = PageServer(uvicorn.Config(app, log_level="error"))
        ready = threading.Event()
        self.server.when_ready = ready.set
        listener = listening_socket("127.0.0.1", 0)
        self.thread = threading.Thread(target=lambda: self.server.run(sockets=[listener]), daemon=True)
        self.thread.start()
        assert ready.wait(60)
        self.address = f"http://127.0.0.1:{listener.getsockname()[1]}"

    def close(self) -> None:
        self.train.finish()
        self.jobs.close(PATIENCE)
        self.server.should_exit = True
        self.thread.join(PATIENCE)

    def pictures(self, name: str, side: int = 96, captioned: bool = True) -> Path:
        """A folder of three pictures. The demo model is made for pictures of 64 pixels."""
        folder = self.folder / name
        folder.mkdir()
        for number in range(3):
            Image.new("RGB", (side, side + 8 * number), (80 * number, 90, 40)).save(folder / f"{number}.png")
            if captioned:
                (folder / f"{number}.txt").write_text("a thing", encoding="utf-8")
        return folder


def open_tab(page: Any, address: str) -> None:
    """Loads the page, opens the training tab, and waits for the form of before."""
    page.goto(address)
    page.get_by_role("tab", name="Train", exact=True).click()
    page.wait_for_selector("#atelier_train")
    page.wait_for_selector("#atelier_tab[data-form=there]")


def field(page: Any, key: str) -> Any:
    """The box of a setting's control."""
    return page.locator(f"#atelier_{key} input, #atelier_{key} textarea").first


def fill(page: Any, key: str, text: str) -> None:
    box = field(page, key)
    box.fill(text)
    box.blur()


def fill_form(page: Any, folder: Path, name: str) -> None:
    """A whole form; returns when the pictures were found."""
    fill(page, "trigger", "zwx cat")
    fill(page, "output_name", name)
    fill(page, "train_data_dir", str(folder))
    page.locator("#atelier_found summary").wait_for()


def open_section(page: Any, *ids: str) -> None:
    """Opens accordions that are closed, outermost first."""
    for name in ids:
        header = page.locator(f"#{name} > .label-wrap, #{name} > button").first
        if "open" not in (header.get_attribute("class") or "").split():
            header.click()
