"""What SD.Next draws with, as far as its last picture tells."""

from __future__ import annotations

import sys
from pathlib import Path
from types import ModuleType

import pytest

from atelier.hosts.sdnext.drawing import drawn_with


@pytest.mark.parametrize(
    ("text", "family", "layer"),
    [
        ("a cat\nSteps: 20, Sampler: Euler a, CLiP-skip: 2, Seed: 7", "sd1", 2),
        ("a cat\nSteps: 20, Sampler: Euler a, CLiP-skip: 2, Seed: 7", "sdxl", 3),
        ("a cat\nSteps: 20, Sampler: Euler a, Seed: 7", "sd1", 1),
        ("a cat\nSteps: 20, Sampler: Euler a, Seed: 7", "sdxl", 2),
        (None, "sd1", 1),
    ],
)
def test_the_clip_skip_is_the_last_pictures(
    text: str | None, family: str, layer: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its slider counts from the layer that each family was trained on."""
    modules, paths = ModuleType("modules"), ModuleType("modules.paths")
    vars(paths)["params_path"] = str(tmp_path / "params.txt")
    vars(modules)["paths"] = paths
    monkeypatch.setitem(sys.modules, "modules", modules)
    monkeypatch.setitem(sys.modules, "modules.paths", paths)
    if text is not None:
        (tmp_path / "params.txt").write_text(text, encoding="utf-8")
    assert drawn_with(family).clip_skip == layer
