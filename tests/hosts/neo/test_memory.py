"""How Forge Neo's memory management is asked, against a stand-in that says it has a GPU."""

from __future__ import annotations

import sys
from types import SimpleNamespace
from typing import Any

import pytest
import torch

from atelier.hosts.neo.host import NeoHost
from tests.support.forge_fakes import NeoModel


class Loaded:
    """An entry of what is loaded. Its patcher is held weakly by Forge Neo: it may be None."""

    def __init__(self, patcher: Any, done: list[str]) -> None:
        self.patcher, self.done = patcher, done
        self.model = None if patcher is None else SimpleNamespace(is_clone=lambda other: other is patcher)

    def model_unload(self) -> None:
        self.done.append("unloaded")

    def model_use_more_vram(self, size: float) -> None:
        self.done.append(f"{size:g} more")
        self.patcher.model.to("meta")


class Gpu:
    """A memory manager that says it has a GPU, which is the device "meta" here."""

    def __init__(self, moves: bool) -> None:
        self.asked: list[Any] = []
        self.done: list[str] = []
        self.current_loaded_models = [Loaded(None, self.done)]
        self._moves = moves

    def get_torch_device(self) -> torch.device:
        return torch.device("meta")

    def soft_empty_cache(self, force: bool = False) -> None:
        self.done.append(f"emptied {force}")

    def load_models_gpu(self, patchers: list[Any], memory_required: int, force_full_load: bool) -> None:
        self.asked.append((patchers, memory_required, force_full_load))
        self.current_loaded_models += [Loaded(patcher, self.done) for patcher in patchers]
        if self._moves:
            for patcher in patchers:
                patcher.model.to("meta")


def on_a_gpu(neo: Any, monkeypatch: pytest.MonkeyPatch, moves: bool = True) -> tuple[Any, NeoHost, Gpu]:
    """The objects of a loaded model, the host, and the memory manager that it asks."""
    objects = neo.load(kind=NeoModel).forge_objects
    objects.vae.patcher = SimpleNamespace(model=objects.vae.first_stage_model)
    for patcher in (objects.unet, objects.clip.patcher, objects.vae.patcher):
        patcher.load_device = torch.device("meta")
    gpu = Gpu(moves)
    monkeypatch.setattr(sys.modules["backend"], "memory_management", gpu)
    return objects, NeoHost(), gpu


def test_the_model_is_asked_for_whole_with_room_beside_it_and_once(neo: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    objects, host, gpu = on_a_gpu(neo, monkeypatch)
    host.memory.ask(5 * 1024**3)
    for _ in range(2):
        host.load_to_device()
    patchers = [objects.unet, objects.clip.patcher, objects.vae.patcher]
    assert gpu.asked == [(patchers, 5 * 1024**3, True)] and gpu.done == []
    host.restore_placement()
    assert gpu.done == ["emptied True"]


def test_layers_that_it_left_in_the_processor_s_memory_are_fetched(neo: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    objects, host, gpu = on_a_gpu(neo, monkeypatch, moves=False)
    host.load_to_device()
    assert gpu.done == ["1e+32 more"] * 3
    assert all(weight.device.type == "meta" for weight in objects.unet.model.parameters())


def test_the_unet_rests_and_is_taken_from_the_list_before_it_is_unloaded(
    neo: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    objects, host, gpu = on_a_gpu(neo, monkeypatch)
    host.load_to_device()
    monkeypatch.setattr(
        Loaded, "model_unload", lambda self: gpu.done.append(f"unloaded, listed: {self in gpu.current_loaded_models}")
    )
    host.bring_without_unet()
    assert gpu.done == ["unloaded, listed: False", "emptied False"]
    assert gpu.asked[-1][0] == [objects.clip.patcher, objects.vae.patcher]
