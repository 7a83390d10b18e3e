"""The way of Forge and its kin to keep a model, over tiny random ones: what their adapters are tested against."""

from __future__ import annotations

import sys
from pathlib import Path
from threading import Lock
from types import ModuleType, SimpleNamespace
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from atelier.models.family import Parts
from atelier.models.unet.ldm_names import TEXT_PARTS, UNET_PREFIX, VAE_PREFIX, LdmNames
from atelier.models.views.configs import structure_from_configs
from tests.support.models_tiny import modules_of, tiny_parts

ENCODERS = {"sd1": ("clip_l",), "sd2": ("clip_h",), "sdxl": ("clip_l", "clip_g")}


class Loader:
    """Forge's LoraLoader: exchanges the tensors that a LoRA changes and keeps the old ones."""

    def __init__(self, model: nn.Module) -> None:
        self.model, self.loaded_hash = model, "[]"
        self.backup: dict[str, nn.Parameter] = {}

    def refresh(self, patches: dict[str, dict[str, float]]) -> None:
        if str(list(patches)) == self.loaded_hash:
            return
        for name, tensor in self.backup.items():
            put(self.model, name, tensor)
        self.backup = {}
        for changes in patches.values():
            for name, amount in changes.items():
                self.backup[name] = self.model.get_parameter(name)
                with torch.inference_mode():
                    put(self.model, name, nn.Parameter(self.backup[name] + amount, requires_grad=False))
        self.loaded_hash = str(list(patches))


class Patcher:
    """What Forge moves and patches: a module with the LoRAs that it is to wear."""

    def __init__(self, model: Any) -> None:
        self.model = model
        self.lora_patches: dict[str, dict[str, float]] = {}
        if not hasattr(model, "lora_loader"):
            model.lora_loader = Loader(model)

    def clone(self) -> Patcher:
        return Patcher(self.model)

    def refresh_loras(self) -> None:
        self.model.lora_loader.refresh(self.lora_patches)


class Backups:
    """reForge's patcher: clones share what a LoRA has taken the place of."""

    def __init__(self, model: nn.Module, backup: dict[str, nn.Parameter] | None = None) -> None:
        self.model, self.backup = model, {} if backup is None else backup
        model.device = torch.device("cpu")

    def clone(self) -> Backups:
        return Backups(self.model, self.backup)

    def wear(self, changes: dict[str, float]) -> None:
        for name, amount in changes.items():
            self.backup[name] = self.model.get_parameter(name)
            with torch.inference_mode():
                put(self.model, name, nn.Parameter(self.backup[name] + amount, requires_grad=False))

    def unpatch_model(self, device_to: torch.device) -> None:
        for name, tensor in self.backup.items():
            put(self.model, name, nn.Parameter(tensor, requires_grad=False))
        self.backup.clear()
        self.model.to(device_to)


class Objects(SimpleNamespace):
    """`forge_objects`."""

    def shallow_copy(self) -> Objects:
        return Objects(**vars(self))


class StableDiffusion:
    """A Forge engine over `parts`, with inference tensors under an LDM file's names."""

    def __init__(self, parts: Parts, path: Path, text_dtype: torch.dtype = torch.float32) -> None:
        family = parts.family.name
        self.parts = parts
        self.is_sd1, self.is_sd2, self.is_sdxl = family == "sd1", family == "sd2", family == "sdxl"
        self.is_inpaint = False
        self.model_config = SimpleNamespace(ztsnr=False)
        self.sd_checkpoint_info = SimpleNamespace(filename=str(path), name_for_extra=path.stem)
        self.sd_model_hash, self.current_lora_hash = "abc", "[]"
        modules = modules_of(parts)
        names = LdmNames(structure_from_configs(family, dict(parts.denoiser.config), dict(parts.vae.config)))
        k_model = nn.Module()
        k_model.diffusion_model = ldm_module(modules["unet"], "unet", names, UNET_PREFIX)
        k_model.storage_dtype = torch.float32
        k_model.predictor = SimpleNamespace(prediction_type="epsilon")
        texts = nn.Module()
        for part, name in zip(TEXT_PARTS, ENCODERS[family], strict=False):
            holder = nn.Module()
            holder.transformer = text_module(modules[part], text_dtype)
            setattr(texts, name, holder)
        vae = SimpleNamespace(first_stage_model=ldm_module(modules["vae"], "vae", names, VAE_PREFIX))
        clip = SimpleNamespace(cond_stage_model=texts, patcher=Patcher(texts))
        self.forge_objects_original = Objects(unet=Patcher(k_model), clip=clip, vae=vae)
        self.forge_objects = self.forge_objects_original.shallow_copy()
        self.forge_objects_after_applying_lora = self.forge_objects_original.shallow_copy()

    def wear(self, changes: dict[str, float], name: str = "a.safetensors") -> None:
        """What a picture with a LoRA leaves: amounts added to tensors of the UNet."""
        patcher = self.forge_objects_original.unet.clone()
        patcher.lora_patches = {name: changes}
        patcher.refresh_loras()
        self.current_lora_hash = str([[name, 1.0, 1.0, False]])
        self.forge_objects.unet = patcher


class NeoModel(StableDiffusion):
    """Forge Neo's engine since July 2026: Forge's, with patchers like reForge's."""

    def __init__(self, parts: Parts, path: Path, text_dtype: torch.dtype = torch.float32) -> None:
        super().__init__(parts, path, text_dtype)
        objects = self.forge_objects_original
        for root in (objects.unet.model, objects.clip.patcher.model):
            del root.lora_loader
        objects.unet, objects.clip.patcher = Backups(objects.unet.model), Backups(objects.clip.patcher.model)
        self.forge_objects = objects.shallow_copy()
        self.forge_objects_after_applying_lora = objects.shallow_copy()

    def wear(self, changes: dict[str, float], name: str = "a.safetensors") -> None:
        patcher = self.forge_objects_original.unet.clone()
        patcher.wear(changes)
        self.current_lora_hash = str([[name, 1.0, 1.0, False]])
        self.forge_objects.unet = patcher


class ReForgeModel(StableDiffusion):
    """reForge's model: the same objects under another memory management, and A1111's flags, wrong for SD2."""

    def __init__(self, parts: Parts, path: Path, text_dtype: torch.dtype = torch.float32) -> None:
        super().__init__(parts, path, text_dtype)
        self.is_sd1, self.is_sd2 = not self.is_sdxl, False
        if self.is_sdxl:  # the projection lies beside the text encoder, turned about
            holder = self.forge_objects_original.clip.cond_stage_model.clip_g
            weight = holder.transformer.text_projection.weight
            del holder.transformer.text_projection
            with torch.inference_mode():
                holder.text_projection = nn.Parameter(weight.T.contiguous(), requires_grad=False)
        objects = self.forge_objects_original
        del objects.unet.model.storage_dtype, objects.unet.model.predictor
        del objects.unet.model.lora_loader, objects.clip.patcher.model.lora_loader
        objects.unet.model.model_type = SimpleNamespace(name="EPS")
        objects.unet, objects.clip.patcher = Backups(objects.unet.model), Backups(objects.clip.patcher.model)
        self.forge_objects = objects.shallow_copy()


def put(module: nn.Module, name: str, tensor: nn.Parameter) -> None:
    path, _, leaf = name.rpartition(".")
    setattr(module.get_submodule(path), leaf, tensor)


def nested(tensors: dict[str, Tensor]) -> nn.Module:
    """Modules that hold `tensors` under their dotted names, as inference tensors."""
    root = nn.Module()
    with torch.inference_mode():
        for name, tensor in tensors.items():
            module = root
            path, _, leaf = name.rpartition(".")
            for step in path.split("."):
                if not hasattr(module, step):
                    module.add_module(step, nn.Module())
                module = getattr(module, step)
            module.register_parameter(leaf, nn.Parameter(tensor.clone(), requires_grad=False))
    return root


def ldm_module(module: nn.Module, part: str, names: LdmNames, prefix: str) -> nn.Module:
    found = {}
    for name, tensor in module.named_parameters():
        key, form = names.source(part, name)
        found[key.removeprefix(prefix)] = tensor[:, :, None, None] if form == "conv" else tensor
    return nested(found)


def text_module(module: nn.Module, dtype: torch.dtype) -> nn.Module:
    """As Forge keeps every text encoder: with a projection, and a wrapper that holds the embedding a second time."""
    tensors = {name: tensor.to(dtype) for name, tensor in module.named_parameters()}
    width = next(tensor for name, tensor in tensors.items() if name.endswith("final_layer_norm.weight")).shape[0]
    tensors.setdefault("text_projection.weight", torch.eye(width, dtype=dtype))
    root = nested(tensors)
    embedding = next(name for name in tensors if name.endswith("token_embedding.weight"))
    owner = root.get_submodule(embedding.rpartition(".")[0])
    wrapped = nn.Module()
    wrapped.weight = owner.weight
    owner.add_module("wrapped", wrapped)
    return root


@pytest.fixture
def forge(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> SimpleNamespace:
    """The modules that the adapters import from Forge; `forge.load(family)` loads a tiny model."""
    path = tmp_path / "base.safetensors"
    path.write_bytes(b"")
    sd_models = ModuleType("modules.sd_models")
    sd_models.model_data = SimpleNamespace(sd_model=SimpleNamespace(cond_stage_model=None), forge_hash="one")
    call_queue = ModuleType("modules.call_queue")
    call_queue.queue_lock = Lock()
    shared = ModuleType("modules.shared")
    shared.cmd_opts = SimpleNamespace(lora_dir=str(tmp_path / "Lora"), ckpt_dir=None)
    paths = ModuleType("modules.paths_internal")
    paths.data_path, paths.models_path = str(tmp_path), str(tmp_path / "models")
    memory = ModuleType("backend.memory_management")
    memory.get_torch_device = lambda: torch.device("cpu")
    ldm_patched, ldm_modules = ModuleType("ldm_patched"), ModuleType("ldm_patched.modules")
    ldm_modules.model_management = memory
    networks = ModuleType("networks")
    networks.loaded_networks = ["a"]
    networks.listed = []
    networks.list_available_networks = lambda: networks.listed.append(True)
    networks.load_lora_state_dict = SimpleNamespace(cache_clear=lambda: networks.listed.append("read anew"))
    root, backend = ModuleType("modules"), ModuleType("backend")
    root.sd_models, root.call_queue, root.shared, root.paths_internal = sd_models, call_queue, shared, paths
    backend.memory_management = memory
    modules = (root, backend, sd_models, call_queue, shared, paths, memory, networks, ldm_patched, ldm_modules)
    for module in modules:
        monkeypatch.setitem(sys.modules, module.__name__, module)

    def load(
        family: str = "sd1", text_dtype: torch.dtype = torch.float32, kind: type[StableDiffusion] = StableDiffusion
    ) -> StableDiffusion:
        sd_models.model_data.sd_model = kind(tiny_parts(family), path, text_dtype)
        return sd_models.model_data.sd_model

    return SimpleNamespace(load=load, sd_models=sd_models, networks=networks, path=path, lock=call_queue.queue_lock)
