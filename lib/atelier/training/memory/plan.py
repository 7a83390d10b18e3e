"""The fewest savings with which a run fits into the memory that is free, chosen before its first step."""

from __future__ import annotations

import functools
import logging
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace

import torch

from atelier.training.device.savings import MemorySavings
from atelier.training.device.spill import reserve
from atelier.training.memory.optimizer import SMALL_STATE
from atelier.training.memory.prediction import Prediction, predict
from atelier.training.memory.request import Request

log = logging.getLogger(__name__)

IN_HAND = 0.1
"""This share of what a run needs beside the base is kept free: kernels' workspaces and fragments are not predicted."""
IN_HAND_OF_C = (0.4, 0.6)
"""The same on a processor, without and with gradient checkpointing: C's allocator keeps what is freed between blocks
that are in use, the more the more often blocks come and go (docs/performance.md has the figures)."""
_NEARLY = 0.95
"""A host may hold a part of its model in another precision than the rest."""
EIGHT_BIT = {"adamw": "AdamW8bit", "lion": "Lion8bit"}
"""The 8-bit form of an optimiser, from bitsandbytes."""


@dataclass(frozen=True)
class MemoryPlan:
    """A run's request with the chosen savings, what it needs and what was free, in bytes, and a note per saver.

    `there`: how much of the run's base lies on the device already, in bytes; None for all that the host lends.
    """

    asked: Request
    request: Request
    prediction: Prediction
    free: int
    notes: tuple[str, ...]
    there: int | None = None

    @property
    def fits(self) -> bool:
        return self.needs(self.there) <= self.free

    def needs(self, there: int | None) -> int:
        """Bytes that have to be free where `there` bytes of the base lie on the device."""
        return needs(self.prediction, there, in_hand(self.request), reserve(self.request.device))

    def sentences(self) -> list[str]:
        """For the person: what is needed and what is free, what was turned on, and a warning if it is not enough."""
        place = "of memory" if self.request.device == "cpu" else "on the GPU"
        lent = self.prediction.borrowed
        there = lent if self.there is None else self.there
        if self.request.whole_model or self.request.streamed or there < _NEARLY * lent:
            needed, free = size(self.needs(0)), size(self.free + there)
            first = f"This needs about {needed} {place} with the model in it; {free} can be had."
        else:
            needed, free = size(self.needs(there)), size(self.free)
            first = f"This needs about {needed} {place} beside the model; {free} are free."
        told = [first, *self.notes]
        if not self.fits:
            told.append(
                "That may not be enough: close what else uses the memory, or choose a smaller resolution or rank."
            )
        return told

    def savings(self) -> MemorySavings:
        """The savings that are on, and those that an out-of-memory error can still turn on."""
        request = self.request
        return MemorySavings(
            text_and_vae_off=request.text_and_vae_off,
            gradient_checkpointing=request.gradient_checkpointing,
            micro_batches=request.micro_batches,
            optimizer=request.optimizer if request.optimizer != self.asked.optimizer else "",
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
    there: int | None = None,
) -> MemoryPlan:
    """Turns savings on one after the other until the run fits into `free` bytes; all of them if it never does.

    A saver that does not help is left out again, and so is one that a later, stronger one makes needless.
    `eight_bit`: whether an 8-bit optimiser may be chosen; None asks whether bitsandbytes works here. `there`: as in
    `MemoryPlan`.
    """
    asked = request
    prediction = predicted(request)
    notes: dict[str, str] = {}

    def fits(request: Request, prediction: Prediction) -> bool:
        return needs(prediction, there, in_hand(request), reserve(request.device)) <= free

    for kind in _KINDS:
        for option, note in _options(request, kind, eight_bit):
            if fits(request, prediction):
                break
            better = predicted(option)
            if better.peak < prediction.peak:
                request, prediction, notes[kind] = option, better, note
    for kind in list(notes)[:-1]:
        without = _without(request, kind, asked)
        if without is None or not fits(request, prediction):
            continue
        fewer = predicted(without)
        if fits(without, fewer):
            request, prediction = without, fewer
            del notes[kind]
    return MemoryPlan(asked, request, prediction, free, tuple(notes.values()), there)


def needs(prediction: Prediction, there: int | None = None, share: float = IN_HAND, reserved: int = 0) -> int:
    """Bytes that have to be free before the run, of whose base `there` bytes lie on the device; None for all of it.

    `share` of what is needed beside the base is kept in hand, and `reserved` bytes.
    """
    there = prediction.borrowed if there is None else there
    return max(0, int(prediction.peak - there + share * max(0, prediction.peak - prediction.base)) + reserved)


def in_hand(request: Request) -> float:
    """The share that `needs` keeps free for what is not predicted."""
    return IN_HAND_OF_C[request.gradient_checkpointing] if request.device == "cpu" else IN_HAND


@functools.cache
def eight_bit_works() -> bool:
    """True when a step of bitsandbytes succeeds on the GPU.

    Importing it says nothing: without a library for torch's CUDA it raises at its first kernel alone (since 0.43).
    """
    try:
        import bitsandbytes

        weight = torch.nn.Parameter(torch.ones(SMALL_STATE, device="cuda"))
        weight.grad = torch.ones_like(weight)
        bitsandbytes.optim.AdamW8bit([weight], lr=1e-3).step()
        return bool(torch.isfinite(weight).all())
    except Exception as error:  # noqa: BLE001 - it loads libraries of its own, which may raise anything
        log.info("there are no 8-bit optimisers: %s", error)
        return False


def can_rest(request: Request) -> bool:
    """True when text encoder and VAE are copies of the run's own, and there is another memory than the device's."""
    return request.whole_model and request.device != "cpu"


def can_stream(request: Request) -> bool:
    """True when the host can keep its UNet in the processor's memory, and the UNet's weights are not trained."""
    return request.can_stream and not request.whole_model and request.device != "cpu"


def largest_cut(request: Request) -> int:
    """Into how many micro-batches a batch can be cut in mid-run.

    Not at all where steps are taken inside the backward pass: whole gradients, which that saves, may be far larger.
    """
    return request.batch if request.divisible and not request.fused else 1


_KINDS = ("rest", "checkpointing", "micro_batches", "8bit", "stream")
"""The savings, in the order in which they are tried."""


def _without(request: Request, kind: str, asked: Request) -> Request | None:
    """The request with this saver as it was asked for; None when another one rests on it."""
    if kind == "rest":
        return replace(request, text_and_vae_off=asked.text_and_vae_off)
    if kind == "checkpointing" and not request.streamed:
        return replace(request, gradient_checkpointing=asked.gradient_checkpointing)
    if kind == "micro_batches":
        return replace(request, micro_batches=asked.micro_batches)
    if kind == "8bit":
        return replace(request, optimizer=asked.optimizer)
    return None


def _options(request: Request, kind: str, eight_bit: bool | None) -> Iterator[tuple[Request, str]]:
    """The ways in which a saver can be turned on, the mildest first, each with its note."""
    if kind == "rest" and can_rest(request) and not request.text_and_vae_off:
        note = "Text encoder and VAE rest in the processor's memory while they are not needed."
        yield replace(request, text_and_vae_off=True), note
    if kind == "checkpointing" and not request.gradient_checkpointing:
        note = "Gradient checkpointing was turned on: it needs much less memory, and a step takes a third longer."
        yield replace(request, gradient_checkpointing=True), note
    if kind == "micro_batches":
        micro_batches, most = request.micro_batches, request.batch if request.divisible else 1
        while micro_batches < most:
            micro_batches = min(2 * micro_batches, most)
            note = f"A batch is computed in {micro_batches} parts, one after the other, whose gradients are added up."
            yield replace(request, micro_batches=micro_batches), note
    # An adapter would save next to nothing, and bitsandbytes waits for the device after each of its tensors.
    if kind == "8bit" and request.device != "cpu" and request.whole_model:
        name = EIGHT_BIT.get(request.optimizer.lower())
        if name is not None and (eight_bit_works() if eight_bit is None else eight_bit):
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
