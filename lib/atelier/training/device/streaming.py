"""Streams a denoiser's blocks: their weights are in CPU memory, and on the device only while they compute.

The base is frozen, so nothing is copied back. A block gets copies of its weights before its forward pass, and they are
freed after it. With gradient checkpointing the backward pass computes each block's forward pass again and copies its
weights for that; autograd keeps them until the block's gradients are done. While a block computes, the weights of the
next block are copied.

`fp8`: the copies stay on the device as float8, half the size of fp16, and are cast up block by block. That changes the
base a little. Streaming alone changes nothing.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from atelier.training.device.staging import Staging, room_for

FP8 = getattr(torch, "float8_e4m3fn", None)
"""None where torch has no such type."""


class Streamed:
    """A denoiser whose blocks are fetched when they compute, from `begin` to `end`. Trained weights are not moved.

    `units` are the blocks (see `models.family.Family.units`). `fetch` copies a weight to the device; by default to
    `device`, in parallel with its computation.
    """

    def __init__(
        self,
        denoiser: nn.Module,
        units: Sequence[nn.Module],
        device: torch.device,
        fp8: bool = False,
        fetch: Callable[[Tensor], Tensor] | None = None,
    ) -> None:
        if fp8 and FP8 is None:
            raise ValueError("this torch has no float8_e4m3fn")
        self._denoiser = denoiser
        self._blocks = list(units)
        self._device = device
        self._fetch = fetch or self._copied
        self._staging: Staging | None = None
        self._side: Any = torch.cuda.Stream(device) if device.type == "cuda" else None
        self._fp8 = fp8
        self._units: list[_Unit] = []
        self._others: list[tuple[nn.Module, str, nn.Parameter]] = []
        self._ahead: tuple[int, list[nn.Parameter], Any] | None = None
        self._first: int | None = None
        self._last: int | None = None
        self._next: dict[int, int] = {}
        """Block -> next block, in the order in which they were seen to compute."""
        self._before: dict[int, int] = {}

    def begin(self) -> None:
        """Starts streaming: blocks are fetched when they compute. All other weights are moved to the device now."""
        streamed: set[int] = set()
        for unit in self._blocks:
            weights = _weights(unit)
            streamed |= {id(weight) for _, _, weight in weights}
            self._units.append(_Unit(self, len(self._units), unit, weights))
        for owner, name, weight in _weights(self._denoiser):
            if id(weight) not in streamed:
                self._others.append((owner, name, weight))
                owner._parameters[name] = _frozen(self._fetch(weight.detach()))
        for unit in self._units:
            unit.begin(self._fp8)
        if self._side is None:
            return
        if self._fp8:
            torch.cuda.synchronize(self._device)  # what lies on the device now is read by the side stream from here on
        else:
            self._staging = Staging(self._device, max((unit.room for unit in self._units), default=0))

    def end(self) -> None:
        """Ends streaming: the denoiser has its own weights again, where they were."""
        for unit in self._units:
            unit.end()
        for owner, name, weight in self._others:
            owner._parameters[name] = weight
        self._units, self._others, self._ahead, self._staging = [], [], None, None

    def take(self, index: int) -> list[nn.Parameter]:
        """Copies of a unit's weights on the device. The copy of the next unit is then started."""
        ahead, self._ahead = self._ahead, None
        if ahead is not None and ahead[0] == index:
            _, found, done = ahead
            if done is not None:
                torch.cuda.current_stream(self._device).wait_event(done)
                for copy in found:
                    copy.record_stream(torch.cuda.current_stream(self._device))
        else:
            del ahead  # free copies that are not needed before making new ones
            found = self._copies(index)
        return found

    def _copies(self, index: int) -> list[nn.Parameter]:
        unit = self._units[index]
        if self._staging is None:
            return unit.copies(self._fetch)
        return [_frozen(copy) for copy in self._staging.copies(unit.tensors)]

    def fetch_after(self, index: int) -> None:
        """Starts to fetch the unit that computes after `index`; in a backward pass, the unit before it."""
        if torch._C._current_graph_task_id() != -1:
            following = self._before.get(index)
        else:
            self._notice(index)
            following = self._next.get(index)
        if following is None:
            return
        if self._side is None:
            self._ahead = (following, self._copies(following), None)
            return
        # The side stream waits for nothing: it copies into memory of its own, whose earlier use `record_stream` notes.
        with torch.cuda.stream(self._side):
            copies = self._copies(following)
            self._ahead = (following, copies, self._side.record_event())

    def _notice(self, index: int) -> None:
        """Learns the order of a forward pass. The first block of the next pass is not fetched in advance."""
        if self._first is None:
            self._first = index
        if index != self._first and self._last is not None:
            self._next[self._last], self._before[index] = index, self._last
        self._last = index

    def _copied(self, weight: Tensor) -> Tensor:
        return weight.to(self._device, non_blocking=True, copy=True)


class _Unit:
    """One block: its offloaded weights, and a forward pass that fetches them."""

    def __init__(
        self, stream: Streamed, index: int, module: nn.Module, weights: list[tuple[nn.Module, str, nn.Parameter]]
    ) -> None:
        self._stream = stream
        self._index = index
        self._module = module
        self._weights = weights
        self._small: list[Packed] | None = None

    def begin(self, fp8: bool) -> None:
        if fp8:
            self._small = [Packed(self._stream._fetch, weight) for _, _, weight in self._weights]
        self._module.forward = self._forward  # type: ignore[method-assign]

    def end(self) -> None:
        del self._module.forward
        self._small = None
        self._rest()

    @property
    def tensors(self) -> list[Tensor]:
        """The weights where they are kept."""
        return [weight.detach() for _, _, weight in self._weights]

    @property
    def room(self) -> int:
        return room_for(self.tensors)

    def copies(self, fetch: Callable[[Tensor], Tensor]) -> list[nn.Parameter]:
        if self._small is None:
            return [_frozen(fetch(weight.detach())) for _, _, weight in self._weights]
        pairs = zip(self._small, self._weights, strict=True)
        return [_frozen(packed.unpacked(weight.dtype)) for packed, (_, _, weight) in pairs]

    def _forward(self, *arguments: Any, **more: Any) -> Any:
        copies = self._stream.take(self._index)
        for (owner, name, _), copy in zip(self._weights, copies, strict=True):
            owner._parameters[name] = copy
        del copies
        try:
            out = type(self._module).forward(self._module, *arguments, **more)
        finally:
            self._rest()
        # Only now: the device has this block to compute while the next one comes.
        self._stream.fetch_after(self._index)
        return out

    def _rest(self) -> None:
        for owner, name, weight in self._weights:
            owner._parameters[name] = weight


def _weights(module: nn.Module) -> list[tuple[nn.Module, str, nn.Parameter]]:
    """Owner, name and parameter of every frozen weight, each once."""
    found, seen = [], set()
    for owner in module.modules():
        for name, parameter in owner._parameters.items():
            if parameter is not None and not parameter.requires_grad and id(parameter) not in seen:
                seen.add(id(parameter))
                found.append((owner, name, parameter))
    return found


def _frozen(tensor: Tensor) -> nn.Parameter:
    return nn.Parameter(tensor, requires_grad=False)


class Packed:
    """A weight on the device. Matrices and kernels are float8 with a scale for each row, to use the full range.

    Biases and norms are small and sensitive, and keep their precision.
    """

    def __init__(self, fetch: Callable[[Tensor], Tensor], weight: nn.Parameter) -> None:
        values = weight.detach()
        self._factor: Tensor | None = None
        if values.dim() >= 2 and FP8 is not None:
            largest = values.float().flatten(1).abs().amax(1).clamp(min=1e-12)
            factor = (largest / torch.finfo(FP8).max).reshape(-1, *[1] * (values.dim() - 1))
            values = (values.float() / factor).to(FP8)
            self._factor = fetch(factor)
        self.values = fetch(values)

    def unpacked(self, dtype: torch.dtype) -> Tensor:
        """A new tensor with the weight in `dtype`."""
        if self._factor is None:
            return self.values.to(dtype, copy=True)
        return (self.values.to(torch.float32) * self._factor).to(dtype)
