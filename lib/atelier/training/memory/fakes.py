"""Models of fake tensors, which have shapes and no memory, for a prediction. Used inside `FakeTensorMode`."""

from __future__ import annotations

import json
from types import SimpleNamespace
from typing import Any

import torch
from diffusers import AutoencoderKL, UNet2DConditionModel
from torch import Tensor, nn

from atelier.models.family import Parts
from atelier.models.registry import family_named
from atelier.models.unet.ldm_names import TEXT_PARTS
from atelier.models.views.attention import use_sound_attention
from atelier.models.views.from_ldm import TEXT_CLASSES
from atelier.models.views.view import build_empty
from atelier.training.memory.request import Request


class FakeTokenizer:
    """A tokenizer that returns ids of the right shape."""

    eos_token_id = pad_token_id = bos_token_id = 0

    def __call__(self, captions: list[str], max_length: int, **options: Any) -> Any:
        return SimpleNamespace(input_ids=torch.zeros(len(captions), max_length, dtype=torch.long))


def fake_parts(request: Request) -> Parts:
    """The model on fake tensors."""
    configs: dict[str, dict[str, Any]] = json.loads(request.configs)
    base = stand_in(request.base_dtype, request.autocast)
    kinds = zip(TEXT_PARTS, TEXT_CLASSES[request.family], strict=False)
    encoders = [fake(kind, configs[name], base) for name, kind in kinds if name in configs]
    unet = fake(UNet2DConditionModel, configs["unet"], base)
    vae_dtype = stand_in(request.vae_dtype, request.autocast)
    vae = fake(AutoencoderKL, configs["vae"], vae_dtype) if "vae" in configs else None
    if request.device == "cpu":
        for module in (unet, vae):
            if module is not None:
                use_sound_attention(module)
    return Parts(family_named(request.family), unet, encoders, [], vae)


def stand_in(dtype: str, autocast: str | None) -> torch.dtype:
    """The precision to simulate. fp16 and bf16 are exchanged when autocast is fp16: they have the same size, and all
    versions of torch know autocast to bf16 on a CPU. Weights that have autocast's precision already are not copied."""
    if autocast == "float16":
        dtype = {"float16": "bfloat16", "bfloat16": "float16"}.get(dtype, dtype)
    return getattr(torch, dtype)


def refill(network: nn.Module) -> None:
    """Replaces an adapter network's weights and buffers by fake tensors of the same shapes."""
    for module in network.modules():
        for name, weight in module.named_parameters(recurse=False):
            empty = torch.empty_like(weight, device=weight.device, requires_grad=False)
            setattr(module, name, nn.Parameter(empty, weight.requires_grad))
        for name, values in module.named_buffers(recurse=False):
            setattr(module, name, torch.empty_like(values))


def fake(kind: type[nn.Module], config: dict[str, Any], dtype: torch.dtype) -> nn.Module:
    """A module of fake tensors, each with its own storage."""
    module = build_empty(kind, config).eval().requires_grad_(False)
    recast(module, dtype)
    for owner in module.modules():
        for name, buffer in list(owner._buffers.items()):
            if buffer is not None:
                owner._buffers[name] = torch.zeros(buffer.shape, dtype=buffer.dtype)
    return module


def recast(module: nn.Module, dtype: torch.dtype) -> None:
    """Replaces the parameters by new ones in `dtype`, since `Module.to` cannot exchange fake ones."""
    for owner in module.modules():
        for name, parameter in list(owner._parameters.items()):
            if parameter is not None:
                fresh = torch.empty(parameter.shape, dtype=dtype)
                owner._parameters[name] = nn.Parameter(fresh, requires_grad=parameter.requires_grad)


def fake_pixels(request: Request, count: int, dtype: torch.dtype) -> Tensor:
    """Pictures [count, 3, H, W] for the VAE, in the order in which it encodes them on the request's device.

    A GPU without tensor cores takes them otherwise and needs as little.
    """
    pixels = torch.empty(count, 3, request.height, request.width, dtype=dtype)
    last = request.counts_workspaces and dtype != torch.float32
    return pixels.contiguous(memory_format=torch.channels_last) if last else pixels
