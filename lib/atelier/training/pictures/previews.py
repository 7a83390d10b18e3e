"""Draws sample pictures with the network so far, with fixed prompts and seeds."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

import torch
from PIL import Image
from torch import nn

from atelier.config.errors import AtelierError
from atelier.config.sample_prompts import SamplePrompt
from atelier.hosts.contract import BaseGone, Lease
from atelier.models.autocast import own_precision
from atelier.models.family import Parts
from atelier.models.sampling.sample import sample
from atelier.training.device.plan import Plan
from atelier.training.device.turns import LongTurn
from atelier.training.interfaces import RunControl, RunRecord


class Drawing(Protocol):
    """Something that draws one picture."""

    def draw(self, prompt: SamplePrompt) -> Image.Image | None:
        """The picture; None when the person has stopped or paused the run. Raises `AtelierError`."""
        ...


class Previews:
    """Draws the run's prompts and adds the pictures to the record."""

    def __init__(
        self, prompts: Sequence[SamplePrompt], drawing: Drawing, record: RunRecord, control: RunControl
    ) -> None:
        self._prompts = prompts
        self._drawing = drawing
        self._record = record
        self._control = control
        self.newest: Image.Image | None = None

    def draw(self, step: int) -> None:
        """Draws every prompt. A failure becomes a message, and training goes on. Stop and pause end it."""
        for index, prompt in enumerate(self._prompts):
            if index and (self._control.stopping or self._control.paused):
                return
            try:
                picture = self._drawing.draw(prompt)
            except BaseGone:
                raise
            except (AtelierError, RuntimeError, ValueError) as error:
                self._record.message(f"The sample picture {prompt.prompt!r} could not be drawn: {error}", "warning")
                return
            if picture is None:
                return
            if index == 0:
                self.newest = picture
            self._record.sample(step, index, prompt.prompt, picture)


class OwnSampler:
    """Our own sampler. It lets the WebUI use its model after every sampling step."""

    def __init__(
        self, parts: Parts, network: nn.Module, lease: Lease, plan: Plan, control: RunControl, clip_skip: int | None
    ) -> None:
        self._parts = parts
        self._network = network
        self._lease = lease
        self._plan = plan
        self._control = control
        self._clip_skip = clip_skip

    def draw(self, prompt: SamplePrompt) -> Image.Image | None:
        """The picture; None when the person has stopped or paused the run, which ends it within one sampling step."""
        trained = self._network.training
        self._network.eval()
        device, dtype = self._parts.device, self._plan.dtype
        try:
            with (
                LongTurn(self._lease) as turn,
                own_precision(device) if dtype is None else torch.autocast(device.type, dtype=dtype),
            ):
                pictures = sample(
                    self._parts,
                    prompts=[prompt.prompt],
                    negatives=[prompt.negative_prompt],
                    width=prompt.width or self._parts.family.resolution,
                    height=prompt.height or self._parts.family.resolution,
                    steps=prompt.sample_steps or 20,
                    cfg_scale=7.0 if prompt.scale is None else prompt.scale,
                    seeds=[prompt.seed or 0],
                    sampler=prompt.sample_sampler or "Euler a",
                    clip_skip=self._clip_skip,
                    on_step=lambda *_: turn.breathe(),
                    should_stop=self._asked_to_end,
                )
        finally:
            self._network.train(trained)
        return pictures[0] if pictures else None

    def _asked_to_end(self) -> bool:
        return self._control.stopping or self._control.paused
