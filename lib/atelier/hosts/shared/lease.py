"""The loan of a WebUI's base, and its turns under the WebUI's queue."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from threading import Lock
from types import TracebackType
from typing import TYPE_CHECKING, Protocol, runtime_checkable

import torch

from atelier.config.errors import AtelierError
from atelier.hosts.contract import BaseGone, ModelInfo
from atelier.hosts.powers import can_offload_denoiser

if TYPE_CHECKING:
    from atelier.hosts.shared.borrowed import Borrowed
    from atelier.models.family import Parts

LET_IN = 0.5
"""Seconds that those who wait for the queue have to take it."""
PLAIN = (torch.float32, torch.float16, torch.bfloat16)
"""The precisions of weights that can be lent as they are."""


class Base(Protocol):
    """What a lease asks of its host. All but `loaded_model` are called inside the host's queue."""

    def queue(self) -> AbstractContextManager[object]: ...

    def loaded_model(self) -> ModelInfo | None: ...

    def borrow(self, parts: frozenset[str]) -> Borrowed: ...

    def remove_loras(self) -> None:
        """Takes LoRAs out of the base, if any picture left some in it; quick when there are none."""

    def load_to_device(self) -> None:
        """Puts the base on the training device."""

    def restore_placement(self) -> None:
        """Puts the base where the host had it."""


@runtime_checkable
class FetchesDenoiser(Protocol):
    """A base whose WebUI fetches its UNet from the CPU's memory whenever it draws."""

    @property
    def can_offload_denoiser(self) -> bool:
        """True when it does so with the model and the flags that it has now."""
        ...

    def bring_without_unet(self) -> None:
        """As `Base.load_to_device`, but the UNet rests in the CPU's memory. Called inside the host's queue."""


class WebUILease(AbstractContextManager["Parts"]):
    """Clean views over the loaded base. Each turn holds the host's queue and first sets right what it changed."""

    def __init__(self, host: Base, parts: frozenset[str], on_exit: Callable[[], None] | None = None) -> None:
        self._host = host
        self._wanted = parts
        self._borrowed: Borrowed | None = None
        self._identity = ""
        self._on_exit = on_exit
        self._rests = False
        """The UNet is in the CPU's memory during turns; what computes with it fetches it."""

    @property
    def can_offload_denoiser(self) -> bool:
        """True when the host can keep its UNet in the CPU's memory."""
        return can_offload_denoiser(self._host)

    def offload_denoiser(self) -> None:
        """Keeps the UNet in the CPU's memory: from the start, or from the next turn on."""
        self._rests = True
        if self._borrowed is not None:
            self._note_device(self._borrowed.parts)

    def __enter__(self) -> Parts:
        with in_turn(self._host.queue()):
            info = self._host.loaded_model()
            if info is None:
                raise AtelierError("No model is loaded. Choose a checkpoint, then train.")
            if info.refusal:
                raise AtelierError(info.refusal)
            self._identity = info.identity
            try:
                self._bring()
                self._host.remove_loras()
                with torch.inference_mode(False):
                    self._borrowed = self._host.borrow(self._wanted)
            except BaseException:
                self._host.restore_placement()
                raise
            if self._rests:
                self._note_device(self._borrowed.parts)
            return self._borrowed.parts

    def _note_device(self, parts: Parts) -> None:
        """The VAE is where the UNet would be."""
        if parts.vae is not None:
            parts.computes_on = next(parts.vae.parameters()).device

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        borrowed, self._borrowed = self._borrowed, None
        if borrowed is None:
            return
        with self._host.queue():
            borrowed.let_go()
            self._host.restore_placement()
        if self._on_exit is not None:
            self._on_exit()

    @contextmanager
    def turn(self) -> Iterator[None]:
        """The host's queue, with the base as it was promised. Raises `BaseGone` when it is not loaded any more.

        A WebUI can unload its model without asking its queue: what then fails inside the turn is `BaseGone` too.
        """
        borrowed = self._borrowed
        if borrowed is None:
            raise AtelierError("The run no longer has the model: its loan has ended.")
        with in_turn(self._host.queue()):
            self._check()
            self._before_bringing(borrowed)
            self._bring()
            self._host.remove_loras()
            borrowed.follow()
            with torch.inference_mode(False), torch.enable_grad():
                try:
                    try:
                        yield
                    finally:
                        if self._borrowed is not None:
                            self._end_turn(self._borrowed)
                except RuntimeError as error:
                    self._check(error)
                    raise

    def _bring(self) -> None:
        if self._rests and isinstance(self._host, FetchesDenoiser):
            self._host.bring_without_unet()
        else:
            self._host.load_to_device()

    def _before_bringing(self, borrowed: Borrowed) -> None:
        """For hosts whose base must not be held while it is brought to the device. Called inside the queue."""

    def _end_turn(self, borrowed: Borrowed) -> None:
        """For hosts that have something back before others may use the base. Called inside the queue."""

    def _check(self, cause: Exception | None = None) -> None:
        """Raises `BaseGone` when the leased base is not there to be used."""
        info = self._host.loaded_model()
        if info is not None and info.identity == self._identity and not info.refusal:
            return
        if info is not None and info.identity == self._identity:
            raise BaseGone(f"{info.refusal} Training goes on then.") from cause
        now = "none" if info is None else info.title
        raise BaseGone(
            f"The model in training is no longer loaded; the WebUI now has {now}. Choose it again to go on."
        ) from cause


@contextmanager
def in_turn(queue: AbstractContextManager[object]) -> Iterator[None]:
    """Holds a WebUI's queue, and afterwards lets those go first who came while it was held.

    Releasing such a lock only wakes who waits; taken again at once, it would be ours again before they are awake.
    """
    with queue:
        yield
        waiting = is_awaited(queue, unless_told=False)
    lock = getattr(queue, "_lock", None)
    if waiting and lock is not None:
        let_in(lock, LET_IN)


def is_awaited(queue: object, unless_told: bool) -> bool:
    """True when somebody waits for a queue; `unless_told` for one that does not tell."""
    return bool(getattr(queue, "_pending_threads", unless_told))


def is_taken(queue: object) -> bool:
    """True when somebody has a queue; also when it does not tell."""
    locked = getattr(getattr(queue, "_lock", None), "locked", None)
    return locked is None or bool(locked())


def let_in(lock: Lock, seconds: float) -> None:
    """Waits until somebody else has taken `lock`, for so many seconds at the most."""
    until = time.monotonic() + seconds
    while time.monotonic() < until and not lock.locked():
        time.sleep(0.001)
