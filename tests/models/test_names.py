"""Names: our tables against diffusers' converters and against the module names of kohya's LoRA files."""

from __future__ import annotations

import csv
from pathlib import Path

import pytest
import torch
from diffusers import UNet2DConditionModel
from diffusers.loaders.single_file_utils import convert_ldm_unet_checkpoint, convert_ldm_vae_checkpoint
from torch import nn

from atelier.models.assets import released_config
from atelier.models.checkpoints.save import save_checkpoint
from atelier.models.checkpoints.tensor_file import SafetensorsFile
from atelier.models.registry import family_named, recognise
from atelier.models.unet.ldm_names import TEXT_PARTS, LdmNames, take
from atelier.models.views.configs import structure_of
from atelier.models.views.from_ldm import TEXT_CLASSES, clip_keys
from atelier.models.views.view import alias, build_empty
from tests.support.models_tiny import FAMILY_NAMES, tiny_parts


def ldm_state(family: str, folder: Path) -> dict[str, torch.Tensor]:
    path = folder / f"{family}.safetensors"
    save_checkpoint(path, tiny_parts(family))
    with SafetensorsFile(path) as file:
        return {name: file.read(name) for name in file.shapes}


@pytest.mark.parametrize("family", FAMILY_NAMES)
def test_unet_and_vae_names_agree_with_diffusers(family: str, tmp_path: Path) -> None:
    parts = tiny_parts(family)
    state = ldm_state(family, tmp_path)
    unet = convert_ldm_unet_checkpoint(dict(state), dict(parts.denoiser.config))
    assert parts.vae is not None
    vae = convert_ldm_vae_checkpoint(dict(state), dict(parts.vae.config))
    for module, found in ((parts.denoiser, unet), (parts.vae, vae)):
        wanted = module.state_dict()
        assert wanted.keys() == found.keys()
        assert all(torch.equal(found[name].reshape(tensor.shape), tensor) for name, tensor in wanted.items())


@pytest.mark.parametrize("family", FAMILY_NAMES)
def test_names_lead_back_to_where_they_came_from(family: str, tmp_path: Path) -> None:
    state = ldm_state(family, tmp_path)
    shapes = {name: tuple(tensor.shape) for name, tensor in state.items()}
    assert recognise(shapes).name == family
    names = LdmNames(structure_of(family, shapes))
    seen = set()
    for key in state:
        targets = names.targets(key)
        assert targets, key
        for target in targets:
            assert names.source(target.part, target.name) == (key, target.form)
            assert (target.part, target.name) not in seen
            seen.add((target.part, target.name))


def test_joint_projection_is_taken_apart_without_copies() -> None:
    joint = torch.arange(18.0).reshape(6, 3)
    pieces = [take(joint, form) for form in "qkv"]
    assert torch.equal(torch.cat(pieces), joint)
    assert [piece.data_ptr() - joint.data_ptr() for piece in pieces] == [0, 24, 48]
    assert take(joint, "transposed").data_ptr() == joint.data_ptr()


def test_pieces_of_inference_tensors_and_of_parameters_can_be_shared() -> None:
    with torch.inference_mode():
        joint = torch.randn(6, 3)
    shared = alias(take(joint, "k"))
    assert shared.data_ptr() == joint[2:].data_ptr() and not shared.is_inference()
    parameter = nn.Parameter(torch.randn(6, 3))
    assert not alias(take(parameter, "v")).requires_grad


def lora_names(family_name: str, with_convolutions: bool) -> set[str]:
    """kohya's rule: every layer of the transformers; with 3x3 convolutions, also of resnets and samplers."""
    family = family_named(family_name)
    unet = build_empty(UNet2DConditionModel, released_config(family_name, "unet"))
    blocks = ("Transformer2DModel",)
    if with_convolutions:
        blocks += ("ResnetBlock2D", "Downsample2D", "Upsample2D")
    names = set()
    for path, block in unet.named_modules():
        if type(block).__name__ in blocks:
            for inner, layer in block.named_modules():
                if isinstance(layer, (nn.Linear, nn.Conv2d)):
                    names.add(family.denoiser_lora_name(f"{path}.{inner}"))
    for index, kind in enumerate(TEXT_CLASSES[family_name]):
        encoder = build_empty(kind, clip_keys(released_config(family_name, TEXT_PARTS[index])))
        for path, block in encoder.named_modules():
            if type(block).__name__ == "CLIPEncoderLayer":
                for inner, layer in block.named_modules():
                    if isinstance(layer, nn.Linear):
                        names.add(family.text_lora_name(index, f"{path}.{inner}"))
    return names


@pytest.mark.parametrize(("family", "plain", "whole"), [("sd1", 264, 350), ("sd2", 330, 416), ("sdxl", 986, 1052)])
def test_lora_names_are_those_of_kohya(root: Path, family: str, plain: int, whole: int) -> None:
    with (root / "tests" / "fixtures" / "kohya" / f"lora_modules_{family}.tsv").open(encoding="utf-8") as file:
        rows = list(csv.DictReader(file, delimiter="\t"))
    expected = {row["module"] for row in rows if row["in_plain_lora"] == "yes"}
    assert len(expected) == plain
    assert lora_names(family, with_convolutions=False) == expected
    everything = {row["module"] for row in rows}
    assert len(everything) == whole
    assert lora_names(family, with_convolutions=True) == everything
