"""LoRAs that A1111's last picture left in the weights are taken out, and a file written anew is read anew."""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path
from threading import Lock
from types import ModuleType, SimpleNamespace
from typing import Any

import pytest
from torch import nn

from atelier.hosts.a1111.host import A1111Host

WORN = (("cat", 1.0, 1.0, None),)


class Layer(nn.Linear):
    """A layer on which the Lora extension notes what is in its weight."""

    def __init__(self, names: Any = ()) -> None:
        super().__init__(2, 2)
        self.network_current_names = names


@pytest.fixture
def webui(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> SimpleNamespace:
    """A model with a LoRA in a layer of the UNet and in one of the text encoder, and the Lora extension."""
    model = SimpleNamespace(
        model=SimpleNamespace(diffusion_model=nn.Sequential(Layer(WORN), Layer(), nn.Linear(2, 2))),
        cond_stage_model=nn.Sequential(Layer(WORN)),
        first_stage_model=nn.Sequential(Layer(WORN)),
    )
    lock = Lock()
    cleaned: list[tuple[Any, bool]] = []

    def apply(layer: Any) -> None:
        """The extension makes a layer's weight anew, with the LoRAs that are loaded."""
        layer.network_current_names = tuple(networks.loaded_networks)
        cleaned.append((layer, lock.locked()))

    names = ("modules", "modules.call_queue", "modules.devices", "modules.paths_internal", "modules.sd_models",
             "modules.shared", "networks")  # fmt: skip
    made: dict[str, Any] = {name: ModuleType(name) for name in names}
    networks = made["networks"]
    networks.loaded_networks, networks.networks_in_memory, networks.listed = list(WORN), {"cat": object()}, 0
    networks.network_apply_weights = apply
    networks.list_available_networks = lambda: setattr(networks, "listed", networks.listed + 1)
    made["modules.call_queue"].queue_lock = lock
    made["modules.sd_models"].model_data = SimpleNamespace(sd_model=model)
    made["modules.shared"].cmd_opts = SimpleNamespace()
    made["modules.paths_internal"].data_path = made["modules.paths_internal"].models_path = str(tmp_path)
    for name, module in made.items():
        monkeypatch.setitem(sys.modules, name, module)
        if name.startswith("modules."):
            setattr(made["modules"], name.removeprefix("modules."), module)
    return SimpleNamespace(model=model, networks=networks, cleaned=cleaned, models=made["modules.sd_models"])


def dirty(webui: SimpleNamespace) -> list[Any]:
    """The layers that can have a LoRA and have one."""
    return [webui.model.model.diffusion_model[0], webui.model.cond_stage_model[0]]


def test_only_the_layers_with_a_lora_are_made_anew(webui: SimpleNamespace) -> None:
    worn = dirty(webui)
    A1111Host().remove_loras()
    assert [layer for layer, _ in webui.cleaned] == worn
    assert webui.networks.loaded_networks == [] and all(layer.network_current_names == () for layer in worn)
    A1111Host().remove_loras()
    assert len(webui.cleaned) == 2, "a clean base costs no arithmetic"


@pytest.mark.parametrize(("name", "cleaned"), [("cat", 2), ("dog", 0)])
def test_a_file_of_an_old_name_is_read_anew(webui: SimpleNamespace, name: str, cleaned: int) -> None:
    A1111Host().publish_lora(Path(f"{name}.safetensors"))
    assert webui.networks.listed == 1
    assert list(webui.networks.networks_in_memory) == ([] if cleaned else ["cat"])
    assert [held for _, held in webui.cleaned] == [True] * cleaned, "inside the queue"


@pytest.mark.parametrize("off", ["extension", "model"])
def test_without_the_extension_or_a_model_there_is_nothing_to_do(
    webui: SimpleNamespace, off: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    if off == "extension":
        monkeypatch.delitem(sys.modules, "networks")
    else:
        webui.models.model_data.sd_model = None
    do: list[Callable[[], None]] = [A1111Host().remove_loras, lambda: A1111Host().publish_lora(Path("cat.safetensors"))]
    for each in do:
        each()
    assert webui.cleaned == []
