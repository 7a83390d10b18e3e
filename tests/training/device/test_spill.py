"""Windows, whose drivers move what does not fit into the computer's memory: torch is kept to what is free."""

from __future__ import annotations

import sys
from dataclasses import replace

import pytest
import torch

from atelier.training.device.spill import CAP, HELP, RESERVE, SpillWatch, kept_within
from atelier.training.memory.plan import make_memory_plan
from atelier.training.memory.prediction import Prediction
from atelier.training.memory.request import Request

GB = 1 << 30
CUDA = torch.device("cuda")


class Card:
    """A GPU of 8 GB in a Windows machine."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.free, self.reserved, self.fraction = 3 * GB, 2 * GB, 1.0
        self.seen: list[float] = []
        monkeypatch.setattr(sys, "platform", "win32")
        monkeypatch.setattr(torch.cuda, "current_device", lambda: 0)
        monkeypatch.setattr(torch.cuda, "mem_get_info", lambda index: (self.free, 8 * GB))
        monkeypatch.setattr(torch.cuda, "memory_reserved", lambda index: self.reserved)
        monkeypatch.setattr(torch.cuda, "get_per_process_memory_fraction", lambda index: self.fraction, raising=False)
        monkeypatch.setattr(torch.cuda, "set_per_process_memory_fraction", self.set)

    def set(self, fraction: float, index: int) -> None:
        self.fraction = fraction
        self.seen.append(fraction)


@pytest.fixture
def card(monkeypatch: pytest.MonkeyPatch) -> Card:
    return Card(monkeypatch)


def test_in_a_turn_torch_takes_no_more_than_is_free(card: Card) -> None:
    with kept_within(CUDA):
        assert card.fraction == pytest.approx((5 * GB - CAP) / (8 * GB))
    assert card.fraction == 1.0


def test_what_the_process_was_kept_to_is_put_back_on_every_way_out(card: Card) -> None:
    card.fraction = 0.25
    with pytest.raises(ZeroDivisionError), kept_within(CUDA):
        assert card.fraction == 0.25, "never more than the WebUI allows itself"
        raise ZeroDivisionError
    assert card.fraction == 0.25


@pytest.mark.parametrize(("platform", "device"), [("linux", "cuda"), ("win32", "cpu")])
def test_nothing_is_set_elsewhere(card: Card, platform: str, device: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "platform", platform)
    with kept_within(torch.device(device)):
        pass
    assert card.seen == [] and SpillWatch(torch.device(device)).step_done(1e9) is None


def test_little_free_memory_is_told_once(card: Card) -> None:
    watch = SpillWatch(CUDA)
    assert watch.step_done(1.0) is None
    card.free = GB // 10
    assert watch.step_done(1.0) == HELP and watch.step_done(1.0) is None


def test_steps_that_take_far_longer_than_before_are_told(card: Card) -> None:
    watch = SpillWatch(CUDA)
    assert [watch.step_done(seconds) for seconds in [9.0, *[1.0] * 8, 4.0, 1.0, 4.0, 4.0]] == [None] * 13
    assert watch.step_done(4.0) == HELP


def test_a_plan_leaves_more_free_there(monkeypatch: pytest.MonkeyPatch) -> None:
    prediction = Prediction(
        base=GB, text_and_vae=0, borrowed=GB, trained=0, gradients=0, optimizer=0, activations=GB, kept=0,
        caching=2 * GB, step=2 * GB, update=GB,
    )  # fmt: skip
    request = Request("sd1", "{}", 512, 512, 1, "{}", device="cuda", gradient_checkpointing=True)
    needed = int(GB * 1.1)

    def fits(free: int, device: str = "cuda") -> bool:
        return make_memory_plan(replace(request, device=device), free, lambda _: prediction, False).fits

    assert fits(needed) and not fits(needed - 1)
    monkeypatch.setattr(sys, "platform", "win32")
    assert not fits(needed) and fits(needed + RESERVE) and not fits(needed + RESERVE - 1)
