"""reForge's adapter against a stand-in with its backups of weights, its flags and its manager of memory."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest
import torch

from atelier.hosts import detect
from atelier.hosts.contract import BaseGone
from atelier.hosts.reforge.host import ReForgeHost
from atelier.hosts.shared.borrowed import modules_of
from tests.support.forge_fakes import ReForgeModel
from tests.support.models_tiny import FAMILY_NAMES

ALL = frozenset(("unet", "text_encoder", "vae"))
LAYER = "diffusion_model.input_blocks.1.1.transformer_blocks.0.attn1.to_q.weight"


@pytest.mark.parametrize("family", FAMILY_NAMES)
def test_every_part_is_shared_and_has_the_values_it_should(forge: Any, family: str) -> None:
    model = forge.load(family, kind=ReForgeModel)
    objects = model.forge_objects_original
    roots = (objects.unet.model, objects.vae.first_stage_model, objects.clip.cond_stage_model)
    hosts = {tensor.data_ptr() for root in roots for tensor in root.parameters()}
    with ReForgeHost().lease(ALL) as parts:
        wanted = modules_of(model.parts)
        for part, module in modules_of(parts).items():
            for name, tensor in module.named_parameters():
                assert tensor.data_ptr() in hosts
                assert torch.equal(tensor, wanted[part].get_parameter(name))


def test_a_merged_lora_is_taken_out_on_every_turn(forge: Any) -> None:
    model = forge.load(kind=ReForgeModel)
    lease = ReForgeHost().lease(ALL)
    with lease as parts:
        before = model.forge_objects_original.unet.model.get_parameter(LAYER).data_ptr()
        model.forge_objects.unet = model.forge_objects_original.unet.clone()
        model.forge_objects.unet.wear({LAYER: 0.5})
        model.current_lora_hash = "[['a', 1.0, 1.0]]"
        assert model.forge_objects_original.unet.model.get_parameter(LAYER).data_ptr() != before
        with lease.turn():
            assert model.forge_objects_original.unet.model.get_parameter(LAYER).data_ptr() == before
            assert before in {parameter.data_ptr() for parameter in parts.denoiser.parameters()}
        assert model.current_lora_hash == "[]"
        assert model.forge_objects.unet is model.forge_objects_original.unet


def test_what_it_predicts_and_low_bits(forge: Any) -> None:
    model = forge.load(kind=ReForgeModel)
    info = ReForgeHost().loaded_model()
    assert info is not None and info.prediction_type == "epsilon" and info.refusal is None
    model.parameterization = "v"
    info = ReForgeHost().loaded_model()
    assert info is not None and info.prediction_type == "v_prediction"
    unet = model.forge_objects_original.unet.model
    unet.to(torch.float8_e4m3fn)
    info = ReForgeHost().loaded_model()
    assert info is not None and "low bits" in str(info.refusal)


def test_a_model_that_is_taken_apart_is_gone(forge: Any) -> None:
    model = forge.load(kind=ReForgeModel)
    lease = ReForgeHost().lease(ALL)
    with lease:
        model.forge_objects.unet.model.diffusion_model = None
        assert ReForgeHost().loaded_model() is None
        with pytest.raises(BaseGone, match="has none"), lease.turn():
            pass
    model.forge_objects.unet = None
    assert not ReForgeHost().can_offload_denoiser and not lease.can_offload_denoiser


def test_a_checkpoint_is_chosen_by_its_title(forge: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    chosen: list[Any] = []
    models = forge.sd_models
    monkeypatch.setattr(models, "list_models", lambda: chosen.append("listed"), raising=False)
    info = SimpleNamespace(title="new [abc]")
    monkeypatch.setattr(models, "get_closet_checkpoint_match", {"base.safetensors": info}.get, raising=False)
    from modules import shared  # type: ignore[import-not-found]

    shared.opts = SimpleNamespace(set=lambda key, value: chosen.append((key, value)))
    ReForgeHost().publish_checkpoint(forge.path, load=False)
    assert chosen == ["listed"]
    ReForgeHost().publish_checkpoint(forge.path, load=True)
    assert chosen[-1] == ("sd_model_checkpoint", "new [abc]")


def test_reforge_is_told_from_forge_and_a1111(forge: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    here = {"modules_forge", "ldm_patched", "modules.hypernetworks", "modules.sd_models", "modules.lowvram"}
    monkeypatch.setattr(detect, "has", here.__contains__)
    assert type(detect.detect()) is ReForgeHost
