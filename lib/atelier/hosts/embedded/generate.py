"""Generates pictures: one per turn of the queue, with the LoRAs of the prompt, saved with their parameters."""

from __future__ import annotations

import secrets
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path

from PIL import Image

from atelier import __version__
from atelier.config.errors import AtelierError
from atelier.hosts.contract import SampleRequest
from atelier.hosts.embedded.loaded import Lender
from atelier.hosts.embedded.png_info import parameters_text, save_picture
from atelier.hosts.embedded.prompt_loras import PromptLoras
from atelier.hosts.embedded.prompt_tags import split_prompt
from atelier.models.sampling.sample import SAMPLERS, sample

MAX_SIDE = 4096
MAX_STEPS = 500
MAX_PICTURES = 64
Progress = Callable[[int, int, int], None]
"""Called with the picture's number from 1, the finished steps (0: it waits in the queue) and all steps."""


@dataclass(frozen=True)
class Drawn:
    """A picture and how it came about. `path` is None when it was not saved."""

    picture: Image.Image
    seed: int
    parameters: str
    path: Path | None = None


class Generator:
    """Draws with the host's own modules. The queue is held for one picture, so training can run in between."""

    def __init__(self, host: Lender) -> None:
        self._host = host
        self._loras = PromptLoras(host.folders.lora)
        self._stop = threading.Event()

    def draw_batch(self, request: SampleRequest, count: int, progress: Progress | None = None) -> Iterator[Drawn]:
        """Draws and saves `count` pictures with seeds counting up from the request's (-1: a random one).

        Ends early, without the unfinished picture, when `stop` is called.
        """
        if not 1 <= count <= MAX_PICTURES:
            raise AtelierError(f"{count} pictures at once are not possible. Ask for 1 to {MAX_PICTURES}.")
        self._stop.clear()
        first = request.seed if request.seed >= 0 else secrets.randbelow(2**32)
        for number in range(1, count + 1):
            one = replace(request, seed=(first + number - 1) % 2**32)
            try:
                drawn = self.draw(one, _numbered(progress, number), self._stop.is_set)
            except _Stopped:
                return
            path = save_picture(drawn.picture, self._host.folders.outputs, drawn.seed, drawn.parameters)
            yield replace(drawn, path=path)

    def draw(
        self,
        request: SampleRequest,
        progress: Callable[[int, int], None] | None = None,
        should_stop: Callable[[], bool] | None = None,
    ) -> Drawn:
        """Draws one picture in one turn of the queue, without saving it.

        Raises `AtelierError` for a request that cannot be drawn, a LoRA that is not there, or when no model is
        loaded.
        """
        check_request(request)
        seed = request.seed if request.seed >= 0 else secrets.randbelow(2**32)
        request = replace(request, seed=seed)
        prompt, tags = split_prompt(request.prompt)
        negative, _ = split_prompt(request.negative_prompt)
        report = progress or (lambda step, total: None)
        report(0, request.steps)

        with self._host.queue:
            model = self._host.current
            if model is None:
                raise AtelierError("No model is loaded. Choose a checkpoint at the top of the page.")
            self._host.load_denoiser()
            with self._loras.applied(tags, model.parts) as hashes:
                pictures = sample(
                    model.parts,
                    [prompt],
                    [negative],
                    width=request.width,
                    height=request.height,
                    steps=request.steps,
                    cfg_scale=request.cfg_scale,
                    seeds=[seed],
                    sampler=request.sampler,
                    on_step=lambda step, total, _: report(step, total),
                    should_stop=should_stop,
                )
            if not pictures:
                raise _Stopped
        text = parameters_text(request, Path(model.title).stem, model.identity[:10], hashes, __version__)
        return Drawn(pictures[0], seed, text)

    def stop(self) -> None:
        """Ends the batch that is being drawn, after its present step."""
        self._stop.set()

    def forget_loras(self) -> None:
        """Drops the LoRA files kept ready for the model; to be called inside the queue when it is another one."""
        self._loras.forget()


def check_request(request: SampleRequest) -> None:
    """Raises `AtelierError` that names the first value that cannot be drawn, and what is allowed."""
    for name, side in (("Width", request.width), ("Height", request.height)):
        if not 64 <= side <= MAX_SIDE or side % 8:
            raise AtelierError(f"{name} is {side}; it must be a multiple of 8 from 64 to {MAX_SIDE}.")
    if not 1 <= request.steps <= MAX_STEPS:
        raise AtelierError(f"Steps is {request.steps}; it must be from 1 to {MAX_STEPS}.")
    if not 0 <= request.cfg_scale <= 100:
        raise AtelierError(f"CFG scale is {request.cfg_scale:g}; it must be from 0 to 100.")
    if not -1 <= request.seed < 2**64:
        raise AtelierError(f"Seed is {request.seed}; it must be -1 (a random seed) or a positive whole number.")
    if request.sampler not in SAMPLERS:
        raise AtelierError(f"There is no sampler {request.sampler!r}. There are {', '.join(SAMPLERS)}.")


class _Stopped(Exception):
    """Stop was pressed while a picture was drawn."""


def _numbered(progress: Progress | None, number: int) -> Callable[[int, int], None] | None:
    return None if progress is None else lambda step, total: progress(number, step, total)
