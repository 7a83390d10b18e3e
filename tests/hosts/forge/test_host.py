"""Forge's adapter against a stand-in with Forge's names, inference tensors and LoRAs."""

from __future__ import annotations

import sys
from types import ModuleType, SimpleNamespace
from typing import Any

import pytest
import torch

from atelier.config.errors import AtelierError
from atelier.hosts import detect
from atelier.hosts.contract import BaseGone
from atelier.hosts.forge.host import ForgeHost
from atelier.hosts.powers import chosen_model
from atelier.hosts.shared.borrowed import modules_of
from atelier.hosts.shared.forge_objects.refusals import NOT_YET
from atelier.models.family import Parts, SizeConditions
from atelier.models.text.clip_names import canonical
from tests.support.models_tiny import FAMILY_NAMES

ALL = frozenset(("unet", "text_encoder", "vae"))
LAYER = "diffusion_model.input_blocks.1.1.transformer_blocks.0.attn1.to_q.weight"


def predicted(parts: Parts) -> torch.Tensor:
    """The UNet's answer to a fixed input, through its family's own prompt encoding."""
    latents = torch.randn(1, 4, 8, 8, generator=torch.Generator().manual_seed(1))
    sizes = SizeConditions(*(torch.tensor([[64.0, 64.0]]) for _ in range(3)))
    text = parts.family.encode(parts, ["a red circle"], None, 75)
    return parts.family.predict(parts, latents, torch.tensor([500]), text, sizes)


@pytest.mark.parametrize("family", FAMILY_NAMES)
def test_all_parts_are_the_host_s_own_tensors_and_compute_the_same(forge: Any, family: str) -> None:
    model = forge.load(family)
    objects = model.forge_objects_original
    hosts = {
        tensor.data_ptr()
        for module in (
            objects.unet.model.diffusion_model, objects.vae.first_stage_model, objects.clip.cond_stage_model
        )
        for tensor in module.parameters()
    }  # fmt: skip
    with ForgeHost().lease(ALL) as parts:
        for module in modules_of(parts).values():
            assert all(tensor.data_ptr() in hosts for tensor in module.parameters())
            assert not any(tensor.is_inference() for tensor in module.parameters())
        with torch.no_grad():
            assert torch.equal(predicted(parts), predicted(model.parts))
            picture = torch.randn(1, 3, 32, 32, generator=torch.Generator().manual_seed(1))
            ours, theirs = (one.vae.encode(picture).latent_dist.mean for one in (parts, model.parts))
            assert torch.allclose(ours, theirs, atol=1e-6)


def test_gradients_pass_through_inference_tensors(forge: Any) -> None:
    forge.load()
    lease = ForgeHost().lease(ALL)
    with lease as parts, lease.turn():
        hidden = torch.randn(1, 77, 64, requires_grad=True)
        parts.denoiser(torch.randn(1, 4, 8, 8), torch.tensor([3]), encoder_hidden_states=hidden).sample.sum().backward()
        assert hidden.grad is not None and float(hidden.grad.abs().sum()) > 0


def test_a_half_precision_text_encoder_is_copied_on_a_processor(forge: Any) -> None:
    model = forge.load(text_dtype=torch.float16)
    kept = model.forge_objects.clip.cond_stage_model.clip_l.transformer
    theirs = {canonical(name): tensor for name, tensor in kept.named_parameters()}
    with ForgeHost().lease(ALL) as parts:
        for name, tensor in parts.text_encoders[0].named_parameters():
            assert tensor.dtype == torch.float32
            assert torch.equal(tensor, theirs[canonical(name)].float())
        assert not torch.isnan(predicted(parts)).any()


def test_parts_that_were_not_asked_for_are_not_lent(forge: Any) -> None:
    forge.load("sdxl")
    with ForgeHost().lease(frozenset(("unet",))) as parts:
        assert parts.text_encoders == [] and parts.vae is None


def test_a_merged_lora_is_taken_out_before_the_loan_and_on_every_turn(forge: Any) -> None:
    model = forge.load()
    before = model.forge_objects.unet.model.get_parameter(LAYER)
    model.wear({LAYER: 0.5})
    lease = ForgeHost().lease(ALL)
    with lease as parts:
        assert model.forge_objects.unet.model.get_parameter(LAYER) is before
        assert model.current_lora_hash == "[]" and forge.networks.loaded_networks == []
        with torch.no_grad():
            clean = predicted(parts)
        model.wear({LAYER: 0.25}, "b.safetensors")
        with lease.turn(), torch.no_grad():
            assert torch.equal(predicted(parts), clean)
        assert model.forge_objects.unet.model.get_parameter(LAYER) is before


def test_views_follow_a_base_that_was_moved(forge: Any) -> None:
    model = forge.load()
    lease = ForgeHost().lease(ALL)
    with lease as parts:
        with torch.no_grad():
            expected = predicted(parts)
        with torch.inference_mode():
            for parameter in model.forge_objects.unet.model.parameters():
                parameter.data = parameter.data.clone()
        hosts = {parameter.data_ptr() for parameter in model.forge_objects.unet.model.parameters()}
        with lease.turn(), torch.no_grad():
            assert all(parameter.data_ptr() in hosts for parameter in parts.denoiser.parameters())
            assert torch.equal(predicted(parts), expected)


def test_a_resting_loan_holds_no_memory_and_is_filled_again(forge: Any) -> None:
    forge.load()
    host = ForgeHost()
    borrowed = host.borrow(ALL)
    with torch.no_grad():
        expected = predicted(borrowed.parts)
    borrowed.rest()
    assert all(parameter.numel() == 0 for parameter in borrowed.parts.denoiser.parameters())
    assert borrowed.follow()
    with torch.no_grad():
        assert torch.equal(predicted(borrowed.parts), expected)
    assert not borrowed.follow()


def test_another_checkpoint_or_another_low_bits_choice_ends_the_turn(forge: Any) -> None:
    forge.load()
    lease = ForgeHost().lease(ALL)
    with lease:
        forge.sd_models.model_data.forge_hash = "two"
        with pytest.raises(BaseGone, match="no longer loaded"), lease.turn():
            pass
        assert not forge.lock.locked()


def test_the_placeholder_before_the_first_picture_is_no_model(forge: Any) -> None:
    host = ForgeHost()
    assert host.loaded_model() is None
    with pytest.raises(AtelierError, match="No model is loaded"), host.lease(ALL):
        pass
    forge.load("sd2")
    info = host.loaded_model()
    assert info is not None
    assert (info.family, info.prediction_type, info.dtype, info.refusal) == ("sd2", "epsilon", "float32", None)


def test_train_loads_the_chosen_checkpoint_that_no_picture_has_loaded_yet(
    forge: Any,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def reload() -> None:
        assert forge.lock.locked()
        forge.load("sdxl")

    monkeypatch.setattr(forge.sd_models, "forge_model_reload", reload, raising=False)
    info = chosen_model(ForgeHost())
    assert info is not None and info.family == "sdxl"

    def fail() -> None:
        raise ValueError("Failed to recognize model type!")

    monkeypatch.setattr(forge.sd_models, "forge_model_reload", fail)
    with pytest.raises(AtelierError, match="recognize"):
        chosen_model(ForgeHost())
    assert not forge.lock.locked()


@pytest.mark.parametrize(("storage", "named"), [("nf4", "nf4"), ("gguf", "GGUF"), (torch.float8_e4m3fn, "fp8 e4m3")])
def test_low_bits_are_refused_by_the_setting_s_name(forge: Any, storage: object, named: str) -> None:
    forge.load().forge_objects.unet.model.storage_dtype = storage
    info = ForgeHost().loaded_model()
    assert info is not None and info.refusal is not None
    assert "Diffusion in Low Bits" in info.refusal and named in info.refusal


@pytest.mark.parametrize("kind", sorted(NOT_YET))
def test_other_families_are_refused_by_name(forge: Any, kind: str) -> None:
    model = forge.load()
    model.__class__ = type(kind, (type(model),), {})
    info = ForgeHost().loaded_model()
    assert info is not None and info.family is None
    assert info.refusal is not None and NOT_YET[kind] in info.refusal


def test_inpainting_and_unknown_predictions_are_refused(forge: Any) -> None:
    model = forge.load()
    model.forge_objects.unet.model.predictor.prediction_type = "edm"
    info = ForgeHost().loaded_model()
    assert info is not None and "edm" in str(info.refusal)
    model.is_inpaint = True
    info = ForgeHost().loaded_model()
    assert info is not None and "inpainting" in str(info.refusal)


def test_a_lora_written_anew_is_read_and_merged_anew(forge: Any) -> None:
    model = forge.load()
    model.wear({LAYER: 0.5})
    ForgeHost().publish_lora(forge.path)
    assert forge.networks.listed == [True, "read anew"]
    assert model.current_lora_hash == ""
    patcher = model.forge_objects.unet
    patcher.lora_patches = {"a.safetensors": {LAYER: 0.75}}
    base = patcher.model.lora_loader.backup[LAYER]
    patcher.refresh_loras()
    assert torch.allclose(patcher.model.get_parameter(LAYER), base + 0.75)


def test_forge_is_told_from_the_others_by_what_it_has(forge: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    here = {"modules_forge", "backend", "modules.sd_models", "modules.lowvram", "modules.call_queue"}
    monkeypatch.setattr(detect, "has", here.__contains__)
    assert isinstance(detect.detect(), ForgeHost)


class Gpu:
    """A memory manager that says it has a GPU, and notes what is asked of it."""

    def __init__(self) -> None:
        self.asked: list[Any] = []
        self.current_loaded_models: list[Any] = []

    def get_torch_device(self) -> torch.device:
        return torch.device("cuda", 0)

    def soft_empty_cache(self) -> None:
        self.emptied = True

    def load_models_gpu(self, patchers: list[Any], hard_memory_preservation: int) -> None:
        self.asked.append((patchers, hard_memory_preservation))
        self.current_loaded_models = [Loaded(patcher) for patcher in patchers]
        next(patchers[0].model.modules()).prev_parameters_manual_cast = False


class Loaded:
    def __init__(self, patcher: Any) -> None:
        self.model, self.done = SimpleNamespace(is_clone=lambda other: other is patcher, patcher=patcher), []

    def model_unload(self) -> None:
        del next(self.model.patcher.model.modules()).prev_parameters_manual_cast
        self.done.append("unloaded")

    def model_load(self) -> None:
        self.done.append("loaded whole")


def on_a_gpu(forge: Any, monkeypatch: pytest.MonkeyPatch) -> tuple[Any, ForgeHost, Gpu]:
    """A loaded model, the host, and the memory manager that it asks."""
    model = forge.load()
    model.forge_objects.vae.patcher = SimpleNamespace(model=torch.nn.Module())
    host, gpu = ForgeHost(), Gpu()
    monkeypatch.setattr(sys.modules["backend"], "memory_management", gpu)
    return model, host, gpu


def test_on_a_gpu_the_model_is_asked_for_whole_with_room_beside_it(
    forge: Any,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    model, host, gpu = on_a_gpu(forge, monkeypatch)
    host.memory.ask(5 * 1024**3)
    host.load_to_device()
    patchers, room = gpu.asked[0]
    assert patchers[0] is model.forge_objects.unet and len(patchers) == 3 and room == 5 * 1024**3
    assert gpu.current_loaded_models[0].done == ["unloaded", "loaded whole"]


@pytest.mark.parametrize(("asked", "room"), [(None, 2), (0, 2), (1, 2), (2, 2), (3, 3)])
def test_the_room_beside_the_model_is_never_less_than_two_gigabytes(
    asked: int | None, room: int, forge: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What a small run asks for would leave Forge nothing to draw in; after the loan its usual room counts again."""
    monkeypatch.setitem(sys.modules, "modules.processing", ModuleType("modules.processing"))
    model, host, gpu = on_a_gpu(forge, monkeypatch)
    del model
    if asked is not None:
        host.memory.ask(asked * 1024**3)
    host.load_to_device()
    assert gpu.asked[-1][1] == room * 1024**3
    host.restore_placement()
    assert gpu.emptied and sys.modules["modules.processing"].need_global_unload
    host.load_to_device()
    assert gpu.asked[-1][1] == 2 * 1024**3


def test_a_model_that_is_there_is_not_brought_again_at_every_turn(forge: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """Forge prints a line and empties torch's cache each time that it is asked."""
    model, host, gpu = on_a_gpu(forge, monkeypatch)
    patchers = [model.forge_objects.unet, model.forge_objects.clip.patcher, model.forge_objects.vae.patcher]
    for patcher in patchers:
        patcher.model.to("meta")  # a device that every machine has
    monkeypatch.setattr(gpu, "get_torch_device", lambda: torch.device("meta"))
    for _ in range(3):
        host.load_to_device()
    assert len(gpu.asked) == 1
    host.memory.ask(5 * 1024**3)
    for _ in range(2):
        host.load_to_device()
    assert [room for _, room in gpu.asked][1:] == [5 * 1024**3], "more room is asked for once"
    gpu.current_loaded_models.pop()
    host.load_to_device()
    assert len(gpu.asked) == 3, "Forge has let go of a part"
    model.forge_objects.unet.model.to_empty(device="cpu")
    host.load_to_device()
    assert len(gpu.asked) == 4, "a part is in the CPU's memory"


def test_the_unet_rests_where_forge_keeps_it_while_it_does_not_draw(
    forge: Any,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    model, host, gpu = on_a_gpu(forge, monkeypatch)
    model.forge_objects.unet.offload_device = torch.device("cuda")
    assert not host.can_offload_denoiser  # all models stay on the GPU: there is no other place for it
    model.forge_objects.unet.offload_device = torch.device("cpu")
    assert host.can_offload_denoiser
    host.load_to_device()
    unet = gpu.current_loaded_models[0]
    unet.done.clear()
    next(unet.model.patcher.model.modules()).prev_parameters_manual_cast = False
    host.bring_without_unet()
    assert unet.done == ["unloaded"] and gpu.emptied
    patchers, _ = gpu.asked[-1]
    assert len(patchers) == 2 and model.forge_objects.unet not in patchers
