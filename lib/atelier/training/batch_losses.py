"""Computes the loss of each picture of a batch: latents, prompt embeddings, noise, and the objective."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

import torch
from accelerate import Accelerator
from torch import Tensor

from atelier.adapters.network import Network
from atelier.data.batch import Batch
from atelier.models.family import Parts, PromptEmbeds, SizeConditions
from atelier.models.transfer import to_device
from atelier.training.context import RunContext, loss_options, noise_options, noise_process
from atelier.training.device.plan import Plan
from atelier.training.inputs.latents import LatentEncoder
from atelier.training.inputs.prompt_embeds import PromptCache, prompt_cache
from atelier.training.objective.losses import LossOptions
from atelier.training.objective.noise import NoiseOptions
from atelier.training.objective.objective import NoiseSample, diffusion_losses, sample_noise
from atelier.training.objective.process import NoiseProcess
from atelier.training.progress.stopwatch import Stopwatch
from atelier.training.randomness import seeded_globals
from atelier.training.trained.whole_model import WholeModel


@dataclass(frozen=True)
class BatchLosses:
    """Computes losses with the borrowed modules of one session. Use it inside a turn."""

    context: RunContext
    parts: Parts
    plan: Plan
    network: Network | WholeModel
    accelerator: Accelerator
    process: NoiseProcess
    noise_options: NoiseOptions
    loss_options: LossOptions
    encode_pictures: LatentEncoder
    embed: PromptCache
    """Prompt embeddings of captions, each encoded once. Not used for a text encoder in training."""
    watch: Stopwatch

    @classmethod
    def create(
        cls,
        context: RunContext,
        parts: Parts,
        plan: Plan,
        network: Network | WholeModel,
        accelerator: Accelerator,
        watch: Stopwatch,
    ) -> BatchLosses:
        """Makes one with the run's settings of noise and losses."""
        settings = context.job.settings
        return cls(
            context=context,
            parts=parts,
            plan=plan,
            network=network,
            accelerator=accelerator,
            process=noise_process(settings, parts),
            noise_options=noise_options(settings),
            loss_options=loss_options(settings),
            encode_pictures=LatentEncoder(
                parts, context.latent_cache, settings.vae_batch_size, partial(_tell_of_encoding, context)
            ),
            embed=prompt_cache(context, parts, plan),
            watch=watch,
        )

    def share_of_step(self, batch: Batch, step: int, micro: int) -> Tensor:
        """The batch's share of the loss of step `step`, a 0-d tensor for the backward pass. `micro` counts its batches.

        Share and noise depend on the batch's place in the global batch.
        """
        context, purpose = self.context, (step, micro)
        share = 1.0 / (batch.total * context.accumulation)
        device = self.parts.device
        with self.accelerator.autocast(), seeded_globals(device, context.seed, "dropout", *purpose, batch.first):
            with self.watch.part("latents"):
                latents = self._latents(batch)
            with self.watch.part("text"):
                text = self._text(batch)
            shape = torch.Size((batch.total, *latents.shape[1:]))
            sample = sample_noise(shape, latents, self.process, self.noise_options, context.seed, "noise", *purpose)
            rows = sample.rows(batch.first, batch.first + len(batch.captions))
            with self.watch.part("forward"):
                return self._losses(batch, latents, rows, text).sum() * share

    def held_out(self, batch: Batch, noise_for: Callable[[Tensor], NoiseSample]) -> Tensor:
        """The loss [B] of each validation picture, without gradient. `noise_for` makes the noise for its latents."""
        self.network.eval()
        try:
            with self.accelerator.autocast():
                latents = self._latents(batch)
                return self._losses(batch, latents, noise_for(latents), self._text(batch))
        finally:
            self.network.train()

    def _losses(self, batch: Batch, latents: Tensor, sample: NoiseSample, text: PromptEmbeds) -> Tensor:
        """Each picture's weighted loss, [B]."""
        device = self.parts.device
        masks = None if batch.masks is None else to_device(batch.masks, device)
        return diffusion_losses(
            self.parts, self.process, self.loss_options, latents, sample, text, self._sizes(batch), masks,
            to_device(batch.loss_weights, device),
        )  # fmt: skip

    def _latents(self, batch: Batch) -> Tensor:
        with self.plan.on_device(self.parts.device, self.parts.vae if batch.latents is None else None):
            latents = self.encode_pictures(batch)
        if batch.latents is None:
            self.context.record.activity()  # the step itself, which can take far longer, is not encoding any more
        return latents

    def _text(self, batch: Batch) -> PromptEmbeds:
        return self.embed.encode(batch.captions) if self.context.trains_text else self.embed(batch.captions)

    def _sizes(self, batch: Batch) -> SizeConditions:
        sizes = (batch.original_sizes, batch.crop_top_lefts, batch.target_sizes)
        return SizeConditions(*(to_device(size, self.parts.device) for size in sizes))


def _tell_of_encoding(context: RunContext, seen: int) -> None:
    """Notes that pictures are encoded, and how many were; without numbers, where each has several, such as mirrored."""
    pictures = len(context.data.pictures)
    known = seen <= pictures
    context.record.activity("Encoding the pictures", seen if known else None, pictures if known else None)
