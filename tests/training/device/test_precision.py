"""Which precision "auto" takes."""

from __future__ import annotations

import pytest
import torch

from atelier.config.errors import AtelierError
from atelier.training.device import precision
from atelier.training.device.precision import LARGE, bf16_time, choose, remark


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
    monkeypatch.setattr(precision, "_halves_badly", lambda device: False)
    assert choose("auto", torch.device(device), LARGE, base) == chosen
    if (device, base) != ("cuda", torch.float16):
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


@pytest.mark.parametrize(("bf16", "chosen"), [(True, "bf16"), (False, "fp16")])
def test_no_mixed_precision_over_fp16_is_computed_so_that_gradients_live(
    bf16: bool, chosen: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(precision, "computes_bf16", lambda device: bf16)
    assert choose("no", torch.device("cuda"), LARGE, torch.float16) == chosen
    told = remark("no", chosen)
    assert told is not None and chosen in told and "float32" in told
    assert remark("auto", "fp16") is None and remark("bf16", "bf16") is None


def test_all_in_bf16_is_never_scaled(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(precision, "computes_bf16", lambda device: False)
    assert choose("auto", torch.device("cuda"), LARGE, torch.float16, full_bf16=True) == "bf16"
    assert choose("no", torch.device("cuda"), LARGE, torch.float16, full_bf16=True) == "no"
    with pytest.raises(AtelierError, match="All in bf16"):
        choose("fp16", torch.device("cuda"), LARGE, torch.float16, full_bf16=True)


@pytest.mark.parametrize(
    ("capability", "name", "chosen"),
    [
        ((8, 6), "NVIDIA GeForce RTX 3060", "bf16"), ((9, 0), "NVIDIA H100", "bf16"),
        ((7, 5), "NVIDIA GeForce RTX 2060", "fp16"), ((7, 5), "NVIDIA GeForce GTX 1660 SUPER", "no"),
        ((6, 1), "NVIDIA GeForce GTX 1080", "fp16"),
    ],
)  # fmt: skip
def test_a_card_that_emulates_bf16_has_none(
    capability: tuple[int, int], name: str, chosen: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """torch says of all of them that bf16 is supported; asked is the card that trains, not the current one."""
    asked: list[torch.device] = []

    def capability_of(device: torch.device) -> tuple[int, int]:
        asked.append(device)
        return capability

    monkeypatch.setattr(torch.cuda, "is_bf16_supported", lambda *_: True)
    monkeypatch.setattr(torch.cuda, "get_device_capability", capability_of)
    monkeypatch.setattr(torch.cuda, "get_device_name", lambda device: name)
    assert choose("auto", torch.device("cuda:1"), LARGE, torch.float32) == chosen
    assert asked == [torch.device("cuda:1")]
