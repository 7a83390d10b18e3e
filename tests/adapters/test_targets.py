"""Names and numbers of adapted layers against the lists of files that kohya's scripts write."""

from __future__ import annotations

import hashlib

import pytest
import torch

from atelier.adapters.layers.targets import find_targets
from atelier.models.families.sd1 import FAMILY as SD1
from atelier.models.family import Parts
from tests.support.adapters_models import XlNames, sdxl_unet, text_encoder, unet


def parts_of(family: str) -> Parts:
    with torch.device("meta"):
        if family == "sdxl":
            encoders = [text_encoder(12), text_encoder(32, projection=True)]
            return Parts(XlNames(), sdxl_unet(), encoders)
        return Parts(SD1, unet(use_linear_projection=family == "sd2"), [text_encoder({"sd1": 12, "sd2": 23}[family])])


def digest(names: list[str]) -> str:
    return hashlib.sha256("\n".join(sorted(names)).encode()).hexdigest()[:16]


@pytest.mark.parametrize(
    ("family", "convolutions", "unet_count", "text_count", "names"),
    [
        ("sd1", False, 192, 72, "3b0b58f74c4028ff"),
        ("sd1", True, 278, 72, "44edcda39c262433"),
        ("sd2", False, 192, 138, "1d7e05c4353d4a57"),
        ("sd2", True, 278, 138, "22bce914ca3c4d0c"),
        ("sdxl", False, 722, 264, "1063b91c0a4164d0"),
        ("sdxl", True, 788, 264, "231dc80db7c1b20b"),
    ],
)
def test_names_are_those_of_kohyas_files(
    family: str, convolutions: bool, unet_count: int, text_count: int, names: str
) -> None:
    """`names` is a digest of the sorted module names of a file that sd-scripts wrote for the full-size model."""
    targets = find_targets(parts_of(family), convolutions=convolutions)
    assert sum(target.part == "unet" for target in targets) == unet_count
    assert sum(target.part != "unet" for target in targets) == text_count
    assert digest([target.name for target in targets]) == names


def test_parts_can_be_left_out_and_text_encoders_come_first() -> None:
    parts = parts_of("sd1")
    assert {target.part for target in find_targets(parts, text_encoders=False)} == {"unet"}
    assert {target.part for target in find_targets(parts, unet=False)} == {"text_encoder"}
    order = [target.part for target in find_targets(parts)]
    assert order == sorted(order)


def test_a_target_knows_its_layer() -> None:
    parts = parts_of("sd1")
    by_name = {target.name: target for target in find_targets(parts, convolutions=True)}
    shortcut = by_name["lora_unet_down_blocks_1_resnets_0_conv_shortcut"]
    assert shortcut.is_conv and not shortcut.is_spatial and not shortcut.plain
    assert by_name["lora_unet_down_blocks_0_downsamplers_0_conv"].is_spatial
    assert by_name["lora_unet_down_blocks_0_attentions_0_proj_in"].plain
    for target in by_name.values():
        root = parts.denoiser if target.part == "unet" else parts.text_encoders[0]
        assert root.get_submodule(target.path) is target.module
