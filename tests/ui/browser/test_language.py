"""The page in another language, as WebUIs of A1111's kind make it: `window.localization`, and a walk over all texts."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from atelier.ui.tab.found_html import found_html
from atelier.ui.tab.preview_data import Found, FoundPicture
from tests.support.jobs_fakes import finished, job_named
from tests.support.panel_pages import WAIT, Site, state, text

pytestmark = pytest.mark.browser

WALK = """
const walk = (node) => {
    const known = window.localization[(node.textContent || "").trim()];
    if (node.nodeType === Node.TEXT_NODE && known) node.textContent = known;
    node.childNodes.forEach(walk);
};
new MutationObserver((changes) => changes.forEach((change) => change.addedNodes.forEach(walk)))
    .observe(document, { childList: true, subtree: true });
"""
"""What A1111 does to each text node that comes onto the page: it is looked up as a whole."""


@pytest.fixture
def german(browser: Any, site: Site, root: Path) -> Iterator[Any]:
    words = json.loads((root / "localizations" / "de_DE.json").read_text("utf-8"))
    opened = browser.new_page(viewport={"width": 1400, "height": 1000})
    opened.set_default_timeout(WAIT)
    opened.add_init_script(f"window.localization = {json.dumps(words)};{WALK}")
    wrong: list[str] = []
    opened.on("pageerror", lambda error: wrong.append(str(error)))
    opened.goto(site.address)
    yield opened
    opened.close()
    assert not wrong


@pytest.mark.slow
def test_the_panel_speaks_german_and_names_stay_as_they_are(german: Any, site: Site) -> None:
    text(german, "Noch läuft kein Training")
    job = site.jobs.submit(job_named("Training", trigger="zwx"))  # a name that the language's file knows
    state(german, "Training läuft")
    site.train.step(4)
    text(german, r"Schritt\s*4 von 10")
    text(german, "Das Training hat begonnen")
    german.get_by_role("button", name="Jetzt speichern").click()
    text(german, "Training, step 4 gespeichert")
    site.train.finish()
    state(german, "Fertig")
    finished(site.jobs, job)
    assert german.locator(".atelier-name").text_content().strip("\u2060") == "Training"
    german.locator(".atelier-runs summary").first.click()
    assert german.locator(".atelier-runs .atelier-link").first.text_content().strip("\u2060") == "Training"
    german.locator("#atelier_try_it").click()
    assert german.locator("#txt2img_prompt textarea").input_value() == (
        "a garden <lora:cat-step00000002:1>, zwx <lora:Training:1>"
    )


def test_sentences_with_figures_are_found_and_captions_are_not(german: Any, tmp_path: Path) -> None:
    text(german, "Noch läuft kein Training")
    picture = FoundPicture(tmp_path / "none.png", (64, 64), (64, 64), captioned=True)
    found = Found([picture] * 6, 5, 0, [((64, 64), 6)], ["Done", ""], [], ["Every picture has a caption already."], 120)
    german.evaluate("html => { document.querySelector('#atelier_found').innerHTML = html; }", found_html(found, ""))
    german.wait_for_function("document.querySelector('.atelier-count').textContent.startsWith('6 Bilder')")
    assert german.locator(".atelier-count").text_content() == "6 Bilder, 5 von 6 mit Beschreibung, 120 Schritte."
    assert german.locator(".atelier-buckets li").all_text_contents() == ["64×64: 6 Bilder"]
    assert german.locator(".atelier-captions li").all_text_contents() == ["“Done”", "(eine leere Beschreibung)"]
    assert german.locator(".atelier-notes li").all_text_contents() == ["Jedes Bild hat schon eine Beschreibung."]
    german.wait_for_function("document.querySelector('#atelier_model_line p').textContent.startsWith('Trainiert auf')")
