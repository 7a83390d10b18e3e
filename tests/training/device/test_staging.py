"""Weights that go to a device through two buffers: the right values, and no buffer written while it is read."""

from __future__ import annotations

import pytest
import torch

from atelier.training.device.staging import Staging, room_for

CPU = torch.device("cpu")


class Event:
    """Notes what is done to it, in one list for all."""

    log: list[str] = []
    made = 0

    def __init__(self) -> None:
        Event.made += 1
        self.number = Event.made

    def record(self) -> None:
        Event.log.append(f"record {self.number}")

    def synchronize(self) -> None:
        Event.log.append(f"wait {self.number}")


@pytest.fixture(autouse=True)
def fresh() -> None:
    Event.log, Event.made = [], 0


def groups() -> list[list[torch.Tensor]]:
    random = torch.Generator().manual_seed(0)
    return [
        [torch.randn(3, 5, generator=random), torch.randn(7, generator=random).half()],
        [torch.randn(2, 2, 3, 3, generator=random).bfloat16()],
        [torch.randn(1, generator=random), torch.randn(33, generator=random)],
    ]


def test_copies_are_the_tensors_in_memory_of_their_own() -> None:
    staging = Staging(CPU, max(map(room_for, groups())), pinned=False, event=Event)
    for tensors in [*groups(), *groups()]:
        found = staging.copies(tensors)
        for copy, tensor in zip(found, tensors, strict=True):
            assert copy.dtype == tensor.dtype and torch.equal(copy, tensor)
            tensor.zero_()
            assert bool(copy.abs().max() > 0), "a copy shares nothing with what it was made from"


def test_a_buffer_is_written_again_only_after_its_copies() -> None:
    staging = Staging(CPU, max(map(room_for, groups())), pinned=False, event=Event)
    for tensors in [*groups(), *groups()][:5]:
        staging.copies(tensors)
    assert Event.log == ["record 1", "record 2", "wait 1", "record 3", "wait 2", "record 4", "wait 3", "record 5"]


def test_the_room_is_what_is_used() -> None:
    tensors = groups()[0]
    Staging(CPU, room_for(tensors), pinned=False, event=Event).copies(tensors)
    with pytest.raises(RuntimeError):
        Staging(CPU, room_for(tensors) - 64, pinned=False, event=Event).copies(tensors)
