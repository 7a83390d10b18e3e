"""What a plan for a GPU asks for: 8-bit optimisers where they help and work, fused steps where they can be taken."""

from __future__ import annotations

import sys
from dataclasses import replace
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from torch import nn

from atelier.config.settings.schema import Settings
from atelier.training.memory import plan as plan_module
from atelier.training.memory.optimizer import SMALL_STATE, optimizer_bytes, state_bytes
from atelier.training.memory.plan import eight_bit_works, make_memory_plan
from atelier.training.memory.prediction import Prediction
from atelier.training.memory.request import Request, request_for

MB = 1 << 20


def predicted(request: Request) -> Prediction:
    """A run whose optimiser is all that its memory is made of."""
    optimizer = 100 * MB if "8bit" in request.optimizer else 400 * MB
    return Prediction(
        base=0, text_and_vae=0, borrowed=0, trained=0, gradients=0, optimizer=optimizer, activations=0, kept=0,
        caching=0, step=optimizer, update=optimizer,
    )  # fmt: skip


@pytest.mark.parametrize(("whole", "chosen"), [(True, "AdamW8bit"), (False, "AdamW")])
def test_an_adapter_is_never_given_an_8_bit_optimiser(whole: bool, chosen: str) -> None:
    request = Request("sd1", "{}", 512, 512, 1, "{}", device="cuda", whole_model=whole)
    assert make_memory_plan(request, 200 * MB, predicted, eight_bit=True).request.optimizer == chosen


def test_bitsandbytes_has_to_take_a_step(monkeypatch: pytest.MonkeyPatch) -> None:
    """Without a library for torch's CUDA it imports as if all was well, and raises at its first kernel."""

    class Broken:
        def __init__(self, *_: Any, **__: Any) -> None: ...

        def step(self) -> None:
            raise RuntimeError("Attempted to use bitsandbytes native library functionality but it's not available")

    class Works(Broken):
        def step(self) -> None: ...

    ones = torch.ones
    monkeypatch.setattr(torch, "ones", lambda *size, **_: ones(*size))  # no GPU is needed for either
    for optimizer, works in ((Broken, False), (Works, True)):
        fake = SimpleNamespace(optim=SimpleNamespace(AdamW8bit=optimizer))
        monkeypatch.setitem(sys.modules, "bitsandbytes", fake)
        eight_bit_works.cache_clear()
        assert eight_bit_works() is works
    eight_bit_works.cache_clear()
    assert plan_module.eight_bit_works is eight_bit_works


def test_small_tensors_have_32_bit_moments_in_8_bit_optimisers() -> None:
    small, large = nn.Parameter(torch.zeros(SMALL_STATE - 1)), nn.Parameter(torch.zeros(SMALL_STATE))
    assert optimizer_bytes([small], "AdamW8bit", "[]") == 8 * (SMALL_STATE - 1)
    assert (
        optimizer_bytes([large], "AdamW8bit", "[]")
        == int(SMALL_STATE * state_bytes("AdamW8bit", "[]"))
        < 3 * SMALL_STATE
    )
    assert optimizer_bytes([small, large], "AdamW", "[]") == int((2 * SMALL_STATE - 1) * state_bytes("AdamW", "[]"))


@pytest.mark.parametrize(
    ("precision", "processes", "fused"), [("bf16", 1, True), ("fp16", 1, False), ("bf16", 2, False)]
)
def test_a_step_that_cannot_be_fused_is_not_predicted_so(
    precision: str, processes: int, fused: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("atelier.training.memory.request.process_count", lambda: processes)
    settings = Settings(fused_backward_pass=True, train_whole_model=True, optimizer_type="Adafactor")
    request = request_for(settings, "sd1", {}, (512, 512), 1, precision)
    assert request.fused is fused
    assert not replace(request, accumulates=True).fused
