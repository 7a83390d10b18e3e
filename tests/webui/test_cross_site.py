"""In a running WebUI: another site can call the tab's handlers, as its Gradio asks nobody, and presses nothing."""

from __future__ import annotations

import json
import uuid
from pathlib import Path
from typing import Any

import pytest

from tests.webui.hosts import WebUI, wait

pytestmark = pytest.mark.webui
FOREIGN = {"Origin": "https://evil.example", "Sec-Fetch-Site": "cross-site", "Content-Type": ""}
"""What a browser sends for another site that asks without reading the answer."""
MESSAGE = "Reload the page, then press again"


def pressed(webui: WebUI, pictures: Path, name: str, key: str | None) -> str:
    """The answer to a press of Train from elsewhere, with this key or, for None, the page's own."""
    page = webui.ask("/config")
    held = {part["id"]: part["props"] for part in page["components"]}
    named = {props.get("elem_id"): number for number, props in held.items()}
    train = named["atelier_train"]
    number, handler = next(
        (each.get("id", place), each)
        for place, each in enumerate(page["dependencies"])
        if any((target[0] if isinstance(target, list) else target) == train for target in each["targets"])
    )
    values: dict[Any, Any] = {part: held[part].get("value") for part in handler["inputs"]}
    values[named["atelier_output_name"]] = name
    values[named["atelier_train_data_dir"]] = str(pictures)
    values[named["atelier_trigger"]] = "zwx"
    values[named["atelier_max_train_steps"]] = "1"
    values[named["atelier_resolution"]] = "64"
    if key is not None:
        values[named["atelier_page_key"]] = key
    asked = {"data": list(values.values()), "fn_index": number, "session_hash": name, "event_data": None}
    headers = {header.replace("-", "_"): value for header, value in FOREIGN.items()}
    return json.dumps(dict(webui.ask("/run/predict", json.dumps(asked).encode(), **headers)))


def test_another_site_presses_nothing(webui: WebUI, pictures: Path) -> None:
    def runs(name: str) -> list[str]:
        return [run["id"] for run in webui.ask("/atelier/v1/jobs")["jobs"] if run["name"] == name]

    for key in ("", "guessed"):
        name = "x" + uuid.uuid4().hex[:6]
        answer = pressed(webui, pictures, name, key)
        assert MESSAGE in answer and runs(name) == []
    # With the key, which only the page itself can read, the very same request starts a run.
    name = "x" + uuid.uuid4().hex[:6]
    assert MESSAGE not in pressed(webui, pictures, name, None)
    (run,) = wait(lambda: runs(name), "the run")
    webui.until(run)
