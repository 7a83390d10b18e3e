"""The sampler: the same bits for the same seed, diffusers' own results, nobody else's random numbers."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from diffusers import StableDiffusionPipeline

from atelier.config.errors import AtelierError
from atelier.models.checkpoints.prediction import measured_prediction
from atelier.models.family import Parts
from atelier.models.sampling.sample import decode, sample
from atelier.models.sampling.samplers import SAMPLERS, sampler_named, scheduler_for
from tests.support.models_tiny import tiny_parts

SETTINGS: dict[str, Any] = {"width": 32, "height": 40, "steps": 3, "cfg_scale": 4.0}


@pytest.fixture(scope="module")
def sd1() -> Parts:
    return tiny_parts("sd1")


def final_latents(parts: Parts, **more: Any) -> torch.Tensor:
    kept: list[torch.Tensor] = []
    sample(parts, ["a cat"], ["bad"], seeds=[7], on_step=lambda i, n, x: kept.append(x), **{**SETTINGS, **more})
    return kept[-1]


@pytest.mark.parametrize("sampler", [*SAMPLERS, "Heun", "DPM2 a", "PNDM"])
def test_same_bits_alone_and_among_others_and_without_global_noise(sd1: Parts, sampler: str) -> None:
    before = torch.get_rng_state()
    three = sample(sd1, ["a", "a cat", "c"], ["", "bad", ""], seeds=[1, 2, 3], sampler=sampler, **SETTINGS)
    torch.manual_seed(99)
    one = sample(sd1, ["a cat"], ["bad"], seeds=[2], sampler=sampler, **SETTINGS)
    torch.set_rng_state(before)
    assert three[1].size == (32, 40)
    assert three[1].tobytes() == one[0].tobytes()
    assert three[0].tobytes() != three[1].tobytes()
    after = torch.get_rng_state()
    sample(sd1, ["a cat"], ["bad"], seeds=[2], sampler=sampler, **SETTINGS)
    assert torch.equal(torch.get_rng_state(), after)


@pytest.mark.parametrize("prediction", ["epsilon", "v_prediction"])
@pytest.mark.parametrize("sampler", list(SAMPLERS))
def test_latents_are_those_of_diffusers_pipeline(sampler: str, prediction: str) -> None:
    parts = tiny_parts("sd1")
    parts.prediction_type = prediction
    pipe = StableDiffusionPipeline(
        parts.vae, parts.text_encoders[0], parts.tokenizers[0], parts.denoiser, scheduler_for(parts, sampler),
        None, None, requires_safety_checker=False,
    )  # fmt: skip
    pipe.set_progress_bar_config(disable=True)
    theirs = pipe(
        "a cat", negative_prompt="bad", width=32, height=40, num_inference_steps=3, guidance_scale=4.0,
        generator=torch.Generator().manual_seed(7), output_type="latent",
    ).images  # fmt: skip
    assert torch.allclose(final_latents(parts, sampler=sampler), theirs, atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("family", ["sd2", "sdxl"])
@pytest.mark.parametrize("sampler", list(SAMPLERS))
def test_other_families_and_zero_snr(family: str, sampler: str) -> None:
    parts = tiny_parts(family)
    parts.prediction_type, parts.zero_terminal_snr = "v_prediction", True
    latents = final_latents(parts, sampler=sampler)
    assert torch.isfinite(latents).all()
    assert latents.abs().max() < 100
    first = scheduler_for(parts, sampler)
    first.set_timesteps(3)
    assert int(first.timesteps[0]) == 999


def test_stops_between_steps_and_keeps_what_is_finished(sd1: Parts) -> None:
    steps: list[tuple[int, int]] = []
    pictures = sample(
        sd1, ["a", "b", "c"], ["", "", ""], seeds=[1, 2, 3],
        on_step=lambda done, total, latents: steps.append((done, total)),
        should_stop=lambda: len(steps) >= 4, **SETTINGS,
    )  # fmt: skip
    assert len(pictures) == 1
    assert steps == [(1, 9), (2, 9), (3, 9), (4, 9)]


def test_clip_skip_long_prompts_and_no_guidance_change_the_picture(sd1: Parts) -> None:
    plain = final_latents(sd1)
    assert not torch.equal(final_latents(sd1, clip_skip=2), plain)
    assert not torch.equal(final_latents(sd1, cfg_scale=1), plain)
    long = sample(sd1, ["cat " * 100], ["bad"], seeds=[7], **SETTINGS)
    cut = sample(sd1, ["cat " * 75], ["bad"], seeds=[7], **SETTINGS)
    assert long[0].tobytes() != cut[0].tobytes()


def test_a_change_of_the_weights_is_drawn_at_once(sd1: Parts) -> None:
    """What an attached LoRA does: hooks on the modules take part in drawing."""
    plain = final_latents(sd1)
    handle = sd1.denoiser.mid_block.register_forward_hook(lambda module, args, out: out * 0.5)
    changed = final_latents(sd1)
    handle.remove()
    assert not torch.equal(changed, plain)
    assert torch.equal(final_latents(sd1), plain)


def test_names_of_other_programs() -> None:
    assert sampler_named("k_euler_a") is SAMPLERS["Euler a"]
    assert sampler_named("DPM++ 2m KARRAS") is SAMPLERS["DPM++ 2M Karras"]
    assert sampler_named("ddim") is SAMPLERS["DDIM"]
    with pytest.raises(AtelierError, match="There is no sampler 'nonsense'"):
        sampler_named("nonsense")


def test_wrong_sizes_and_missing_parts_are_told(sd1: Parts) -> None:
    with pytest.raises(AtelierError, match="multiples of 8"):
        sample(sd1, ["a"], [""], seeds=[1], **{**SETTINGS, "width": 30})
    with pytest.raises(AtelierError, match="number of sampling steps is 0"):
        sample(sd1, ["a"], [""], seeds=[1], **{**SETTINGS, "steps": 0})
    with pytest.raises(AtelierError, match="without its text encoder or its VAE"):
        sample(Parts(sd1.family, sd1.denoiser), ["a"], [""], seeds=[1], **SETTINGS)


def test_a_half_precision_vae_that_overflows_is_computed_again() -> None:
    parts = tiny_parts("sd1")
    assert parts.vae is not None
    latents = torch.randn(1, 4, 4, 4, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        # Larger than half precision can hold, brought back by the layer after it.
        parts.vae.decoder.conv_in.weight.mul_(3e4)
        parts.vae.decoder.conv_in.bias.mul_(3e4)
    wanted = decode(parts, latents)[0]
    parts.vae.half()
    levels = torch.tensor(list(decode(parts, latents)[0].tobytes())).float()
    assert (levels - torch.tensor(list(wanted.tobytes())).float()).abs().mean() < 4
    assert parts.vae.decoder.conv_in.weight.dtype == torch.float16


def test_prediction_type_is_measured_on_the_unet(sd1: Parts) -> None:
    class Echo(torch.nn.Module):
        """Predicts the noise perfectly when there is nothing but noise, or v of a grey picture."""

        def __init__(self, factor: float) -> None:
            super().__init__()
            self.factor = torch.nn.Parameter(torch.tensor(factor))
            self.config = {"cross_attention_dim": 64}

        def forward(self, x: torch.Tensor, *args: object, **kwargs: object) -> tuple[torch.Tensor]:
            return (x * self.factor + torch.linspace(-1, 1, x.numel()).reshape(x.shape) * (1 - self.factor),)

    assert measured_prediction(Parts(sd1.family, Echo(0.95))) == "epsilon"
    assert measured_prediction(Parts(sd1.family, Echo(0.07))) == "v_prediction"


def test_a_vae_decodes_in_its_own_precision_inside_autocast(sd1: Parts) -> None:
    """Samples are drawn inside autocast: a VAE in float32 must not overflow in half precision there."""
    latents = torch.randn(1, 4, 8, 8, generator=torch.Generator().manual_seed(2))
    expected = decode(sd1, latents)[0]
    seen: set[torch.dtype] = set()
    assert sd1.vae is not None
    handle = sd1.vae.decoder.conv_in.register_forward_hook(lambda module, args, out: seen.add(out.dtype))
    try:
        with torch.autocast("cpu", dtype=torch.bfloat16):
            found = decode(sd1, latents)[0]
    finally:
        handle.remove()
    assert seen == {torch.float32} and found.tobytes() == expected.tobytes()
