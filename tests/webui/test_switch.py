"""In a running WebUI: a checkpoint chosen in the middle of a run is never trained on."""

from __future__ import annotations

import shutil
import uuid
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import load_file, save_file

from tests.webui.hosts import WebUI, wait
from tests.webui.page import open_page

pytestmark = pytest.mark.webui


def write_changed(source: Path, made: Path, unet: str) -> None:
    """Writes a file's tensors with a few of the UNet's a little larger: those whose names begin with `unet`."""
    tensors = load_file(source)
    for name, tensor in tensors.items():
        if name.startswith(unet) and name.endswith("proj_out.weight"):
            tensors[name] = (tensor * 1.05).astype(tensor.dtype)
    save_file(tensors, made / source.name if made.is_dir() else made)


@pytest.fixture
def other(webui: WebUI) -> Iterator[str]:
    """The title of a second checkpoint of the same kind, whose weights are a little other ones."""
    first = webui.checkpoint()
    source = webui.folder / first["filename"]
    made = source.with_name(f"atelier-test-{uuid.uuid4().hex[:6]}{source.suffix}")
    if source.is_dir():
        shutil.copytree(source, made)
        write_changed(next((source / "unet").glob("*.safetensors")), made / "unet", "")
    else:
        write_changed(source, made, "model.diffusion_model.")
        if source.with_suffix(".yaml").exists():
            shutil.copyfile(source.with_suffix(".yaml"), made.with_suffix(".yaml"))
    webui.ask("/sdapi/v1/refresh-checkpoints", {})
    models = webui.ask("/sdapi/v1/sd-models")["answer"]
    yield next(str(model["title"]) for model in models if Path(model["filename"]).name == made.name)
    if webui.checkpoint()["filename"] != first["filename"]:
        webui.choose(first["title"])
    if made.is_dir():
        shutil.rmtree(made)
    else:
        made.unlink()
        made.with_suffix(".yaml").unlink(missing_ok=True)
    webui.ask("/sdapi/v1/refresh-checkpoints", {})


def test_another_checkpoint_in_the_middle(webui: WebUI, pictures: Path, other: str) -> None:
    tag = "s" + uuid.uuid4().hex[:6]
    first = webui.checkpoint()["title"]
    before = webui.draw()
    webui.until(webui.train(f"{tag}alone", pictures))

    run = webui.train(f"{tag}switched", pictures)
    webui.until(run, "running", 2)
    webui.choose(other)
    job = webui.until(run, "waiting")
    assert "atelier-test-" in webui.checkpoint()["model_name"]
    assert "to go on" in job["message"]
    step = job["step"]
    assert not np.array_equal(webui.draw(), before), "the other checkpoint draws the same"
    assert webui.job(run)["step"] == step
    webui.choose(first)
    webui.until(run)

    one, two = (load_file(webui.loras / f"{tag}{name}.safetensors") for name in ("alone", "switched"))
    assert all(np.array_equal(one[name], two[name]) for name in one)
    assert np.array_equal(webui.draw(), before)


def test_a_run_waits_in_the_queue_for_its_own_checkpoint(webui: WebUI, pictures: Path, other: str) -> None:
    tag = "q" + uuid.uuid4().hex[:6]
    first = webui.checkpoint()["title"]
    running = webui.train(f"{tag}first", pictures, max_train_steps=200)
    webui.until(running, "running", 1)
    queued = webui.train(f"{tag}second", pictures, max_train_steps=2)
    webui.choose(other)
    webui.until(running, "waiting")
    webui.press(running, "stop")
    said = wait(lambda: webui.job(queued)["message"], "why the second run waits")
    assert "Load it" in said and webui.job(queued)["step"] == 0
    webui.choose(first)
    webui.until(queued)


@pytest.mark.browser
def test_another_preset_in_the_middle(webui: WebUI, pictures: Path) -> None:
    """It chooses another checkpoint and other modules for the next picture; until then the run has its model."""
    if not webui.kind.presets:
        pytest.skip("this WebUI has no presets")
    own, other = webui.kind.presets
    tag = "v" + uuid.uuid4().hex[:6]
    webui.until(webui.train(f"{tag}alone", pictures))
    with open_page(webui) as page:
        run = webui.train(f"{tag}preset", pictures)
        webui.until(run, "running", 1)
        for preset in (other, own):
            box = page.locator("#forge_ui_preset input").first
            box.click()
            box.fill(preset)
            box.press("Enter")
            wait(lambda: webui.ask("/sdapi/v1/options").get("forge_preset") == preset, f"the preset {preset}")  # noqa: B023
    webui.draw(steps=1)
    webui.until(run)
    one, two = (load_file(webui.loras / f"{tag}{name}.safetensors") for name in ("alone", "preset"))
    assert all(np.array_equal(one[name], two[name]) for name in one)
