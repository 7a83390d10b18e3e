"""What convolutions need beside their tensors: cuDNN rearranges what goes in and what comes out, before and after."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import Tensor
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.nn import functional

from atelier.config.settings.schema import Settings
from atelier.models.family import HasReleasedShape
from atelier.models.registry import family_named
from atelier.models.unet.vae_encoding import is_channels_last, ordered_for
from atelier.training.inputs import latents as latents_module
from atelier.training.inputs.latents import LatentEncoder
from atelier.training.memory.prediction import Prediction, predict
from atelier.training.memory.request import Request, configs_of_parts, request_for
from atelier.training.memory.tracking import LiveBytes
from atelier.training.memory.vae import predict_vae
from tests.support.models_tiny import tiny_parts

SIDE = 256
MAP = 32 * SIDE * SIDE * 2
"""Bytes of a feature map of the first stage of the VAE below, in half precision."""


def half(device: str, **vae: Any) -> Request:
    """A small model in fp16 whose VAE needs more than its step does."""
    family = family_named("sd1")
    assert isinstance(family, HasReleasedShape)
    configs = configs_of_parts(family.empty(small=True))
    configs["vae"] |= {"block_out_channels": [32] * 4, "norm_num_groups": 8, **vae}
    settings = Settings(network_dim=4, network_alpha=4, network_train_unet_only=True, gradient_checkpointing=True)
    return request_for(
        settings, "sd1", configs, (SIDE, SIDE), 1, "fp16", base_dtype="float16", vae_dtype="float16", device=device
    )


def beside(found: Prediction) -> float:
    """Feature maps that a run needs beside its weights while pictures are cached."""
    return (found.caching - found.base - found.optimizer - found.kept - found.trained) / MAP


@pytest.mark.slow
def test_a_run_on_a_gpu_counts_them_while_pictures_are_cached() -> None:
    """Three maps in half precision, which keeps its channels last; in float32 two more, for the rearranged ones."""
    assert 3 <= beside(predict(half("cuda"))) < 3.5
    assert 2 * 5 <= beside(predict(replace(half("cuda"), vae_dtype="float32"))) < 2 * 5.5
    assert 2 * 3 <= beside(predict(replace(half("cpu"), vae_dtype="float32"))) < 2 * 3.5


def test_a_step_on_a_gpu_counts_them() -> None:
    """Of the UNet's convolutions, forward and backward."""
    assert predict(half("cuda")).activations > predict(replace(half("cuda"), device="xpu")).activations


def test_the_vae_alone_is_predicted_for_both_ways() -> None:
    """A sample is decoded by diffusers' own decoder, which keeps more maps than the encoder of ours."""
    request = half("cuda")
    found = predict_vae(request)
    assert 3 <= found.encoding / MAP < 3.5 and found.decoding > 1.5 * found.encoding
    full = predict_vae(replace(request, vae_dtype="float32"))
    assert full.encoding > 3 * found.encoding and full.decoding >= 2 * found.decoding
    with pytest.raises(KeyError):
        predict_vae(replace(request, configs=json.dumps({})))


@pytest.mark.parametrize(
    ("capability", "dtype", "last"),
    [((8, 6), torch.float16, True), ((7, 0), torch.bfloat16, True), ((6, 1), torch.float16, False),
     ((8, 6), torch.float32, False)],
)  # fmt: skip
def test_pictures_are_ordered_as_tensor_cores_want_them(
    capability: tuple[int, int], dtype: torch.dtype, last: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda device: capability)
    pixels = torch.rand(1, 3, 16, 16).to(dtype)
    assert is_channels_last(ordered_for(torch.device("cuda"), pixels)) is last
    assert torch.equal(ordered_for(torch.device("cuda"), pixels), pixels)
    assert ordered_for(torch.device("cpu"), pixels) is pixels
    monkeypatch.setattr(torch.version, "hip", "6.2")
    assert ordered_for(torch.device("cuda"), pixels) is pixels


@pytest.mark.parametrize(("order", "beside"), [(torch.contiguous_format, 1.0), (torch.channels_last, 0.0)])
def test_what_has_its_channels_last_is_not_rearranged(order: torch.memory_format, beside: float) -> None:
    x = torch.empty(1, 16, 64, 64).to(memory_format=order)  # 256 kB
    weight = torch.empty(16, 16, 3, 3)
    size, weights = x.numel() * 4, weight.numel() * 4

    def peak(work: Callable[[Tensor, Tensor], object]) -> int:
        with FakeTensorMode(allow_non_fake_inputs=True) as mode, LiveBytes(workspaces=True) as live:
            given = mode.from_tensor(x), mode.from_tensor(weight)
            live.add(given)
            work(*given)
            return live.peak - size - weights

    def backward(x: Tensor, weight: Tensor) -> object:
        where = [16], [1, 1], [1, 1], [1, 1], False, [0, 0], 1, [True, False, False]  # of what went in alone
        return torch.ops.aten.convolution_backward(torch.empty_like(x), x, weight, *where)

    assert peak(lambda x, weight: functional.conv2d(x, weight, padding=1)) == size + beside * (2 * size + weights)
    assert peak(backward) == 2 * size + beside * (2 * size + weights)


class Full:
    """Runs out of memory for so many calls, as a device does."""

    def __init__(self, times: int, usual: Callable[..., Any]) -> None:
        self.left, self.usual, self.seen = times, usual, []  # type: ignore[var-annotated]

    def __call__(self, family: Any, vae: Any, pixels: Tensor) -> Any:
        self.seen.append((pixels.shape[0], not pixels.is_contiguous()))
        if self.left:
            self.left -= 1
            raise torch.cuda.OutOfMemoryError("CUDA out of memory.")
        return self.usual(family, vae, pixels)


def test_an_encoding_that_does_not_fit_is_tried_with_channels_last_first(monkeypatch: pytest.MonkeyPatch) -> None:
    """A saving of the denoiser's memory would not help it, and would slow the whole run."""
    parts, keys = tiny_parts("sd1"), ["a", "b"]
    pixels = torch.rand(2, 3, 32, 32) * 2 - 1
    expected = LatentEncoder(parts, None, 2).encode(pixels, keys)
    once = Full(1, latents_module.posterior)
    monkeypatch.setattr(latents_module, "posterior", once)
    found = LatentEncoder(parts, None, 2).encode(pixels, keys)
    assert once.seen == [(2, False), (1, True), (1, True)]
    torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-5)
    monkeypatch.setattr(latents_module, "posterior", Full(9, once.usual))
    with pytest.raises(torch.cuda.OutOfMemoryError):
        LatentEncoder(parts, None, 2).encode(pixels, keys)


def test_channels_stay_last_through_the_encoder() -> None:
    """Norms give channels first on a GPU: what each convolution is given is put in order again."""
    parts, orders = tiny_parts("sd1"), []
    vae: Any = parts.vae
    usual = functional.conv2d

    def conv2d(x: Tensor, *given: Any) -> Tensor:
        orders.append(x.is_contiguous(memory_format=torch.channels_last))
        return usual(x, *given)

    norm = torch.nn.functional.group_norm
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(torch.nn.functional, "conv2d", conv2d)
        patch.setattr(torch.nn.functional, "group_norm", lambda x, *given: norm(x, *given).contiguous())
        parts.family.posterior(vae, torch.rand(1, 3, 32, 32).contiguous(memory_format=torch.channels_last))
    resnets = sum(2 * len(block.resnets) for block in vae.encoder.down_blocks)
    assert sum(orders) >= 1 + resnets
