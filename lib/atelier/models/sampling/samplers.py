"""The samplers by name. Each is a diffusers scheduler, set up for a model."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Any

import diffusers

from atelier.config.errors import AtelierError
from atelier.models.family import Parts

NOISE_SCHEDULE: Mapping[str, Any] = MappingProxyType(
    {
        "num_train_timesteps": 1000,
        "beta_start": 0.00085,
        "beta_end": 0.012,
        "beta_schedule": "scaled_linear",
    }
)
"""The noise schedule that Stable Diffusion was trained with."""


@dataclass(frozen=True)
class Sampler:
    """A scheduler class of diffusers and its options. `zero_snr`: it supports zero terminal SNR."""

    scheduler: str
    options: Mapping[str, Any] = field(default_factory=dict)
    zero_snr: bool = True


_LEADING = {"timestep_spacing": "leading", "steps_offset": 1}
_DDIM = {**_LEADING, "clip_sample": False, "set_alpha_to_one": False}

SAMPLERS: Mapping[str, Sampler] = MappingProxyType(
    {
        "Euler a": Sampler("EulerAncestralDiscreteScheduler", _LEADING),
        "Euler": Sampler("EulerDiscreteScheduler", _LEADING),
        "DPM++ 2M": Sampler("DPMSolverMultistepScheduler", _LEADING),
        "DPM++ 2M Karras": Sampler("DPMSolverMultistepScheduler", {**_LEADING, "use_karras_sigmas": True}),
        "DDIM": Sampler("DDIMScheduler", _DDIM),
    }
)
"""The samplers that can be chosen."""

_MORE: Mapping[str, Sampler] = MappingProxyType(
    {
        "Heun": Sampler("HeunDiscreteScheduler", _LEADING, zero_snr=False),
        "DPM2": Sampler("KDPM2DiscreteScheduler", _LEADING, zero_snr=False),
        "DPM2 a": Sampler("KDPM2AncestralDiscreteScheduler", _LEADING, zero_snr=False),
        "DPM++ 2S": Sampler("DPMSolverSinglestepScheduler", {}, zero_snr=False),
        "PNDM": Sampler(
            "PNDMScheduler", {**_LEADING, "skip_prk_steps": True, "set_alpha_to_one": False}, zero_snr=False
        ),
    }
)
"""Samplers that are understood in prompt files but cannot be chosen."""

_ALIASES: Mapping[str, str] = MappingProxyType(
    {
        "euler_a": "Euler a",
        "k_euler_a": "Euler a",
        "euler_ancestral": "Euler a",
        "k_euler": "Euler",
        "dpmsolver": "DPM++ 2M",
        "dpmsolver++": "DPM++ 2M",
        "dpm++_2m": "DPM++ 2M",
        "dpmpp_2m": "DPM++ 2M",
        "dpm++_2m_karras": "DPM++ 2M Karras",
        "dpmpp_2m_karras": "DPM++ 2M Karras",
        "dpmsingle": "DPM++ 2S",
        "heun": "Heun",
        "k_heun": "Heun",
        "dpm_2": "DPM2",
        "k_dpm_2": "DPM2",
        "dpm_2_a": "DPM2 a",
        "k_dpm_2_a": "DPM2 a",
        "plms": "PNDM",
        "lms": "Euler",
        "k_lms": "Euler",
    }
)
"""Other names, such as those of kohya's scripts. LMS needs SciPy, so the Euler method that it extends is used."""


def sampler_named(name: str) -> Sampler:
    """The sampler with this name, in any case, also with kohya's names. Raises `AtelierError` for an unknown name."""
    found = sampler_title(name)
    if found is None:
        raise AtelierError(f"There is no sampler {name!r}; choose one of {', '.join(SAMPLERS)}.")
    return {**SAMPLERS, **_MORE}[found]


def sampler_title(name: str) -> str | None:
    """The title of a sampler, as WebUIs write it, for any of its names; None for an unknown name."""
    wanted = _ALIASES.get(name.strip().lower().replace(" ", "_"), name.strip())
    return next((title for title in (*SAMPLERS, *_MORE) if title.lower() == wanted.lower()), None)


def scheduler_for(parts: Parts, sampler: str) -> Any:
    """A new diffusers scheduler for the prediction type of `parts`. A flow always uses Euler's method."""
    chosen = sampler_named(sampler)
    flow = parts.family.flow
    if flow is not None:
        return diffusers.FlowMatchEulerDiscreteScheduler(shift=flow.shift)
    options = {**NOISE_SCHEDULE, **chosen.options, "prediction_type": parts.prediction_type}
    if parts.zero_terminal_snr and chosen.zero_snr:
        options.update(rescale_betas_zero_snr=True, timestep_spacing="trailing")
    return getattr(diffusers, chosen.scheduler).from_config(options)
