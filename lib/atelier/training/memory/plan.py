"""Chooses the fewest memory savings with which a run fits into the free memory, before its first step."""

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
"""Safety margin: this share of everything but the base, for kernels' workspaces and fragmentation."""
IN_HAND_OF_C = (0.4, 0.6)
"""The margin on a CPU, without and with gradient checkpointing. C's allocator keeps freed memory between blocks that
are in use, the more the more often memory is allocated and freed (docs/performance.md has the figures)."""
_NEARLY = 0.95
"""A host may have a part of its model in another precision than the rest."""
EIGHT_BIT = {"adamw": "AdamW8bit", "lion": "Lion8bit"}
"""Optimizer -> its 8-bit form in bitsandbytes."""


@dataclass(frozen=True)
class MemoryPlan:
    """A run's request with the chosen savings, the needed and the free bytes, and a note for each saving.

    `there`: bytes of the run's base that are on the device already; None for all that the host lends.
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
        """Bytes that must be free when `there` bytes of the base are on the device already."""
        return needs(self.prediction, there, in_hand(self.request), reserve(self.request.device))

    def sentences(self) -> list[str]:
        """Sentences for the person: needed and free memory, the chosen savings, and a warning if it is not enough."""
        place = "of memory" if self.request.device == "cpu" else "on the GPU"
        lent = self.prediction.borrowed
        there = lent if self.there is None else self.there
        if self.request.whole_model or self.request.streamed or there < _NEARLY * lent:
            needed, free = size(self.needs(0)), size(self.free + there)
            first = f"This needs about {needed} {place}, with the model; {free} are available."
        else:
            needed, free = size(self.needs(there)), size(self.free)
            first = f"This needs about {needed} {place} beside the loaded model; {free} are free."
        sentences = [first, *self.notes]
        if not self.fits:
            sentences.append(
                "That may not be enough. Close other programs that use the memory, or choose a smaller resolution or "
                "rank."
            )
        return sentences

    def savings(self) -> MemorySavings:
        """The savings that are on, and limits for those that an out-of-memory error may still turn on."""
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
    """Turns on savings one after the other until the run fits into `free` bytes; all of them if it never does.

    A saving that does not help is turned off again. If a stronger saving makes an earlier one unnecessary, the earlier
    one is dropped. `eight_bit`: True when an 8-bit optimizer may be chosen; None checks whether bitsandbytes works.
    `there`: as in `MemoryPlan`.
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
    """Bytes that must be free before the run. `there` bytes of its base are on the device already; None for all of it.

    `share` of what is needed beside the base is kept in hand, and `reserved` bytes.
    """
    there = prediction.borrowed if there is None else there
    return max(0, int(prediction.peak - there + share * max(0, prediction.peak - prediction.base)) + reserved)


def in_hand(request: Request) -> float:
    """The safety margin for a request; see `needs`."""
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
        log.info("there are no 8-bit optimizers: %s", error)
        return False


def can_rest(request: Request) -> bool:
    """True when text encoder and VAE are the run's own copies, and the device is not the CPU."""
    return request.whole_model and request.device != "cpu"


def can_stream(request: Request) -> bool:
    """True when the host can keep its UNet in CPU memory, and the UNet's weights are not trained."""
    return request.can_stream and not request.whole_model and request.device != "cpu"


def largest_cut(request: Request) -> int:
    """Into how many micro-batches a batch can be split during a run.

    It is 1 with fused_backward_pass: the full gradients, which that avoids, may need far more memory.
    """
    return request.batch if request.divisible and not request.fused else 1


_KINDS = ("rest", "checkpointing", "micro_batches", "8bit", "stream")
"""The savings, in the order in which they are tried."""


def _without(request: Request, kind: str, asked: Request) -> Request | None:
    """The request with this saving as it was asked for; None when another saving depends on it."""
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
    """The ways to turn a saving on, the mildest first, each with its note."""
    if kind == "rest" and can_rest(request) and not request.text_and_vae_off:
        note = "Text encoder and VAE are kept in CPU memory while they are not needed."
        yield replace(request, text_and_vae_off=True), note
    if kind == "checkpointing" and not request.gradient_checkpointing:
        note = "Gradient checkpointing is on. It needs much less memory, and a step takes about a third longer."
        yield replace(request, gradient_checkpointing=True), note
    if kind == "micro_batches":
        micro_batches, most = request.micro_batches, request.batch if request.divisible else 1
        while micro_batches < most:
            micro_batches = min(2 * micro_batches, most)
            note = f"A batch is computed in {micro_batches} parts, one after the other. Their gradients are added up."
            yield replace(request, micro_batches=micro_batches), note
    # An adapter would save next to nothing, and bitsandbytes waits for the device after each of its tensors.
    if kind == "8bit" and request.device != "cpu" and request.whole_model:
        name = EIGHT_BIT.get(request.optimizer.lower())
        if name is not None and (eight_bit_works() if eight_bit is None else eight_bit):
            note = f"The optimizer is {name}, the 8-bit form of the chosen one."
            yield replace(request, optimizer=name), note
    if kind == "stream" and can_stream(request) and not request.streamed:
        yield replace(request, streamed=True, gradient_checkpointing=True), streaming_note(request.fp8)


def streaming_note(fp8: bool) -> str:
    """The note when the UNet's blocks are streamed."""
    if fp8:
        return "The UNet is kept in CPU memory. The GPU has its blocks as float8 and casts each when it computes."
    return "The UNet is kept in CPU memory. Each block is copied to the GPU when it computes, which takes longer."


def size(count: int) -> str:
    """2576980378 -> "2.4 GB", in units of 1024."""
    if count < 1 << 30:
        return f"{max(1, round(count / (1 << 20)))} MB"
    return f"{count / (1 << 30):.1f} GB"
