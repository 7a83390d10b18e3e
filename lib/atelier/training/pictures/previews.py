"""Draws sample pictures with the network so far, with fixed prompts and seeds."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Protocol

import torch
from PIL import Image
from torch import Tensor, nn

from atelier.config.errors import AtelierError
from atelier.config.sample_prompts import SamplePrompt
from atelier.hosts.contract import BaseGone, Lease
from atelier.models.autocast import own_precision
from atelier.models.family import Parts
from atelier.models.sampling.sample import sample
from atelier.training.device.plan import Plan
from atelier.training.device.turns import LongTurn
from atelier.training.interfaces import RunControl, RunRecord

OnStep = Callable[[int, int], None]
"""Called after each sampling step with the number of those done, and of all."""


class Drawing(Protocol):
    """Something that draws one picture."""

    def draw(self, prompt: SamplePrompt, should_end: Callable[[], bool], on_step: OnStep) -> Image.Image | None:
        """The picture; None when `should_end` said so meanwhile. Raises `AtelierError`."""
        ...


FIRST_SAMPLE = "Drawing the sample before training"


class Previews:
    """Draws the run's prompts and adds the pictures to the record. `first_step`: the one before anything is learned."""

    def __init__(
        self,
        prompts: Sequence[SamplePrompt],
        drawing: Drawing,
        record: RunRecord,
        control: RunControl,
        first_step: int = 0,
    ) -> None:
        self._prompts = prompts
        self._drawing = drawing
        self._record = record
        self._control = control
        self._first_step = first_step
        self.newest: Image.Image | None = None
        """The newest picture of the first prompt that shows something learned."""
        self.drawn: int | None = None
        """The step whose pictures were drawn last, all of them."""

    def draw(self, step: int, last: bool = False) -> None:
        """Draws every prompt. A failure becomes a message, and training goes on. Stop and pause end it.

        The `last` pictures of a run that was stopped end only when it shall end at once.
        """
        control = self._control

        def should_end() -> bool:
            return control.hurried if last else control.stopping or control.paused

        try:
            for index, prompt in enumerate(self._prompts):
                if index and should_end():
                    return
                if not self._draw_one(step, index, prompt, should_end):
                    return
            self.drawn = step
        finally:
            self._record.activity()

    def _words(self, step: int, number: int, count: int) -> str:
        """What goes on while picture `number` of `count` is drawn."""
        if step == self._first_step:
            return f"Drawing sample {number} of {count} before training" if count > 1 else FIRST_SAMPLE
        return (
            f"Drawing sample {number} of {count} of step {step}" if count > 1 else f"Drawing the sample of step {step}"
        )

    def _draw_one(self, step: int, index: int, prompt: SamplePrompt, should_end: Callable[[], bool]) -> bool:
        """False when the others are not to be drawn."""
        words = self._words(step, index + 1, len(self._prompts))
        self._record.activity(words)
        try:
            picture = self._drawing.draw(
                prompt, should_end, lambda done, total: self._record.activity(words, done, total)
            )
        except BaseGone:
            raise
        except (AtelierError, RuntimeError, ValueError) as error:
            self._record.message(f"The sample picture {prompt.prompt!r} could not be drawn: {error}", "warning")
            return False
        if picture is None:
            return False
        if index == 0 and step > self._first_step:
            self.newest = picture
        self._record.sample(step, index, prompt.prompt, picture)
        return True


class OwnSampler:
    """Our own sampler. It lets the WebUI use its model after every sampling step."""

    def __init__(self, parts: Parts, network: nn.Module, lease: Lease, plan: Plan, clip_skip: int | None) -> None:
        self._parts = parts
        self._network = network
        self._lease = lease
        self._plan = plan
        self._clip_skip = clip_skip

    def draw(self, prompt: SamplePrompt, should_end: Callable[[], bool], on_step: OnStep) -> Image.Image | None:
        """The picture; None when `should_end` said so, which ends it within one sampling step."""
        trained = self._network.training
        self._network.eval()
        device, dtype = self._parts.device, self._plan.dtype

        def after_step(done: int, total: int, latents: Tensor) -> None:
            on_step(done, total)
            turn.breathe()

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
                    on_step=after_step,
                    should_stop=should_end,
                )
        finally:
            self._network.train(trained)
        return pictures[0] if pictures else None
