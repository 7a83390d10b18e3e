"""Predicts the peak memory of a training step by running it on fake tensors, which have shapes but no memory.

The modules, the adapters, the loss and the backward pass are the real ones. `FakeTensorMode` finds the shapes and
precisions of every operation, and `memory.tracking` counts the living tensors. Nothing is computed, so it takes
seconds for any model on any machine.

It does not see the fragmentation of an allocator, the memory of the driver, and the workspaces of kernels other than
convolutions. `memory.plan` has a safety margin for these.
"""

from __future__ import annotations

import functools
import json
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, replace
from types import SimpleNamespace
from typing import Any

import torch
from torch import Tensor, nn
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.utils._python_dispatch import _disable_current_modes

from atelier.adapters.config import NetworkConfig
from atelier.adapters.network import build
from atelier.models.checkpoints.size import bytes_of
from atelier.models.family import Parts, PromptEmbeds, SizeConditions
from atelier.training.device.plan import Plan
from atelier.training.device.streaming import Streamed
from atelier.training.inputs.prompt_embeds import LIMIT as TEXT_LIMIT
from atelier.training.memory.fakes import FakeTokenizer, fake_parts, fake_pixels, recast, refill
from atelier.training.memory.optimizer import optimizer_bytes, state_bytes
from atelier.training.memory.request import Request
from atelier.training.memory.tracking import LiveBytes, norms_as_on_gpu
from atelier.training.objective.discrete import DiscreteDiffusion
from atelier.training.objective.losses import LossOptions
from atelier.training.objective.objective import NoiseSample, diffusion_losses
from atelier.training.trained.whole_model import WholeModel


@dataclass(frozen=True)
class Prediction:
    """A prediction in bytes. `caching`, `step` and `update` are the peaks of a run's three phases, with the base.

    `caching`: the text encoder and the VAE encode. `step`: forward and backward pass. `update`: the optimizer.
    """

    base: int
    """Weights of the UNet, text encoders and VAE."""
    text_and_vae: int
    """Part of `base`: the text encoders and the VAE, which a host may move off the device between turns."""
    borrowed: int
    """Part of `base`: the weights that the host has in memory anyway."""
    trained: int
    gradients: int
    optimizer: int
    activations: int
    """Peak of the forward and backward passes without weights."""
    kept: int
    """Kept during the whole run: the last good weights of an adapter, prompt embeddings of captions, and the LoRAs
    that are applied to the base."""
    caching: int
    step: int
    update: int

    @property
    def peak(self) -> int:
        """The peak of the whole run on the device."""
        return max(self.caching, self.step, self.update)

    @property
    def extra(self) -> int:
        """Bytes that must be free before the run."""
        return max(0, self.peak - self.borrowed)


@functools.lru_cache(maxsize=256)
def predict(request: Request) -> Prediction:
    """Runs the step that `request` describes on fake tensors. It needs no GPU and takes from 0.1 to some 20 seconds.

    May raise whatever the libraries raise for a model or network that they cannot run on fake tensors.
    """
    kind = _optimizer_kind(request)
    state_bytes(*kind)  # measured with real tensors, since many optimizers read values, and remembered
    live = LiveBytes(request.counts_workspaces)
    with ExitStack() as stack:
        stack.enter_context(torch.inference_mode(False))
        stack.enter_context(torch.enable_grad())
        stack.enter_context(FakeTensorMode(allow_non_fake_inputs=True))
        stack.enter_context(live)
        return _Step(request, live, stack).run()


def _optimizer_kind(request: Request) -> tuple[str, str, str]:
    """The optimizer, its arguments, and the precision of its state."""
    settings: dict[str, Any] = json.loads(request.settings)
    # For a whole model, weights are cast to float32 for the optimizer's step, and its moments are float32 too.
    kind = "bfloat16" if settings.get("full_bf16") and not request.whole_model else "float32"
    return request.optimizer, json.dumps(settings["optimizer_args"]), kind


class _Step:
    """The computation of one prediction, inside the modes that `predict` has entered."""

    def __init__(self, request: Request, live: LiveBytes, stack: ExitStack) -> None:
        self.request = request
        self.live = live
        self.stack = stack
        self.settings: dict[str, Any] = json.loads(request.settings)

    def run(self) -> Prediction:
        request, live = self.request, self.live
        parts = fake_parts(request)
        if request.device != "cpu":
            for module in (parts.denoiser, *parts.text_encoders):
                norms_as_on_gpu(module)
        base = live.now
        off = request.whole_model and request.text_and_vae_off
        waits = [parts.vae, *([] if request.trains_text else parts.text_encoders)]
        idle = sum(bytes_of(module.parameters()) for module in waits if module is not None)
        resting = idle if off else 0
        parameters = self._trained(parts)
        trained = bytes_of(parameters)
        if request.whole_model:
            base -= trained
        optimizer = optimizer_bytes(parameters, *_optimizer_kind(request))
        weights = live.now
        fused = request.fused
        gradients = max(p.numel() * p.element_size() for p in parameters) if fused else trained
        Plan("no", request.gradient_checkpointing).checkpoint(parts)
        held = base  # by the host, before it offloads its UNet
        if request.streamed:
            rest = bytes_of(parts.denoiser.parameters()) - (trained if request.whole_model else 0)
            before = live.now
            Streamed(
                parts.denoiser, parts.family.units(parts.denoiser), torch.device("cpu"), request.fp8, fetch=torch.clone
            ).begin()
            base += live.now - before - rest
            live.leave_out(rest)
            weights = live.now
        live.new_peak()
        text = self._text(parts, grad=False)
        kept = request.base_loras + self._kept_text(text) + (0 if request.whole_model else trained)
        self._latents(parts)
        caching = live.peak
        if request.micro_batches > 1 or request.accumulates:
            for parameter in parameters:
                parameter.grad = torch.zeros_like(parameter)
        if fused:
            for parameter in parameters:
                parameter.register_post_accumulate_grad_hook(_freed)
        live.new_peak()
        self._forward_backward(parts, text)
        step = live.peak
        for parameter in parameters:
            parameter.grad = None
        return Prediction(
            base=base,
            text_and_vae=idle,
            borrowed=0 if request.whole_model else held,
            trained=trained,
            gradients=gradients,
            optimizer=optimizer,
            activations=step - weights,
            kept=kept,
            caching=caching + optimizer + kept,
            step=step + optimizer + kept - resting,
            update=weights + gradients + optimizer + kept - resting + self._scratch(parameters, fused),
        )

    def _kept_text(self, text: PromptEmbeds) -> int:
        """Bytes of the cached prompt embeddings; 0 when the text encoder is trained."""
        if self.request.trains_text:
            return 0
        states = [text.hidden] if text.pooled is None else [text.hidden, text.pooled]
        return min(TEXT_LIMIT, self.request.captions * bytes_of(states) // self.request.rows)

    def _trained(self, parts: Parts) -> list[nn.Parameter]:
        request = self.request
        if request.whole_model:
            whole = WholeModel(parts, request.trains_text)
            return [parameter for parameter in whole.parameters() if parameter.requires_grad]
        config = NetworkConfig.from_settings(SimpleNamespace(**self.settings))
        config = replace(config, unet=request.trains_denoiser, text_encoders=request.trains_text)
        # LyCORIS reads values when it builds some kinds, and fake tensors have no values: it builds real weights.
        with _disable_current_modes():
            network = build(parts, config)
        refill(network)
        network.train()
        if self.settings.get("full_bf16"):
            recast(network, torch.bfloat16)
        self.stack.enter_context(network.attached())
        return list(network.parameters())

    def _text(self, parts: Parts, grad: bool) -> PromptEmbeds:
        """The prompt embeddings of a batch's captions, from the real encoders."""
        parts = replace(parts, tokenizers=[FakeTokenizer() for _ in parts.text_encoders])
        length = self.settings.get("max_token_length") or 75
        with torch.set_grad_enabled(grad), self._autocast():
            return parts.family.encode(parts, [""] * self.request.rows, self.settings.get("clip_skip"), length)

    def _latents(self, parts: Parts) -> None:
        """Runs the VAE on the pictures that it encodes at once."""
        if parts.vae is None:
            return
        request = self.request
        count = max(1, self.settings.get("vae_batch_size") or 1)
        dtype = next(parts.vae.parameters()).dtype
        with torch.no_grad():
            parts.family.posterior(parts.vae, fake_pixels(request, count, dtype))

    def _forward_backward(self, parts: Parts, text: PromptEmbeds) -> None:
        request = self.request
        step, channels = parts.family.pixel_step, parts.family.latent_channels
        shape = (request.rows, channels, request.height // step, request.width // step)
        process = DiscreteDiffusion.create(torch.device("cpu"))
        noise = torch.empty(shape)
        draws = NoiseSample(noise, noise, torch.zeros(request.rows, dtype=torch.long))
        pair = torch.zeros(request.rows, 2, dtype=torch.long)
        with self._autocast():
            if request.trains_text:
                text = self._text(parts, grad=True)
            losses = diffusion_losses(
                parts, process, LossOptions(), torch.empty(shape), draws, text,
                SizeConditions(pair, pair, pair),
            )  # fmt: skip
            loss = losses.sum()
        loss.backward()

    @contextmanager
    def _autocast(self) -> Iterator[None]:
        with torch.autocast("cpu", dtype=torch.bfloat16, enabled=self.request.autocast is not None):
            yield

    def _scratch(self, parameters: list[nn.Parameter], fused: bool) -> int:
        """Bytes for the update itself: on a GPU, torch's optimizers step all weights at once, with one copy."""
        sizes = [parameter.numel() * parameter.element_size() for parameter in parameters]
        if fused or (self.request.whole_model and self.settings.get("full_bf16")):
            return 4 * max(parameter.numel() * 4 for parameter in parameters)
        at_once = self.request.device != "cpu" and "8bit" not in self.request.optimizer.lower()
        return sum(sizes) if at_once else max(sizes)


def _freed(parameter: Tensor) -> None:
    parameter.grad = None
