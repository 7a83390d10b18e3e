"""Layers are found under the names that ComfyUI's files have for them, in each family."""

from __future__ import annotations

import pytest
import torch

from atelier.adapters.applied.apply import match_layers
from atelier.adapters.layers.names import LayerNames, all_layers, ldm_names
from atelier.adapters.tools.check import check_lora, family_of
from atelier.models.family import Parts
from atelier.models.registry import family_named
from tests.adapters.test_apply import in_memory
from tests.support.adapters_models import sd1_parts, sdxl_unet, text_encoder, unet

ENCODERS = {"sd1": ("clip_l",), "sd2": ("clip_h",), "sdxl": ("clip_l", "clip_g")}
"""ComfyUI's names of the text encoders, in the order of the model."""


def parts_of(family: str) -> Parts:
    """A small model of the family, without values."""
    with torch.device("meta"):
        encoders = [text_encoder(2, projection=name == "clip_g") for name in ENCODERS[family]]
        denoiser = sdxl_unet() if family == "sdxl" else unet(use_linear_projection=family == "sd2")
        return Parts(family_named(family), denoiser, encoders)


def comfy_name(parts: Parts, part: str, path: str, ldm: dict[str, str]) -> str:
    """What ComfyUI calls a layer: the text encoders as transformers does, the UNet by LDM's names."""
    if part == "unet":
        return f"diffusion_model.{ldm[path.replace('.', '_')].replace('_', '.')}"
    number = ("text_encoder", "text_encoder_2").index(part)
    root = "" if path.startswith(("text_model.", "text_projection")) else "text_model."
    return f"text_encoders.{ENCODERS[parts.family.name][number]}.transformer.{root}{path}"


@pytest.mark.parametrize("family", ENCODERS)
def test_every_layer_is_found_by_its_name_in_comfyui(family: str) -> None:
    parts = parts_of(family)
    names, ldm = LayerNames(parts), ldm_names(parts.denoiser)
    layers = all_layers(parts)
    assert {target.part for target in layers} == {"unet", *("text_encoder", "text_encoder_2")[: len(ENCODERS[family])]}
    for target in layers:
        found = names.find(comfy_name(parts, target.part, target.path, ldm))
        assert found is not None and found.name == target.name


@pytest.mark.parametrize(
    ("name", "kohya"),
    [
        (
            "text_encoders.clip_l.transformer.text_model.encoder.layers.0.mlp.fc1",
            "lora_te1_text_model_encoder_layers_0_mlp_fc1",
        ),
        (
            "text_encoders.clip_g.transformer.text_model.encoder.layers.1.self_attn.q_proj",
            "lora_te2_text_model_encoder_layers_1_self_attn_q_proj",
        ),
        ("diffusion_model.input_blocks.4.1.proj_in", "lora_unet_input_blocks_4_1_proj_in"),
        ("diffusion_model.middle_block.1.proj_out", "lora_unet_middle_block_1_proj_out"),
    ],
)
def test_these_are_the_names(name: str, kohya: str) -> None:
    found = LayerNames(parts_of("sdxl")).find(name)
    assert found is not None and found.name == kohya


def test_a_file_with_these_names_fits_and_its_family_is_told() -> None:
    parts = sd1_parts()
    layer = "text_encoders.clip_l.transformer.text_model.encoder.layers.0.mlp.fc1"
    tensors = {
        f"{layer}.lora_down.weight": torch.ones(2, 16), f"{layer}.lora_up.weight": torch.ones(32, 2),
        f"{layer}.alpha": torch.tensor(1.0),
    }  # fmt: skip
    file = in_memory(tensors)
    [(target, values)], unknown, _ = match_layers(parts, file)
    assert target.path.endswith("encoder.layers.0.mlp.fc1") and len(values) == 3 and not unknown
    found = check_lora(file, parts)
    assert (found.layout, found.matched, found.unmatched) == ("comfyui", 1, [])
    assert family_of({key.replace("clip_l", "clip_g"): () for key in tensors}) == "sdxl"
    assert family_of({key.replace("clip_l", "clip_h"): () for key in tensors}) == "sd2"
