"""What is decided before the first step: precision, and which savings of memory are on."""

from __future__ import annotations

import inspect
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn

from atelier.config.settings.schema import Settings
from atelier.models.checkpoints.size import numbers_of
from atelier.models.family import Parts
from atelier.training.device.precision import autocast_dtype, choose
from atelier.training.device.savings import MemorySavings
from atelier.training.device.streaming import Streamed


@dataclass
class Plan:
    """How a session computes."""

    precision: str
    gradient_checkpointing: bool = False
    text_and_vae_off: bool = False
    """Text encoders and VAE, which the run must own, stay in the processor's memory between their uses."""
    micro_batches: int = 1
    """A batch is computed in so many parts."""
    streamed: bool = False
    """The UNet rests in the processor's memory, and its blocks come to the device as they compute."""
    fp8: bool = False
    optimizer: str = ""
    """Used in place of the one asked for, if it is not empty."""

    @property
    def dtype(self) -> torch.dtype | None:
        """What matrix products run in, None for float32."""
        return autocast_dtype(self.precision)

    @contextmanager
    def applied(self, parts: Parts, device: torch.device) -> Iterator[None]:
        """Sets the borrowed modules up. They are views of our own: the host's modules are not touched.

        Entered inside a turn, in which a denoiser that is streamed to `device` is in the CPU's memory. What streaming
        has on the device is gone at the end.
        """
        streamed = None
        if self.streamed:
            streamed = Streamed(parts.denoiser, parts.family.units(parts.denoiser), device, self.fp8)
            streamed.begin()
        try:
            self.checkpoint(parts)
            yield
        finally:
            if streamed is not None:
                streamed.end()

    def checkpoint(self, parts: Parts) -> None:
        """Turns gradient checkpointing on, if the plan has it."""
        if not self.gradient_checkpointing:
            return
        # Checkpointing is only active in training mode; Stable Diffusion's UNet and text encoders have no dropout.
        for module in [parts.denoiser, *parts.text_encoders]:
            module.train()
        if hasattr(parts.denoiser, "enable_gradient_checkpointing"):
            parts.denoiser.enable_gradient_checkpointing()
        for encoder in parts.text_encoders:
            _checkpoint_text(encoder)

    @contextmanager
    def on_device(self, device: torch.device, *modules: nn.Module | None) -> Iterator[None]:
        """Has modules that rest on `device` while they are used. Those that learn never rest."""
        given = [module for module in modules if module is not None] if self.text_and_vae_off else []
        resting = [module for module in given if not any(p.requires_grad for p in module.parameters())]
        try:
            for module in resting:
                module.to(device)
            yield
        finally:
            for module in resting:
                module.to("cpu")


def make_plan(settings: Settings, parts: Parts, savings: MemorySavings) -> Plan:
    """The plan for a session on these parts. Raises `AtelierError` when the device cannot do what was asked."""
    base = next(parts.denoiser.parameters()).dtype
    precision = choose(
        settings.mixed_precision, parts.device, numbers_of(parts.denoiser.parameters()), base, bool(settings.full_bf16)
    )
    return Plan(
        precision,
        settings.gradient_checkpointing or savings.gradient_checkpointing or savings.streamed,
        savings.text_and_vae_off,
        savings.micro_batches,
        savings.streamed,
        savings.fp8,
        savings.optimizer,
    )


def _checkpoint_text(encoder: Any) -> None:
    """Turns gradient checkpointing of a transformers model on, so that adapters inside it get their gradients.

    The reentrant kind, which transformers takes by itself up to 4.x, gives none unless the input wants one too.
    """
    enable = getattr(encoder, "gradient_checkpointing_enable", None)
    if enable is None:
        return
    if "gradient_checkpointing_kwargs" in inspect.signature(enable).parameters:
        enable(gradient_checkpointing_kwargs={"use_reentrant": False})
    else:
        enable()
        encoder.enable_input_require_grads()
