"""In a running WebUI: a file of each kind of adapter loads there, every key of it, and acts as it does here."""

from __future__ import annotations

import uuid
from collections.abc import Iterator
from contextlib import nullcontext
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from atelier.adapters.config import NetworkConfig
from atelier.adapters.usable import troubles
from atelier.config.settings.schema import Settings
from tests.webui.families import loaded
from tests.webui.hosts import WebUI, wait
from tests.webui.own import SCRIPT
from tests.webui.probe import probed

pytestmark = [pytest.mark.webui, pytest.mark.browser]

KINDS: dict[str, dict[str, Any]] = {
    "lora": {},
    "locon": {"network_args": ["conv_dim=4", "conv_alpha=2"]},
    "dora": {"network_module": "lycoris.kohya", "network_args": ["algo=dora", "conv_dim=4"]},
    "loha": {"network_module": "lycoris.kohya", "network_args": ["algo=loha", "conv_dim=4"]},
    "lokr": {"network_module": "lycoris.kohya", "network_args": ["algo=lokr", "factor=8", "conv_dim=4"]},
    "ia3": {"network_module": "lycoris.kohya", "network_args": ["algo=ia3", "preset=ia3"]},
    "oft": {"network_module": "lycoris.kohya", "network_args": ["algo=diag-oft"]},
    "boft": {"network_module": "lycoris.kohya", "network_dim": 16, "network_args": ["algo=boft"]},
}

ON_ANOTHER_BASE = ("dora", "boft")
"""A1111 divides by the norms of a DoRA's columns: a checkpoint for tests may have layers of zeros, real ones do not. A
BOFT takes it tens of gigabytes to wear at SD 1.5's size."""

# Some kinds keep the whole weight of each layer for the backward pass, unless it is computed again.
LEARNING = {
    "max_train_steps": 3, "network_train_unet_only": False, "learning_rate": 0.02, "gradient_checkpointing": True,
}  # fmt: skip


@pytest.fixture(scope="module")
def looked_into(webui: WebUI) -> Iterator[WebUI]:
    """The WebUI with routes that compute with its own modules."""
    webui.draw(steps=1)
    with probed(webui, SCRIPT):
        yield webui


def trained_or_skipped(webui: WebUI, run: str) -> None:
    """Waits for the end of a run. Skips a kind that this WebUI's torch has no LyCORIS for, as the run says."""
    ended = wait(lambda: job if (job := webui.job(run))["state"] in ("done", "failed") else None, "the run to end")
    if "The installed lycoris-lora cannot compute" in ended["message"]:
        pytest.skip(ended["message"])
    assert ended["state"] == "done", ended


@pytest.mark.parametrize("kind", KINDS)
def test_a_file_of_the_kind_acts_as_it_does_here(
    looked_into: WebUI, kind: str, pictures: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    webui, name = looked_into, f"{kind}{uuid.uuid4().hex[:6]}"
    with loaded(webui, "sd1") if kind in ON_ANOTHER_BASE else nullcontext():
        before = webui.draw(steps=2)
        trained_or_skipped(webui, webui.train(name, pictures, **{**LEARNING, **KINDS[kind]}))
        worn = webui.ask(f"/atelier-test-worn?name={name}")
        assert worn.status == 200, worn
        after = webui.draw(f"a red circle <lora:{name}:1>", steps=2)
        again = webui.draw(steps=2)
    with capsys.disabled():
        print(f"\n{webui.kind.name}, {kind}:", dict(worn))
    assert worn["unet_changed"] > 1e-3 < worn["text_changed"]
    network = NetworkConfig.from_settings(replace(Settings(), **{**LEARNING, **KINDS[kind]}))
    if any(webui.kind.name in trouble.hosts for trouble in troubles(network)):
        # The tab says so: what it draws is not what was trained.
        assert worn["unet"]["difference"] > 0.05 * worn["unet_changed"]
        return
    assert worn["layers"] == worn["our_layers"] or worn["left"] == []
    # A text encoder that the WebUI keeps in half precision takes the change in half precision.
    within = {"unet": 1e-4, "text": 1e-4 if worn["text_dtypes"] == ["torch.float32"] else 1e-3}
    for part, bound in within.items():
        assert worn[part]["difference"] <= bound * max(worn[part]["scale"], 1.0), part
    assert not np.array_equal(before, after)
    assert np.array_equal(again, before)
