"""The page of a running WebUI in Chromium."""

from __future__ import annotations

import re
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest

from tests.webui.hosts import WebUI, wait

TAB = "Train LoRA"
"""The title of our tab."""
PATIENCE = 300.0
"""Seconds that a click may take on a busy machine."""
FLAGS = [
    "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-background-networking",
    "--disable-component-update", "--disable-sync",
]  # fmt: skip


@contextmanager
def open_page(webui: WebUI, width: int = 1400, query: str = "") -> Iterator[Any]:
    """A page of the WebUI with its tabs built. Skips without a browser."""
    playwright = pytest.importorskip("playwright.sync_api")
    names = ("chromium", "google-chrome", "chrome")
    browser_path = next((path for name in names if (path := shutil.which(name))), None)
    if browser_path is None:
        pytest.skip("there is no Chromium on this machine")
    with playwright.sync_playwright() as player:
        browser = player.chromium.launch(executable_path=browser_path, args=FLAGS)
        page = browser.new_page(viewport={"width": width, "height": 1000})
        page.set_default_timeout(PATIENCE * 1000)
        visit(page, webui, query)
        yield page
        browser.close()


def visit(page: Any, webui: WebUI, query: str = "") -> None:
    """Loads the page and waits until it is built."""
    page.goto(f"{webui.address}/{query}")
    built(page)


def built(page: Any) -> None:
    """Waits until the page's tabs are there."""
    page.wait_for_selector("#tab_atelier", state="attached")
    page.wait_for_selector("#txt2img_prompt textarea")
    page.wait_for_function("typeof atelier === 'object' && typeof onUiLoaded === 'function'")


def open_tab(page: Any, name: str) -> None:
    """Clicks a tab of the top row; some WebUIs begin its name with a capital."""
    tabs = page.locator("#tabs > .tab-nav button, #tabs > .tab-wrapper button")
    tabs.get_by_text(re.compile(f"^\\s*{re.escape(name)}\\s*$", re.IGNORECASE)).first.click()


def fill(page: Any, key: str, text: str) -> None:
    """Writes into a control of the training tab, by its setting's key."""
    box = page.locator(f"#atelier_{key} input, #atelier_{key} textarea").first
    box.fill(text)
    box.blur()


def state(page: Any) -> str:
    """What the panel says the run is doing."""
    return str(page.evaluate("() => (document.querySelector('#atelier_state') || {}).textContent || ''"))


def points(page: Any) -> int:
    """How many points the curve has."""
    return int(
        page.evaluate(
            "() => { const line = document.querySelector('#atelier_panel svg polyline');"
            " return line ? line.getAttribute('points').trim().split(/\\s+/).length : 0; }"
        )
    )


def reload_page(page: Any, webui: WebUI) -> None:
    """Presses the WebUI's own button that builds the page anew, and waits for the new page, which the old one loads.

    Nothing else is asked meanwhile: a request between two steps of its start can end A1111's.
    """
    page.evaluate("() => { window.atelierOldPage = true; }")
    page.evaluate(f"() => document.querySelector('{webui.kind.reload_page}').click()")
    page.wait_for_function("() => !window.atelierOldPage && document.readyState === 'complete'")
    built(page)
    wait(webui.is_up, "its routes, which some add after the page")
