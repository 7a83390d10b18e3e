"""Searching the settings and resetting those that were changed, in the embedded WebUI in a real Chromium."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

from tests.support.panel_pages import WAIT
from tests.support.tab_pages import TabSite, field, fill, open_section, open_tab

pytestmark = pytest.mark.browser

SEEN = """() => [...document.querySelectorAll('#atelier_advanced [id^=atelier_group_]')]
    .filter((made) => made.checkVisibility()).map((made) => made.id)"""


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[TabSite]:
    made = TabSite(tmp_path_factory.mktemp("site"))
    yield made
    made.close()


@pytest.fixture(scope="module")
def opened(browser: Any, site: TabSite) -> Iterator[Any]:
    """One page for all tests: building it takes seconds."""
    made = browser.new_page(viewport={"width": 1400, "height": 900})
    made.set_default_timeout(WAIT)
    open_tab(made, site.address)
    open_section(made, "atelier_advanced")
    made.locator("#atelier_search").wait_for()
    yield made
    made.close()


@pytest.fixture
def page(opened: Any) -> Iterator[Any]:
    wrong: list[str] = []
    opened.on("pageerror", lambda error: wrong.append(str(error)))
    yield opened
    assert not wrong


def search(page: Any, words: str) -> None:
    page.locator("#atelier_search").focus()
    page.keyboard.press("ControlOrMeta+a")
    page.keyboard.press("Delete")
    page.keyboard.type(words)


def told(page: Any, words: str) -> None:
    page.locator("#atelier_search_told", has_text=words).wait_for()


def test_a_search_shows_what_matches_and_opens_its_section(page: Any) -> None:
    assert page.evaluate("document.querySelectorAll('#atelier_advanced [id^=atelier_network_]').length") == 0
    search(page, "network_dim")
    field(page, "network_dim").wait_for()
    told(page, "1 setting found")
    assert page.evaluate(SEEN) == ["atelier_group_network"]
    assert not page.locator("#atelier_network_alpha").is_visible()
    page.keyboard.press("Enter")
    page.wait_for_function("document.activeElement.closest('#atelier_network_dim')")
    tip = page.locator("#atelier_key_tip")
    tip.get_by_text("network_dim").wait_for()
    page.keyboard.press("Escape")
    tip.wait_for(state="hidden")

    search(page, "webhook")
    field(page, "webhook_url").wait_for()
    told(page, "1 setting found")
    search(page, "made-up words")
    told(page, "No setting has these words")
    search(page, "trigger word")
    told(page, "At the top of the page: Trigger word (trigger)")
    search(page, "no_half_vae")
    told(page, "Only in files and on the command line: VAE in full precision (no_half_vae)")
    page.keyboard.press("Escape")
    page.locator("#atelier_search_told:empty").wait_for(state="attached")
    page.locator("#atelier_group_validation").wait_for()
    assert not page.locator("#atelier_network_dim").is_visible()


def test_what_was_changed_is_listed_and_reset_by_one_press(page: Any) -> None:
    open_section(page, "atelier_group_network", "atelier_group_samples")
    usual = field(page, "network_dim").input_value()
    fill(page, "network_dim", "4")
    page.locator("#atelier_sample_at_first input").click()
    rows = page.locator("#atelier_changed_area li")
    page.locator("#atelier_changed_area h4", has_text="Changed by you (2)").wait_for()
    rows.filter(has_text="Rank").get_by_text(f"Recommended: {usual}").wait_for()

    button = page.get_by_role("button", name="Puts the recommended value into Rank again")
    button.focus()
    page.keyboard.press("Enter")
    page.locator("#atelier_changed_area h4", has_text="Changed by you (1)").wait_for()
    assert field(page, "network_dim").input_value() == usual
    page.get_by_role("button", name="Puts the recommended value into Sample before training again").click()
    rows.first.wait_for(state="detached")


def test_keys_and_recommended_values_are_at_the_fields(page: Any) -> None:
    open_section(page, "atelier_group_learning")
    field(page, "learning_rate").hover()
    tip = page.locator("#atelier_key_tip")
    tip.get_by_text("learning_rate").wait_for()
    held = field(page, "learning_rate").input_value()
    assert f"Recommended: {held}" in tip.inner_text()
    page.wait_for_function(
        "wanted => document.querySelector('#atelier_learning_rate').querySelector('input, textarea').placeholder"
        " === wanted",
        arg=f"Recommended: {held}",
    )
    box = field(page, "learning_rate")
    box.focus()
    assert "atelier_key_tip" in box.get_attribute("aria-describedby").split()
