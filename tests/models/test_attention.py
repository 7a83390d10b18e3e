"""Plain attention where torch's fused one for processors is not sound, and the fused one everywhere else."""

from __future__ import annotations

import torch
from diffusers import UNet2DConditionModel

from atelier.models.views.attention import flash_is_sound, use_sound_attention


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
