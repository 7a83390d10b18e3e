"""In a running WebUI: the lent parts compute what the WebUI's own compute, from the same memory, in every family."""

from __future__ import annotations

import uuid
from collections.abc import Iterator
from contextlib import nullcontext
from pathlib import Path

import numpy as np
import pytest

from tests.webui.families import BASES, loaded
from tests.webui.hosts import WebUI
from tests.webui.own import SCRIPT
from tests.webui.probe import probed

pytestmark = [pytest.mark.webui, pytest.mark.browser]
OWN = "the one it has loaded"


@pytest.fixture(scope="module")
def looked_into(webui: WebUI) -> Iterator[WebUI]:
    """The WebUI with routes that compute with its own modules."""
    webui.draw(steps=1)
    with probed(webui, SCRIPT):
        yield webui


@pytest.mark.parametrize("base", (OWN, *BASES))
def test_the_lent_parts_compute_the_same(
    looked_into: WebUI, base: str, pictures: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    webui = looked_into
    if base not in (OWN, *webui.kind.bases):
        pytest.skip(f"{webui.kind.name} does not load {base}")
    with nullcontext() if base == OWN else loaded(webui, base):
        found = webui.ask("/atelier-test-same")
        assert found.status == 200, found
        if base != OWN:
            lora = "zwx" + uuid.uuid4().hex[:6]
            before = webui.draw(steps=2)
            run = webui.train(
                lora, pictures, max_train_steps=2, network_train_unet_only=False, learning_rate=0.05,
            )  # fmt: skip
            webui.until(run)
            worn = webui.ask(f"/atelier-test-worn?name={lora}")
            after = webui.draw(f"a red circle <lora:{lora}:1>", steps=2)
    with capsys.disabled():
        print(f"\n{webui.kind.name}, {base}:", dict(found))
        if base != OWN:
            print("  with the LoRA:", dict(worn))
    for part in ("unet", "vae", "vae decoder", "text", "pooled"):
        if part in found:
            assert found[part]["difference"] <= 1e-4 * max(found[part]["scale"], 1.0), part
    for part in ("unet", "vae", "text"):
        # A processor computes no half precision: a text encoder that the WebUI keeps so is computed in a copy there.
        if part != "text" or found["text_dtypes"] == ["torch.float32"]:
            assert found[part]["shared"] == found[part]["tensors"] > 0, part
    if base != OWN:
        assert (found["family"], found["prediction_type"]) == (
            base.partition("-")[0], "v_prediction" if base.endswith("-v") else "epsilon",
        )  # fmt: skip
        assert not np.array_equal(before, after)
        assert worn["unet"]["difference"] <= 1e-4 * max(worn["unet"]["scale"], 1.0)
        assert worn["unet_changed"] > 10 * worn["unet"]["difference"] < worn["text_changed"]
