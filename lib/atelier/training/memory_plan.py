"""The fewest savers with which a run fits into the memory that is free, chosen before its first step."""

from __future__ import annotations

import importlib.util
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace

from atelier.training.memory_prediction import Prediction, predict
from atelier.training.memory_request import Request
from atelier.training.savers import Savers

IN_HAND = 1.1
"""A prediction times this has to be free: workspaces of kernels and fragments are not in it."""
EIGHT_BIT = {"adamw": "AdamW8bit", "lion": "Lion8bit"}
"""The 8-bit form of an optimiser, from bitsandbytes."""


@dataclass(frozen=True)
class MemoryPlan:
    """A run's request with the chosen savers, what it needs and what was free, in bytes, and a note per saver."""

    request: Request
    prediction: Prediction
    free: int
    notes: tuple[str, ...]

    @property
    def fits(self) -> bool:
        return needs(self.prediction) <= self.free

    def sentences(self) -> list[str]:
        """For the person: what is needed and what is free, what was turned on, and a warning if it is not enough."""
        place = "of memory" if self.request.device == "cpu" else "on the GPU"
        beside = "" if self.request.whole_model else " beside the model"
        told = [f"This needs about {size(needs(self.prediction))} {place}{beside}; {size(self.free)} are free."]
        told += self.notes
        if not self.fits:
            told.append(
                "That may not be enough: close what else uses the memory, or choose a smaller resolution or rank."
            )
        return told

    def savers(self) -> Savers:
        """The savers that are on, and those that an out-of-memory error can still turn on."""
        request = self.request
        return Savers(
            text_and_vae_off=request.text_and_vae_off,
            gradient_checkpointing=request.gradient_checkpointing,
            pieces=request.pieces,
            optimizer=request.optimizer if any("8-bit" in note for note in self.notes) else "",
            notes=list(self.notes),
            largest_batch=largest_cut(request),
            can_rest=can_rest(request),
            streamed=request.streamed,
            fp8=request.fp8,
            can_stream=can_stream(request),
            planned=True,
        )


def make_memory_plan(
    request: Request,
    free: int,
    predicted: Callable[[Request], Prediction] = predict,
    eight_bit: bool | None = None,
) -> MemoryPlan:
    """Turns savers on one after the other until the run fits into `free` bytes; all of them if it never does.

    A saver that does not help is left out again. `eight_bit`: whether an 8-bit optimiser may be chosen; None asks
    whether bitsandbytes is installed.
    """
    if eight_bit is None:
        eight_bit = importlib.util.find_spec("bitsandbytes") is not None
    prediction = predicted(request)
    notes: list[str] = []
    for kind in ("rest", "checkpointing", "pieces", "8bit", "stream"):
        for option, note in _options(request, kind, eight_bit):
            if needs(prediction) <= free:
                break
            better = predicted(option)
            if better.extra < prediction.extra:
                # Of a batch cut again and again only the last cut is told.
                notes = [old for old in notes if not (kind == "pieces" and "parts" in old)]
                request, prediction = option, better
                notes.append(note)
    return MemoryPlan(request, prediction, free, tuple(notes))


def needs(prediction: Prediction) -> int:
    """Bytes that have to be free before the run."""
    return int(prediction.extra * IN_HAND)


def can_rest(request: Request) -> bool:
    """True when text encoder and VAE are copies of the run's own, and there is another memory than the device's."""
    return request.whole_model and request.device != "cpu"


def can_stream(request: Request) -> bool:
    """True when the host can keep its UNet in the processor's memory, and the UNet's weights are not trained."""
    return request.can_stream and not request.whole_model and request.device != "cpu"


def largest_cut(request: Request) -> int:
    """Into how many pieces a batch can be cut."""
    return request.batch if request.divisible else 1


def _options(request: Request, kind: str, eight_bit: bool) -> Iterator[tuple[Request, str]]:
    """The ways in which a saver can be turned on, the mildest first, each with its note."""
    if kind == "rest" and can_rest(request) and not request.text_and_vae_off:
        note = "Text encoder and VAE rest in the processor's memory while they are not needed."
        yield replace(request, text_and_vae_off=True), note
    if kind == "checkpointing" and not request.gradient_checkpointing:
        note = "Gradient checkpointing was turned on: it needs much less memory, and a step takes a third longer."
        yield replace(request, gradient_checkpointing=True), note
    if kind == "pieces":
        pieces = request.pieces
        while pieces < largest_cut(request):
            pieces = min(2 * pieces, largest_cut(request))
            note = f"A batch is computed in {pieces} parts, one after the other, whose gradients are added up."
            yield replace(request, pieces=pieces), note
    if kind == "8bit" and eight_bit and request.device != "cpu":
        name = EIGHT_BIT.get(request.optimizer.lower())
        if name is not None:
            note = f"The optimiser is {name}, the 8-bit form of the one that was asked for."
            yield replace(request, optimizer=name), note
    if kind == "stream" and can_stream(request) and not request.streamed:
        yield replace(request, streamed=True, gradient_checkpointing=True), streaming_note(request.fp8)


def streaming_note(fp8: bool) -> str:
    """What is told when the UNet's blocks are streamed."""
    if fp8:
        return "The UNet rests in the processor's memory; the GPU keeps its blocks as float8, cast as they compute."
    return "The UNet rests in the processor's memory; its blocks come to the GPU as they compute, which takes longer."


def size(count: int) -> str:
    """2576980378 -> "2.4 GB", in units of 1024."""
    if count < 1 << 30:
        return f"{max(1, round(count / (1 << 20)))} MB"
    return f"{count / (1 << 30):.1f} GB"
