"""Runs the VAE's encoder with less memory and the same bits: large intermediate results are freed as soon as possible.

At 1024 px a feature map of the first stage has 256 MB in half precision. diffusers' own forward pass keeps up to five
of them at once; three are enough.

On a GPU with tensor cores cuDNN rearranges what goes into a convolution and what comes out, in a workspace: two maps
more. Where pixels have their channels last, all maps do, and three are enough again (`ordered_for`).
"""

from __future__ import annotations

from typing import Any

import torch
from diffusers import AutoencoderKL
from diffusers.models.autoencoders.vae import DiagonalGaussianDistribution
from diffusers.models.resnet import ResnetBlock2D
from diffusers.models.unets.unet_2d_blocks import DownEncoderBlock2D
from torch import Tensor, nn
from torch.nn import functional


@torch.no_grad()
def encode(vae: Any, pixels: Tensor) -> DiagonalGaussianDistribution:
    """The posterior of `vae.encode(pixels)` for pixels [B, 3, H, W] in the VAE's precision, on its device.

    An encoder that differs from Stable Diffusion's is called as usual. Pixels with channels last need less memory on
    a GPU, and round otherwise.
    """
    if not _is_usual(vae):
        return vae.encode(pixels).latent_dist
    encoder = vae.encoder
    hidden = encoder.conv_in(pixels)
    for block in encoder.down_blocks:
        for resnet in block.resnets:
            hidden = _resnet(resnet, hidden)
        for downsampler in block.downsamplers or ():
            hidden = downsampler(hidden)
    hidden = encoder.mid_block(hidden)
    hidden = functional.silu(encoder.conv_norm_out(hidden), inplace=True)
    moments = encoder.conv_out(hidden)
    if getattr(vae, "quant_conv", None) is not None:
        moments = vae.quant_conv(moments)
    return DiagonalGaussianDistribution(moments)


def _resnet(block: ResnetBlock2D, x: Tensor) -> Tensor:
    """norm, SiLU, conv, norm, SiLU, conv, plus the shortcut. At most `x` and two results of its size are in memory."""
    order = torch.channels_last if is_channels_last(x) else torch.preserve_format
    hidden = functional.silu(block.norm1(x), inplace=True)
    hidden = _ordered(hidden, order)  # on a line of its own: what was in the other order is free before the convolution
    hidden = block.conv1(hidden)
    hidden = functional.silu(block.norm2(hidden), inplace=True)
    hidden = _ordered(hidden, order)
    hidden = block.conv2(hidden)
    if block.conv_shortcut is not None:
        x = block.conv_shortcut(x)
    return hidden.add_(x).div_(block.output_scale_factor)


def ordered_for(device: torch.device, pixels: Tensor) -> Tensor:
    """`pixels` [B, 3, H, W] in the order in which the kernels of `device` compute in their precision."""
    if pixels.dtype == torch.float32 or device.type != "cuda" or not has_tensor_cores(device):
        return pixels
    return pixels.contiguous(memory_format=torch.channels_last)


def has_tensor_cores(device: torch.device) -> bool:
    """True for NVIDIA's GPUs since Volta. ROCm's kernels compute in the usual order."""
    return torch.version.hip is None and torch.cuda.get_device_capability(device) >= (7, 0)


def is_channels_last(x: Tensor) -> bool:
    """True for a tensor [B, C, H, W] whose channels lie side by side in memory."""
    return x.is_contiguous(memory_format=torch.channels_last) and not x.is_contiguous()


def _ordered(x: Tensor, order: torch.memory_format) -> Tensor:
    """Norms on a GPU give channels first, whatever they are given."""
    return x if order is torch.preserve_format else x.contiguous(memory_format=order)


def _is_usual(vae: Any) -> bool:
    """True for an encoder of DownEncoderBlock2D and ResnetBlock2D with SiLU, without tiles, slices or hooks."""
    if type(vae) is not AutoencoderKL or vae.use_tiling or vae.use_slicing:
        return False
    encoder = vae.encoder
    if not isinstance(encoder.conv_act, nn.SiLU) or _watched(encoder):
        return False
    for block in encoder.down_blocks:
        if type(block) is not DownEncoderBlock2D or _watched(block):
            return False
        if not all(_is_plain(resnet) for resnet in block.resnets):
            return False
    return True


def _is_plain(resnet: Any) -> bool:
    return (
        type(resnet) is ResnetBlock2D
        and isinstance(resnet.nonlinearity, nn.SiLU)
        and resnet.time_emb_proj is None
        and resnet.upsample is None
        and resnet.downsample is None
        and not (resnet.training and resnet.dropout.p)
        and not _watched(resnet)
    )


def _watched(module: nn.Module) -> bool:
    """True when the module has a replaced forward method or a hook."""
    return "forward" in vars(module) or bool(module._forward_hooks) or bool(module._forward_pre_hooks)
