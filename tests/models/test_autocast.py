"""Autocast is turned off where torch has one, and not even asked for where it has none."""

from __future__ import annotations

import pytest
import torch

from atelier.models.autocast import own_precision


def test_where_torch_has_no_autocast_none_is_asked_for(monkeypatch: pytest.MonkeyPatch) -> None:
    """torch 2.1's raises for "mps" even to turn it off, which ended every run on a Mac."""

    def raises(kind: str, enabled: bool) -> None:
        raise RuntimeError(f"User specified autocast device_type must be cuda or cpu, not {kind}")

    monkeypatch.setattr(torch, "autocast", raises)
    with own_precision(torch.device("mps")):
        pass
    with pytest.raises(RuntimeError):
        own_precision(torch.device("cpu"))


def test_inside_an_autocast_there_is_none() -> None:
    with torch.autocast("cpu", dtype=torch.bfloat16), own_precision(torch.device("cpu")):
        assert (torch.ones(2, 2) @ torch.ones(2, 2)).dtype == torch.float32
