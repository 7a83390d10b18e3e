"""A1111 with medvram, which keeps its model on the processor and fetches parts as they compute: what a turn moves."""

from __future__ import annotations

import sys
from types import ModuleType, SimpleNamespace

import pytest
import torch
from torch import nn

from atelier.hosts.a1111.host import A1111Host
from atelier.hosts.a1111.placement import Placement
from atelier.hosts.shared.lease import WebUILease
from atelier.hosts.shared.resting_lease import RestingLease

GPU = torch.device("meta")
"""A device that every machine has."""


@pytest.fixture
def model(monkeypatch: pytest.MonkeyPatch) -> SimpleNamespace:
    """The parts of a loaded model, on the processor, inside a fake WebUI."""
    found = SimpleNamespace(
        lowvram=True, model=nn.Linear(2, 2), first_stage_model=nn.Linear(2, 2), cond_stage_model=nn.Linear(2, 2)
    )
    names = ("modules", "modules.devices", "modules.lowvram", "modules.sd_models")
    root, devices, lowvram, models = (ModuleType(name) for name in names)
    devices.device, devices.cpu, devices.torch_gc = GPU, torch.device("cpu"), lambda: None
    lowvram.sent = []
    lowvram.send_everything_to_cpu = lambda: lowvram.sent.append(True)
    models.model_data = SimpleNamespace(sd_model=found)
    root.devices, root.lowvram, root.sd_models = devices, lowvram, models
    for module in (root, devices, lowvram, models):
        monkeypatch.setitem(sys.modules, module.__name__, module)
    return found


@pytest.fixture
def host() -> A1111Host:
    """Without the folders of a real WebUI."""
    made = A1111Host.__new__(A1111Host)
    made._placement = Placement()
    return made


def places(model: SimpleNamespace) -> list[str]:
    """Where UNet, VAE and text encoder are."""
    return [part.weight.device.type for part in (model.model, model.first_stage_model, model.cond_stage_model)]


def test_the_whole_model_or_all_but_the_unet_comes_to_the_device(host: A1111Host, model: SimpleNamespace) -> None:
    assert host.can_offload_denoiser
    host.bring_without_unet()
    assert places(model) == ["cpu", "meta", "meta"] and sys.modules["modules.lowvram"].sent
    host.load_to_device()
    assert places(model) == ["meta", "meta", "meta"]


def test_what_was_brought_goes_back(host: A1111Host, model: SimpleNamespace, monkeypatch: pytest.MonkeyPatch) -> None:
    went = []
    for name in ("model", "first_stage_model", "cond_stage_model"):
        part = getattr(model, name)
        monkeypatch.setattr(part, "to", lambda device, name=name: went.append((name, str(device))))
    host.bring_without_unet()
    went.clear()
    host.restore_placement()
    assert went == [("model", "cpu"), ("first_stage_model", "cpu"), ("cond_stage_model", "cpu")]


def test_without_medvram_nothing_is_moved(host: A1111Host, model: SimpleNamespace) -> None:
    model.lowvram = False
    assert not host.can_offload_denoiser
    host.load_to_device()
    host.restore_placement()
    assert places(model) == ["cpu", "cpu", "cpu"] and not sys.modules["modules.lowvram"].sent


@pytest.mark.parametrize("place", ["cpu", "meta"])
def test_without_medvram_every_part_stays_where_the_webui_has_it(
    place: str, host: A1111Host, model: SimpleNamespace
) -> None:
    """On the device as a rule; with none, or while the WebUI has unloaded its checkpoint, on the CPU."""
    model.lowvram = False
    parts = (model.model, model.first_stage_model, model.cond_stage_model)
    for part in parts:
        part.to(place)
    weights = [part.weight for part in parts]
    host.load_to_device()
    assert places(model) == [place] * 3
    host.restore_placement()
    assert places(model) == [place] * 3 and not sys.modules["modules.lowvram"].sent
    assert all(part.weight is weight for part, weight in zip(parts, weights))


def test_what_was_brought_goes_back_once(
    host: A1111Host, model: SimpleNamespace, monkeypatch: pytest.MonkeyPatch
) -> None:
    """And only what was: between two loans the WebUI's hooks have a part on the device, which is theirs to move."""
    went: list[tuple[str, str]] = []
    freed: list[bool] = []
    monkeypatch.setattr(sys.modules["modules.devices"], "torch_gc", lambda: freed.append(True))
    for name in ("model", "first_stage_model", "cond_stage_model"):
        monkeypatch.setattr(getattr(model, name), "to", lambda device, name=name: went.append((name, str(device))))
    host.restore_placement()
    assert went == [] and freed == []
    host.load_to_device()
    assert went == [("model", "meta"), ("first_stage_model", "meta"), ("cond_stage_model", "meta")]
    went.clear()
    for _ in range(2):
        host.restore_placement()
    assert went == [("model", "cpu"), ("first_stage_model", "cpu"), ("cond_stage_model", "cpu")] and freed == [True]


def test_a_model_that_is_gone_is_not_given_back(host: A1111Host, model: SimpleNamespace) -> None:
    host.bring_without_unet()
    models = sys.modules["modules.sd_models"]
    models.model_data.sd_model = None
    host.restore_placement()
    models.model_data.sd_model = model
    host.restore_placement()
    assert places(model) == ["cpu", "meta", "meta"], "it would be another model, which nobody brought"


def test_sdxl_keeps_its_text_encoders_under_another_name(
    host: A1111Host, model: SimpleNamespace, monkeypatch: pytest.MonkeyPatch
) -> None:
    model.conditioner, model.cond_stage_model = model.cond_stage_model, None
    host.load_to_device()
    assert model.conditioner.weight.device.type == "meta"
    went: list[str] = []
    monkeypatch.setattr(model.conditioner, "to", lambda device: went.append(str(device)))
    for part in (model.model, model.first_stage_model):
        monkeypatch.setattr(part, "to", lambda device: None)
    host.restore_placement()
    assert went == ["cpu"]


def test_with_medvram_the_views_rest_while_the_webui_may_move_parts(host: A1111Host, model: SimpleNamespace) -> None:
    assert type(host.lease(frozenset({"unet"}))) is RestingLease
    model.lowvram = False
    assert type(host.lease(frozenset({"unet"}))) is WebUILease
