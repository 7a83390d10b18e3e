"""The settings of A1111's kin that change what the model gets of a prompt."""

from __future__ import annotations

import sys
from types import ModuleType, SimpleNamespace
from typing import Any

import pytest

from atelier.hosts.contract import DrawnWith
from atelier.hosts.shared.prompt_settings import BOTH_SKIP, drawn_with


@pytest.fixture
def options(monkeypatch: pytest.MonkeyPatch) -> Any:
    """The WebUI's settings, none of them there."""
    root, shared = ModuleType("modules"), ModuleType("modules.shared")
    shared.opts = root.shared = SimpleNamespace()  # type: ignore[attr-defined]
    root.shared = shared  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "modules", root)
    monkeypatch.setitem(sys.modules, "modules.shared", shared)
    return shared.opts


def test_a_webui_without_them_draws_as_usual(options: Any) -> None:
    assert drawn_with("sd1", ("sd1",)) == DrawnWith()


def test_clip_skip_counts_for_the_families_that_it_is_used_for(options: Any) -> None:
    options.CLIP_stop_at_last_layers = 2
    assert [drawn_with(family, ("sd1", "sd2")).clip_skip for family in ("sd1", "sd2", "sdxl")] == [2, 2, 1]


def test_emphasis_and_crop_are_read_as_they_are_kept(options: Any) -> None:
    options.emphasis, options.sdxl_crop_top, options.sdxl_crop_left = "No norm", "8", "x"
    assert drawn_with("sdxl", ()) == DrawnWith(emphasis="No norm", crop=(8, 0))


def test_a_skip_in_one_of_two_encoders_is_said(options: Any) -> None:
    options.sdxl_clip_l_skip = True
    assert drawn_with("sdxl", ("sd1",)).unlike == (BOTH_SKIP,)
    assert drawn_with("sd1", ("sd1",)).unlike == () == drawn_with("sdxl", ("sd1", "sdxl")).unlike
