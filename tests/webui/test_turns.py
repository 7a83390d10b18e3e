"""In a running WebUI: pictures and training take turns, and neither changes a bit of the other."""

from __future__ import annotations

import time
import uuid
from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import load_file

from tests.webui.hosts import WebUI, wait

pytestmark = pytest.mark.webui


@pytest.fixture(scope="module")
def tag() -> str:
    """Makes the names of these runs new in a WebUI that has been tested before."""
    return "t" + uuid.uuid4().hex[:6]


@pytest.fixture(scope="module")
def alone(webui: WebUI, pictures: Path, tag: str) -> dict[str, np.ndarray]:
    """What a run left in peace learns."""
    webui.until(webui.train(f"{tag}alone", pictures))
    return load_file(webui.loras / f"{tag}alone.safetensors")


def same(one: dict[str, np.ndarray], other: dict[str, np.ndarray]) -> bool:
    return one.keys() == other.keys() and all(np.array_equal(one[name], other[name]) for name in one)


def test_a_picture_while_it_trains(webui: WebUI, pictures: Path, tag: str, alone: dict[str, np.ndarray]) -> None:
    before = webui.draw()
    run = webui.train(f"{tag}shared", pictures, save_every_n_steps=2)
    webui.until(run, "running", 1)
    progress = webui.ask("/sdapi/v1/progress")
    assert progress["progress"] == 0 and progress["state"]["job_count"] <= 0
    during = webui.draw()
    assert webui.job(run)["state"] == "running", "the picture waited for the end of the training"
    assert np.array_equal(before, during)

    # A LoRA of this run, used in the middle, is in no later picture and not in what is trained.
    save = wait(lambda: webui.saved(run), "a first save")[-1]
    tried = webui.draw(f"a red circle <lora:{save}:1>")
    assert not np.array_equal(tried, before)
    assert np.array_equal(webui.draw(), before)
    webui.until(run)
    assert same(load_file(webui.loras / f"{tag}shared.safetensors"), alone)
    assert np.array_equal(webui.draw(f"a red circle <lora:{save}:1>"), tried)


def test_every_save_has_its_own_effect(webui: WebUI, tag: str) -> None:
    names = [f"{tag}shared-step00000002", f"{tag}shared-step00000004", f"{tag}shared"]
    drawn = [webui.draw(f"a red circle <lora:{name}:1>") for name in names]
    assert not np.array_equal(drawn[0], drawn[1]) and not np.array_equal(drawn[1], drawn[2])


def test_interrupt_stops_the_picture_only(webui: WebUI, pictures: Path, tag: str, alone: dict[str, np.ndarray]) -> None:
    run = webui.train(f"{tag}interrupted", pictures)
    webui.until(run, "running", 1)
    for _ in range(3):
        webui.ask(webui.kind.interrupts, {})
    step = webui.job(run)["step"]
    webui.until(run, ("running", "done"), step + 1)
    webui.until(run)
    assert same(load_file(webui.loras / f"{tag}interrupted.safetensors"), alone)


def test_pause_and_resume(webui: WebUI, pictures: Path, tag: str, alone: dict[str, np.ndarray]) -> None:
    run = webui.train(f"{tag}paused", pictures)
    webui.until(run, "running", 2)
    webui.press(run, "pause")
    webui.until(run, "paused")
    webui.draw()
    webui.press(run, "resume")
    webui.until(run)
    assert same(load_file(webui.loras / f"{tag}paused.safetensors"), alone)


def test_stop_keeps_what_is_learnt(webui: WebUI, pictures: Path, tag: str) -> None:
    run = webui.train(f"{tag}stopped", pictures, max_train_steps=500)
    webui.until(run, "running", 2)
    webui.press(run, "stop")
    job = wait(lambda: job if (job := webui.job(run))["state"] == "stopped" else None, "the end of the run")
    assert job["resumable"] and webui.saved(run)


def test_unloaded_without_asking_the_queue(
    webui: WebUI, pictures: Path, tag: str, alone: dict[str, np.ndarray]
) -> None:
    run = webui.train(f"{tag}unloaded", pictures)
    webui.until(run, "running", 2)
    assert webui.ask(webui.kind.unload, {}).status in (200, 204)
    time.sleep(1)
    assert webui.job(run)["state"] in ("running", "waiting", "done")
    webui.load_again()
    webui.until(run)
    assert same(load_file(webui.loras / f"{tag}unloaded.safetensors"), alone)
