"""Which layers of a model get an adapter, and what kohya calls them."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from torch import nn

from atelier.models.family import Parts

UNET_TRANSFORMERS = frozenset({"Transformer2DModel"})
UNET_CONVOLUTIONS = frozenset({"ResnetBlock2D", "Downsample2D", "Upsample2D"})
TEXT_BLOCKS = frozenset({"CLIPAttention", "CLIPSdpaAttention", "CLIPFlashAttention2", "CLIPMLP"})
"""Names of the classes whose layers are adapted; transformers 4 has one class for each way to attend."""

UNET = "unet"
TEXT_PARTS = ("text_encoder", "text_encoder_2")


@dataclass(frozen=True)
class Target:
    """One layer. `part` is "unet", "text_encoder" or "text_encoder_2"; `path` is its place in that part."""

    part: str
    path: str
    name: str
    """kohya's name: "lora_unet_mid_block_attentions_0_proj_in"."""
    module: nn.Module

    @property
    def is_conv(self) -> bool:
        return isinstance(self.module, nn.Conv2d)

    @property
    def is_spatial(self) -> bool:
        """A convolution with a window of more than one pixel: it has a rank of its own, conv_dim."""
        return isinstance(self.module, nn.Conv2d) and tuple(self.module.kernel_size) != (1, 1)

    @property
    def in_transformer(self) -> bool:
        """It belongs to what plain LoRA covers: text encoders and the UNet's transformers."""
        return self.part != UNET or ".attentions." in self.path


def find_targets(
    parts: Parts, unet: bool = True, text_encoders: bool = True, convolutions: bool = False
) -> list[Target]:
    """The layers to adapt, text encoders first, each part in the order of its own modules.

    Plain LoRA: every Linear and 1x1 convolution of the transformers. `convolutions` adds the residual blocks and
    samplers of the UNet with their 3x3 convolutions, 1x1 shortcuts and time embeddings.
    """
    found: list[Target] = []
    family = parts.family
    if text_encoders:
        for index, encoder in enumerate(parts.text_encoders):
            for path, module in layers_within(encoder, TEXT_BLOCKS):
                found.append(Target(TEXT_PARTS[index], path, family.text_lora_name(index, path), module))
    if unet:
        classes = UNET_TRANSFORMERS | UNET_CONVOLUTIONS if convolutions else UNET_TRANSFORMERS
        for path, module in layers_within(parts.denoiser, classes):
            found.append(Target(UNET, path, family.denoiser_lora_name(path), module))
    return found


def layers_within(root: nn.Module, classes: frozenset[str]) -> Iterator[tuple[str, nn.Module]]:
    """(path, layer) of every Linear and Conv2d under modules whose class is named in `classes`."""
    for block_path, block in root.named_modules():
        if type(block).__name__ not in classes:
            continue
        for path, module in block.named_modules():
            if isinstance(module, (nn.Linear, nn.Conv2d)):
                yield f"{block_path}.{path}" if block_path else path, module
