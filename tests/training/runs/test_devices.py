"""Devices that cannot be trained on are refused with a sentence, before anything is made."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from atelier.config.errors import AtelierError
from atelier.hosts.contract import ModelInfo
from atelier.training.run import loaded_base
from tests.support.training_fakes import TinyHost


@pytest.mark.parametrize(
    ("device", "refused"), [("privateuseone:0", True), ("cuda:1", False), ("cpu", False), ("mps", False)]
)
def test_directml_is_refused(device: str, refused: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    host = TinyHost(tmp_path)
    info = host.loaded_model()
    assert info is not None
    there: ModelInfo = replace(info, device=device)
    monkeypatch.setattr(host, "loaded_model", lambda: there)
    if not refused:
        assert loaded_base(host) is there
        return
    with pytest.raises(AtelierError, match=r"computes on privateuseone:0.*cannot be trained on yet"):
        loaded_base(host)
