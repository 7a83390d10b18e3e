"""Chooses the layers of a model that get an adapter, with their names in kohya's files."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from torch import nn

from atelier.models.family import Parts

UNET = "unet"
TEXT_PARTS = ("text_encoder", "text_encoder_2")


@dataclass(frozen=True)
class Target:
    """One layer. `part`: "unet", "text_encoder" or "text_encoder_2". `path`: the layer's path in that part."""

    part: str
    path: str
    name: str
    """kohya's name, such as "lora_unet_mid_block_attentions_0_proj_in"."""
    module: nn.Module
    plain: bool = True
    """True when a plain LoRA, without a conv_dim, adapts the layer."""

    @property
    def is_conv(self) -> bool:
        return isinstance(self.module, nn.Conv2d)

    @property
    def is_spatial(self) -> bool:
        """True for a convolution with a kernel larger than 1x1, which has its own rank, conv_dim."""
        return isinstance(self.module, nn.Conv2d) and tuple(self.module.kernel_size) != (1, 1)


def find_targets(
    parts: Parts, unet: bool = True, text_encoders: bool = True, convolutions: bool = False
) -> list[Target]:
    """The layers to adapt, text encoders first, each part in the order of its modules.

    A plain LoRA has every Linear and 1x1 convolution of the transformer blocks. `convolutions` adds the residual blocks
    and samplers of the UNet with their 3x3 convolutions, 1x1 shortcuts and time embeddings.
    """
    found: list[Target] = []
    family, blocks = parts.family, parts.family.adaptable
    if text_encoders:
        for index, encoder in enumerate(parts.text_encoders):
            for path, module, _ in layers_within(encoder, blocks.text):
                found.append(Target(TEXT_PARTS[index], path, family.text_lora_name(index, path), module))
    if unet:
        classes = blocks.denoiser | blocks.convolutions if convolutions else blocks.denoiser
        for path, module, block in layers_within(parts.denoiser, classes):
            found.append(Target(UNET, path, family.denoiser_lora_name(path), module, block in blocks.denoiser))
    return found


def layers_within(root: nn.Module, classes: frozenset[str]) -> Iterator[tuple[str, nn.Module, str]]:
    """(path, layer, class of its block) of every Linear and Conv2d under modules whose class is in `classes`."""
    for block_path, block in root.named_modules():
        kind = type(block).__name__
        if kind not in classes:
            continue
        for path, module in block.named_modules():
            if isinstance(module, (nn.Linear, nn.Conv2d)):
                yield f"{block_path}.{path}" if block_path else path, module, kind
