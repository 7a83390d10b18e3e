"""In a running WebUI: it draws the samples and the class pictures of a run, and describes pictures where it can."""

from __future__ import annotations

import shutil
import uuid
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from tests.webui.hosts import WebUI
from tests.webui.page import TAB, fill, open_page, open_tab

pytestmark = pytest.mark.webui


@pytest.fixture
def name() -> str:
    return "d" + uuid.uuid4().hex[:6]


def test_samples_by_the_webui_s_own_sampler(webui: WebUI, pictures: Path, name: str) -> None:
    before = webui.draw()
    prompt = "a red circle --w 64 --h 64 --s 2 --l 3 --d 7"
    skip = int(webui.ask("/sdapi/v1/options").get("CLIP_stop_at_last_layers", 1))  # else a remark says that it differs
    run = webui.train(
        name, pictures, max_train_steps=4, sample_with="host", sample_every_n_steps=2, sample_prompts=prompt,
        clip_skip=skip,
    )  # fmt: skip
    webui.until(run)
    events = webui.ask(f"/atelier/v1/jobs/{run}/events")["events"]
    assert not [event for event in events if event.get("level") == "warning"], events
    samples = {event["step"]: event["file"] for event in events if event["kind"] == "sample"}
    assert sorted(samples) == [2, 4]
    assert webui.ask(f"/atelier/v1/jobs/{run}/samples/{samples[4]}").status == 200
    # What it drew with is gone again, and so is its effect.
    assert [path.name for path in webui.loras.glob(f"{name}*.safetensors")] == [f"{name}.safetensors"]
    assert np.array_equal(webui.draw(), before)


def test_class_pictures_are_drawn_by_the_webui(webui: WebUI, pictures: Path, name: str) -> None:
    wanted = {"class_prompt": "a red circle", "num_class_images": 2, "max_train_steps": 2}
    run = webui.train(name, pictures, **wanted)
    webui.until(run)
    events = webui.ask(f"/atelier/v1/jobs/{run}/events")["events"]
    told = [event["text"] for event in events if "text" in event]
    kept = [path for path in (webui.folder).rglob("class-0000[12].png") if path.with_suffix(".txt").exists()]
    folder = max(kept, key=lambda path: path.stat().st_mtime).parent
    try:
        drawn = sorted(folder.glob("class-*.png"))
        assert len(drawn) == 2 and all("2 class pictures are missing" not in text for text in told[1:])
        with Image.open(drawn[0]) as first, Image.open(drawn[1]) as second:
            assert first.size == (64, 64) and np.asarray(first).std() > 5
            assert not np.array_equal(np.asarray(first), np.asarray(second))
        times = [path.stat().st_mtime_ns for path in drawn]
        webui.until(webui.train(f"{name}again", pictures, **wanted))
        assert [path.stat().st_mtime_ns for path in sorted(folder.glob("class-*.png"))] == times
    finally:
        shutil.rmtree(folder)


def test_pictures_are_described_or_it_says_why_not(webui: WebUI, pictures: Path, tmp_path: Path) -> None:
    """The describing models are large files of their own: where they are not, the tab says so in a sentence."""
    folder = tmp_path / "uncaptioned"
    folder.mkdir()
    source = next(path for path in sorted(pictures.iterdir()) if path.suffix == ".png")
    shutil.copy(source, folder / "one.png")
    with open_page(webui) as page:
        open_tab(page, TAB)
        fill(page, "train_data_dir", str(folder))
        fill(page, "trigger", "zwx")
        button = page.locator("#atelier_describe")
        if button.count() == 0:
            pytest.skip("this WebUI has nothing that describes pictures")
        page.locator("#atelier_describing .label-wrap").first.click()
        button.click()
        answer = page.locator("#atelier_panel, #atelier_describing, #atelier_found, #atelier_message")
        answer.get_by_text("one.png").or_(answer.get_by_text("caption file")).first.wait_for()
        caption = folder / "one.txt"
        assert "Traceback" not in page.content()
        assert not caption.exists() or caption.read_text(encoding="utf-8").strip()
