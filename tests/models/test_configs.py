"""Configurations from shapes: the released models give exactly their released configurations."""

from __future__ import annotations

import json
from typing import Any

import pytest
from diffusers import AutoencoderKL, UNet2DConditionModel

from atelier.config.errors import AtelierError
from atelier.models.assets import released_config
from atelier.models.registry import family_named, recognise
from atelier.models.unet.ldm_names import TEXT_PARTS, LdmNames
from atelier.models.views.configs import structure_from_configs
from atelier.models.views.from_ldm import TEXT_CLASSES, configs_of
from atelier.models.views.view import build_empty
from tests.support.models_tiny import FAMILY_NAMES, tiny_configs


def ldm_shapes(family: str, configs: dict[str, dict[str, Any]]) -> dict[str, tuple[int, ...]]:
    """The tensor names and shapes of an LDM file of these configurations; nothing is allocated."""
    names = LdmNames(structure_from_configs(family, configs["unet"], configs["vae"]))
    kinds = {"unet": UNet2DConditionModel, "vae": AutoencoderKL}
    kinds.update(zip(TEXT_PARTS, TEXT_CLASSES[family], strict=False))
    shapes: dict[str, tuple[int, ...]] = {}
    for part, config in configs.items():
        for name, parameter in build_empty(kinds[part], config).named_parameters():
            key, form = names.source(part, name)
            shape = tuple(parameter.shape)
            if form in ("q", "k", "v"):
                shape = (3 * shape[0], *shape[1:])
            shapes[key] = shape[::-1] if form == "transposed" else (*shape, 1, 1) if form == "conv" else shape
    if family == "sd2":
        stem = "cond_stage_model.model.transformer.resblocks."
        last = configs["text_encoder"]["num_hidden_layers"]
        for key in [key for key in shapes if key.startswith(f"{stem}0.")]:
            shapes[key.replace(f"{stem}0.", f"{stem}{last}.")] = shapes[key]
    return shapes


def released(family: str) -> dict[str, dict[str, Any]]:
    parts = ["unet", "vae", *TEXT_PARTS[: len(TEXT_CLASSES[family])]]
    return {part: released_config(family, part) for part in parts}


@pytest.mark.parametrize(
    ("family", "unet", "vae", "text"), [("sd1", 686, 248, 196), ("sd2", 686, 248, 292), ("sdxl", 1680, 248, 585)]
)
def test_released_models_have_their_released_configurations(family: str, unet: int, vae: int, text: int) -> None:
    shapes = ldm_shapes(family, released(family))
    assert sum(key.startswith("model.diffusion_model.") for key in shapes) == unet
    assert sum(key.startswith("first_stage_model.") for key in shapes) == vae
    assert recognise(shapes).name == family
    found = configs_of(family_named(family), shapes)
    # SD2's text projection, 1024 wide in the file, is not part of its text encoder's module.
    assert json.loads(json.dumps(found)) == released(family)
    assert sum(key.startswith(("cond_stage_model.", "conditioner.")) for key in shapes) == text


@pytest.mark.parametrize("family", FAMILY_NAMES)
def test_custom_widths_and_depths_are_found(family: str) -> None:
    configs = tiny_configs(family)
    configs["unet"]["layers_per_block"] = 2 if family == "sdxl" else 1
    found = configs_of(family_named(family), ldm_shapes(family, configs))
    for part, config in configs.items():
        # A projection that the module does not have leaves no trace in the shapes.
        unseen = () if part == "text_encoder_2" else ("projection_dim",)
        for key, value in config.items():
            if key not in unseen:
                assert found[part][key] == value, (part, key)


def test_text_encoders_saved_without_their_outer_name() -> None:
    shapes = {
        key.replace("cond_stage_model.transformer.text_model.", "cond_stage_model.transformer."): shape
        for key, shape in ldm_shapes("sd1", released("sd1")).items()
    }
    assert configs_of(recognise(shapes), shapes) == released("sd1")


def test_incomplete_models_are_told() -> None:
    shapes = ldm_shapes("sd1", tiny_configs("sd1"))
    without_output = {key: shape for key, shape in shapes.items() if ".out.2." not in key}
    with pytest.raises(AtelierError, match="output layer are missing"):
        configs_of(family_named("sd1"), without_output)
    without_text = {key: shape for key, shape in shapes.items() if "token_embedding" not in key}
    with pytest.raises(AtelierError, match="no text encoder"):
        configs_of(family_named("sd1"), without_text)
    uneven = dict(shapes)
    for key in [key for key in shapes if "input_blocks.2.0." in key]:
        uneven[key.replace("input_blocks.2.0.", "input_blocks.12.0.")] = shapes[key]
    with pytest.raises(AtelierError, match="different numbers of blocks"):
        configs_of(family_named("sd1"), uneven)
