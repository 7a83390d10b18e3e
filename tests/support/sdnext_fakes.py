"""SD.Next's way to keep a model, over tiny random ones: what its adapter is tested against."""

from __future__ import annotations

import sys
from pathlib import Path
from threading import Lock
from types import ModuleType, SimpleNamespace
from typing import Any

import pytest
import torch
from accelerate.hooks import AlignDevicesHook, add_hook_to_module
from torch import nn

from atelier.models.family import Parts
from tests.support.models_tiny import tiny_parts


class Pipeline(SimpleNamespace):
    """A diffusers pipeline as far as SD.Next's adapter looks at one."""

    def __init__(self, parts: Parts, path: Path, inference: bool) -> None:
        encoders = {
            "text_encoder" if index == 0 else f"text_encoder_{index + 1}": encoder
            for index, encoder in enumerate(parts.text_encoders)
        }
        super().__init__(unet=parts.denoiser, vae=parts.vae, **encoders)
        self.scheduler = SimpleNamespace(config={"prediction_type": "epsilon"})
        self.sd_checkpoint_info = SimpleNamespace(title=path.stem, path=str(path), filename=str(path))
        self.has_accelerate = False
        self.loaded_loras: dict[str, list[str]] = {}
        for module in self.modules():
            for name, parameter in list(module.named_parameters()):
                if inference:
                    with torch.inference_mode():
                        put(module, name, nn.Parameter(parameter.clone(), requires_grad=False))
            for name, layer in module.named_modules():
                layer.network_layer_name = name  # type: ignore[assignment]

    def modules(self) -> list[nn.Module]:
        return [value for value in vars(self).values() if isinstance(value, nn.Module)]


class Networks(ModuleType):
    """SD.Next's LoRAs: amounts that are added to weights, and subtracted without a backup or put back from one."""

    def __init__(self, common: ModuleType, modeldata: ModuleType, shared: ModuleType) -> None:
        super().__init__("modules.lora.networks")
        self.common, self.modeldata, self.shared = common, modeldata, shared

    def wear(self, changes: dict[str, float], fuse: bool = True, name: str = "a") -> None:
        """What a picture with a LoRA leaves in the UNet."""
        unet = self.modeldata.model_data.sd_model.unet
        for path, amount in changes.items():
            layer = unet.get_submodule(path)
            layer.network_weights_backup = True if fuse else layer.weight.clone()
            layer.network_current_names = ((name, 1.0),)
            layer.weight = nn.Parameter(layer.weight + amount, requires_grad=False)
        network = SimpleNamespace(name=name, changes=changes, fuse=fuse)
        self.common.loaded_networks.append(network)
        self.common.previously_loaded_networks.append(network)
        self.modeldata.model_data.sd_model.loaded_loras["all"] = [name]

    def network_deactivate(self) -> None:
        unet = self.modeldata.model_data.sd_model.unet
        for network in self.common.previously_loaded_networks:
            for path, amount in network.changes.items() if network.fuse else ():
                if not self.shared.state.interrupted:
                    layer = unet.get_submodule(path)
                    layer.weight = nn.Parameter(layer.weight - amount, requires_grad=False)
                    layer.network_current_names = ()

    def network_activate(self) -> None:
        for layer in self.modeldata.model_data.sd_model.unet.modules():
            backup = getattr(layer, "network_weights_backup", None)
            if isinstance(backup, torch.Tensor) and not self.shared.state.interrupted:
                layer.weight = nn.Parameter(backup, requires_grad=False)
                layer.network_current_names = ()


def put(module: nn.Module, name: str, tensor: nn.Parameter) -> None:
    path, _, leaf = name.rpartition(".")
    setattr(module.get_submodule(path), leaf, tensor)


@pytest.fixture
def sdnext(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> SimpleNamespace:
    """The modules that the adapter imports from SD.Next; `sdnext.load(family)` loads a tiny model."""
    path = tmp_path / "base.safetensors"
    path.write_bytes(b"")
    names = [
        "call_queue", "devices", "lora", "lora.lora_common", "lora.lora_load", "modeldata", "paths", "processing",
        "progress", "prompt_parser_diffusers", "sd_checkpoint", "sd_models", "sd_offload", "sd_unet", "sd_vae",
        "shared",
    ]  # fmt: skip
    made = {name: ModuleType(f"modules.{name}") for name in names}
    made["call_queue"].queue_lock = Lock()
    made["devices"].device = torch.device("cpu")
    made["progress"].pending_tasks = {}
    made["modeldata"].model_data = SimpleNamespace(sd_model=None)
    made["sd_unet"].loaded_unet = made["sd_vae"].loaded_vae_file = None
    made["prompt_parser_diffusers"].cache = {"a prompt": 1}
    shared, paths = made["shared"], made["paths"]
    shared.cmd_opts = SimpleNamespace(lora_dir=str(tmp_path / "Lora"))
    shared.opts = SimpleNamespace(ckpt_dir=None, lora_apply_te=False, lora_fuse_diffusers=False, sd_text_encoder=None)
    shared.state = SimpleNamespace(job="", interrupted=False)
    paths.data_path, paths.models_path, paths.script_path = str(tmp_path), str(tmp_path / "models"), str(tmp_path)
    paths.params_path = str(tmp_path / "params.txt")
    common, loads = made["lora.lora_common"], made["lora.lora_load"]
    common.loaded_networks, common.previously_loaded_networks = [], []
    loads.lora_cache, loads.listed = {}, []
    loads.list_available_networks = lambda: loads.listed.append(True)
    networks = Networks(common, made["modeldata"], shared)
    made["lora.networks"] = networks
    offloaded: list[bool] = []

    def set_diffuser_offload(pipe: Any, op: str, quiet: bool, force: bool) -> None:
        offloaded.append(force)
        hook(pipe)

    made["sd_models"].set_diffuser_offload = set_diffuser_offload
    root = ModuleType("modules")
    for name, module in made.items():
        parent, _, leaf = name.rpartition(".")
        setattr(made[parent] if parent else root, leaf, module)
        monkeypatch.setitem(sys.modules, module.__name__, module)
    monkeypatch.setitem(sys.modules, "modules", root)

    def load(family: str = "sd1", inference: bool = False) -> Pipeline:
        pipe = Pipeline(tiny_parts(family), path, inference)
        made["modeldata"].model_data.sd_model = pipe
        return pipe

    return SimpleNamespace(load=load, path=path, offloaded=offloaded, networks=networks, **{
        name.rpartition(".")[2]: module for name, module in made.items() if name not in ("lora", "lora.networks")
    })  # fmt: skip


def hook(pipe: Pipeline) -> None:
    """Sequential offloading: every weight is on meta, its values lie with a hook."""
    for module in pipe.modules():
        for layer in module.modules():
            if layer._parameters:
                values = {name: value.detach() for name, value in layer.named_parameters(recurse=False)}
                add_hook_to_module(layer, AlignDevicesHook("cpu", offload=True, weights_map=values))
    pipe.has_accelerate = True
