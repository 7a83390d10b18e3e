"""Which precision "auto" takes."""

from __future__ import annotations

import pytest
import torch

from atelier.config.errors import AtelierError
from atelier.training.device import precision
from atelier.training.device.precision import LARGE, bf16_time, choose


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


@pytest.mark.parametrize(
    ("seconds", "chosen"), [({"bf16": 2.0, "float32": 1.0}, "no"), ({"bf16": 1.0, "float32": 2.0}, "bf16")]
)
def test_a_processor_computes_in_bf16_when_that_is_faster(
    seconds: dict[str, float], chosen: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    times = {torch.bfloat16: seconds["bf16"], torch.float32: seconds["float32"]}
    monkeypatch.setattr(precision, "_product_seconds", times.__getitem__)
    bf16_time.cache_clear()
    try:
        assert choose("auto", torch.device("cpu"), LARGE) == chosen
        assert choose("auto", torch.device("cpu"), LARGE - 1) == "no"
    finally:
        bf16_time.cache_clear()


def test_the_processor_is_measured_once_and_nothing_random_is_drawn(monkeypatch: pytest.MonkeyPatch) -> None:
    bf16_time.cache_clear()
    state = torch.get_rng_state()
    assert bf16_time() > 0
    monkeypatch.delattr(precision, "_product_seconds")
    assert bf16_time() > 0
    assert torch.equal(torch.get_rng_state(), state)
