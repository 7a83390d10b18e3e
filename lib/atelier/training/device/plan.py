"""The plan of a session, made before its first step: precision, and which memory savings are on."""

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
    """How a session computes: precision and memory savings."""

    precision: str
    gradient_checkpointing: bool = False
    text_and_vae_off: bool = False
    """Text encoders and VAE, which must be the run's own copies, are in CPU memory while they are not used."""
    micro_batches: int = 1
    """Number of parts in which a batch is computed."""
    streamed: bool = False
    """The UNet is in CPU memory, and each block is copied to the device when it computes."""
    fp8: bool = False
    optimizer: str = ""
    """The optimizer to use instead of the setting; "" uses the setting."""

    @property
    def dtype(self) -> torch.dtype | None:
        """The precision of matrix products; None for float32."""
        return autocast_dtype(self.precision)

    @contextmanager
    def applied(self, parts: Parts, device: torch.device) -> Iterator[None]:
        """Prepares the borrowed modules. They are our own views; the host's modules are not changed.

        Entered inside a turn, during which a denoiser that is streamed to `device` is in CPU memory. The copies that
        streaming makes on the device are freed at the end.
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
        # Checkpointing is active only in training mode. Stable Diffusion's UNet and text encoders have no dropout.
        for module in [parts.denoiser, *parts.text_encoders]:
            module.train()
        if hasattr(parts.denoiser, "enable_gradient_checkpointing"):
            parts.denoiser.enable_gradient_checkpointing()
        for encoder in parts.text_encoders:
            _checkpoint_text(encoder)

    @contextmanager
    def on_device(self, device: torch.device, *modules: nn.Module | None) -> Iterator[None]:
        """Moves offloaded modules to `device` inside the block. Modules in training are never offloaded."""
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
    """The plan for a session on these parts. Raises `AtelierError` when the device cannot do what the settings ask."""
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
    """Turns on gradient checkpointing of a transformers model so that adapters in it get their gradients.

    Reentrant checkpointing, the default of transformers up to 4.x, gives them none unless the input requires one too.
    """
    enable = getattr(encoder, "gradient_checkpointing_enable", None)
    if enable is None:
        return
    if "gradient_checkpointing_kwargs" in inspect.signature(enable).parameters:
        enable(gradient_checkpointing_kwargs={"use_reentrant": False})
    else:
        enable()
        encoder.enable_input_require_grads()
