"""The stand-in for Forge Neo that these tests share: Forge's, whose LoRA files are read anew each time."""

from __future__ import annotations

import functools
from typing import Any

import pytest

from tests.support.forge_fakes import forge

__all__ = ["forge", "neo"]


@pytest.fixture
def neo(forge: Any, monkeypatch: pytest.MonkeyPatch) -> Any:
    """As `forge`; the function that reads a LoRA file has no cache to clear."""
    monkeypatch.setattr(forge.networks, "load_lora_state_dict", functools.partial(dict))
    return forge
