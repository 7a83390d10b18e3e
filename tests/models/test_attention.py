"""Plain attention where torch's fused one for processors is not sound, and the fused one everywhere else."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from diffusers import UNet2DConditionModel
from torch.nn import functional

from atelier.models.views.attention import TORCHS, flash_is_sound, use_sound_attention
from atelier.models.views.view import view_of
from tests.support.models_tiny import tiny_parts


def unet() -> UNet2DConditionModel:
    torch.manual_seed(0)
    return UNet2DConditionModel(
        sample_size=8, block_out_channels=(8, 16), layers_per_block=1, norm_num_groups=4, cross_attention_dim=8,
        attention_head_dim=2, down_block_types=("CrossAttnDownBlock2D", "DownBlock2D"),
        up_block_types=("UpBlock2D", "CrossAttnUpBlock2D"),
    )  # fmt: skip


def kinds(module: UNet2DConditionModel) -> set[str]:
    return {type(processor).__name__ for processor in module.attn_processors.values()}


def test_which_torch_is_sound() -> None:
    cpu = torch.device("cpu")
    assert not flash_is_sound(cpu, "2.1.2+cu121") and not flash_is_sound(cpu, "2.2.0")
    assert flash_is_sound(cpu, "2.3.1") and flash_is_sound(cpu, "2.13.0+cpu")
    assert flash_is_sound(torch.device("cuda"), "2.1.2")


def test_an_old_torch_gets_plain_attention_that_computes_the_same() -> None:
    plain, other = unet(), unet()
    use_sound_attention(plain, "2.1.2")
    use_sound_attention(other, "2.13.0")
    assert kinds(plain) == {"AttnProcessor"} and kinds(other) == {"AttnProcessor2_0"}
    latents, states = torch.randn(2, 4, 8, 8), torch.randn(2, 7, 8)
    outputs = [each(latents, torch.tensor([5, 900]), states).sample for each in (plain, other)]
    torch.testing.assert_close(*outputs)


def test_an_attention_without_a_backward_pass_in_torchs_place_is_not_used(monkeypatch: pytest.MonkeyPatch) -> None:
    """As SD.Next puts SageAttention there for the whole process: a quarter of the layers would learn nothing."""
    calls = []

    def sage(query: torch.Tensor, *more: Any, **named: Any) -> torch.Tensor:
        calls.append(query.shape)
        with torch.no_grad():
            return TORCHS(query, *more, **named)

    parts = tiny_parts("sd1")
    states, latents = torch.randn(1, 77, parts.denoiser.config["cross_attention_dim"]), torch.randn(1, 4, 16, 16)
    ids = torch.arange(77)[None] % 40
    expected = [view_of(parts.denoiser)(latents, 5, states).sample, view_of(parts.text_encoders[0])(ids)[0]]
    monkeypatch.setattr(functional, "scaled_dot_product_attention", sage)
    denoiser, encoder = view_of(parts.denoiser), view_of(parts.text_encoders[0])
    for module in (denoiser, encoder):
        module.requires_grad_(True)
    found = [denoiser(latents, 5, states).sample, encoder(ids)[0]]
    for one, other in zip(found, expected):
        torch.testing.assert_close(one, other, rtol=1e-4, atol=1e-5)
        one.square().sum().backward()
    queries = [
        parameter
        for module in (denoiser, encoder)
        for name, parameter in module.named_parameters()
        if name.endswith(("to_q.weight", "to_k.weight", "q_proj.weight", "k_proj.weight"))
    ]
    assert len(queries) > 4
    still = [parameter.shape for parameter in queries if parameter.grad is None or not bool(parameter.grad.any())]
    assert still == []
    assert calls == []
    assert functional.scaled_dot_product_attention is sage, "the process keeps what it has"
