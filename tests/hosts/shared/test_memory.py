"""The memory of a GPU, where the WebUI's device has no index as AUTOMATIC1111's has none."""

from __future__ import annotations

import pytest
import torch

from atelier.hosts.shared.memory import DeviceMemory

GB = 1 << 30


def old_mem_get_info(device: object = None) -> tuple[int, int]:
    """torch 2.1.2's refuses a device without an index."""
    if isinstance(device, torch.device) and device.index is None:
        raise ValueError("Expected a torch.device with a specified index or an integer, but got:cuda")
    number = device.index if isinstance(device, torch.device) else device
    return {0: (1 * GB, 8 * GB), 1: (3 * GB, 12 * GB)}[number]  # type: ignore[index]


@pytest.fixture(autouse=True)
def gpus(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "mem_get_info", old_mem_get_info)
    monkeypatch.setattr(torch.cuda, "current_device", lambda: 1)
    monkeypatch.setattr(torch.cuda, "memory_reserved", lambda device: 2 * GB)
    monkeypatch.setattr(torch.cuda, "memory_allocated", lambda device: GB // 2)


def test_a_device_without_an_index_is_the_current_one() -> None:
    memory = DeviceMemory(lambda: torch.device("cuda"))
    assert memory.free() == 3 * GB + 3 * GB // 2 and memory.total() == 12 * GB


def test_a_device_with_an_index_is_that_one() -> None:
    memory = DeviceMemory(lambda: torch.device("cuda:0"))
    assert memory.free() == GB + 3 * GB // 2 and memory.total() == 8 * GB
