"""Which precision "auto" takes."""

from __future__ import annotations

import pytest
import torch

from atelier.config.errors import AtelierError
from atelier.training import precision
from atelier.training.precision import LARGE, choose


@pytest.mark.parametrize(
    ("device", "base", "bf16", "chosen"),
    [
        ("cuda", torch.float16, True, "fp16"), ("cuda", torch.bfloat16, True, "bf16"),
        ("cuda", torch.float32, True, "bf16"), ("cuda", None, True, "bf16"), ("cuda", torch.float32, False, "fp16"),
        ("cpu", torch.float16, True, "bf16"), ("cpu", torch.float32, False, "no"), ("mps", torch.float16, False, "no"),
    ],
)  # fmt: skip
def test_auto(device: str, base: torch.dtype | None, bf16: bool, chosen: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(precision, "computes_bf16", lambda device: bf16)
    assert choose("auto", torch.device(device), LARGE, base) == chosen
    assert choose("no", torch.device(device), LARGE, base) == "no"


def test_what_a_processor_cannot() -> None:
    with pytest.raises(AtelierError, match="choose bf16 or no"):
        choose("fp16", torch.device("cpu"), LARGE, torch.float16)
