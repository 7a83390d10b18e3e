"""A card that the installed torch cannot use is told, with what to do about it."""

from __future__ import annotations

import shutil

import pytest
import torch

from atelier.cli.shared.torch_build import unused_card


@pytest.mark.parametrize(
    ("driver", "built_for", "works", "told"),
    [
        ("/usr/bin/nvidia-smi", None, False, True), (None, None, False, False),
        ("/usr/bin/nvidia-smi", "12.6", True, False), ("/usr/bin/nvidia-smi", "12.6", False, False),
    ],
)  # fmt: skip
def test_a_card_without_a_torch_for_it(
    driver: str | None, built_for: str | None, works: bool, told: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(shutil, "which", lambda name: driver if name == "nvidia-smi" else None)
    monkeypatch.setattr(torch.version, "cuda", built_for)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: works)
    said = unused_card()
    assert (said is not None) is told
    if said is not None:
        version = torch.__version__.partition("+")[0]
        assert f"torch=={version} " in said and "download.pytorch.org/whl/cu" in said
