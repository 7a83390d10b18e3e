"""Optional powers that only some hosts have. Each is a protocol, with a function that also works without the power.

A host has a power when it has the protocol's members; nothing else has to be declared. A run can do without powers
that only give advice: errors of the host's own code there go to the log.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Protocol, runtime_checkable

from PIL import Image

from atelier.config.errors import AtelierError
from atelier.hosts.contract import DrawnWith, Host, Lease, ModelInfo, SampleRequest

log = logging.getLogger(__name__)


# -- the loan ----------------------------------------------------------------------------------------------------------


@runtime_checkable
class LoadsChosen(Protocol):
    """A host that normally loads a chosen checkpoint only when a picture is drawn, but can load it earlier."""

    def load_chosen(self) -> None:
        """Loads it if it is not loaded. Takes the host's queue. Raises `AtelierError` when it cannot be loaded."""
        ...


@runtime_checkable
class CanOffloadDenoiser(Protocol):
    """A host, or a lease, that may be able to keep the host's denoiser in the CPU's memory while it is lent."""

    @property
    def can_offload_denoiser(self) -> bool:
        """True when it can, with the model and the flags that the host has now."""
        ...


@runtime_checkable
class OffloadsDenoiser(CanOffloadDenoiser, Protocol):
    """A lease of such a host."""

    def offload_denoiser(self) -> None:
        """From the next turn on the denoiser rests in the CPU's memory; called before entering, from the start."""
        ...


@runtime_checkable
class MakesRoom(Protocol):
    """A host that leaves a model on the device after a picture, and can take it off again."""

    def make_room(self, size: int) -> None:
        """Moves models of its own off the device until `size` bytes are free. Called in its queue."""
        ...


@runtime_checkable
class CountsBytesOnDevice(Protocol):
    """A host that keeps models, or parts of them, in the CPU's memory until they compute."""

    def bytes_on_device(self) -> int | None:
        """How many bytes of the loaded model lie on the device; None for all of it."""
        ...


def chosen_model(host: Host) -> ModelInfo | None:
    """The model that a run started now is for; one that is only chosen is loaded, in the host's queue.

    Raises `AtelierError` when the checkpoint cannot be loaded.
    """
    if isinstance(host, LoadsChosen):
        host.load_chosen()
    return host.loaded_model()


def can_offload_denoiser(lender: object) -> bool:
    """True when the denoiser of a host, or of a lease, can rest in the CPU's memory while the model is lent."""
    return isinstance(lender, CanOffloadDenoiser) and lender.can_offload_denoiser


def offload_denoiser(lease: Lease) -> None:
    """Keeps the denoiser in the CPU's memory from the start, or from the next turn on, if the host can do that."""
    if isinstance(lease, OffloadsDenoiser) and lease.can_offload_denoiser:
        lease.offload_denoiser()


def make_room(host: Host, size: int) -> None:
    """Has the host take models of its own off the device until `size` bytes are free. To be called in its queue."""
    with _advice("make_room"):
        if isinstance(host, MakesRoom):
            host.make_room(size)


def bytes_on_device(host: Host) -> int | None:
    """How many bytes of the loaded model lie on the device that the host computes on; None for all of it."""
    with _advice("bytes_on_device"):
        if isinstance(host, CountsBytesOnDevice):
            return host.bytes_on_device()
    return None


# -- what it tells -----------------------------------------------------------------------------------------------------


@runtime_checkable
class TellsBeforeEnd(Protocol):
    """A host that can end its process without Python's `atexit`, such as by replacing it."""

    def before_end(self, end: Callable[[float], None]) -> None:
        """Has `end(seconds)` called before the process ends. It may take so many seconds to save a running job."""
        ...


@runtime_checkable
class HasRemarks(Protocol):
    """A host that may have remarks about the loan."""

    def remarks(self) -> list[str]:
        """New sentences for the person since the last call."""
        ...


@runtime_checkable
class RemarksOnLoras(Protocol):
    """A host that ignores parts of a LoRA unless a setting is changed."""

    def lora_remark(self, text_encoder: bool) -> str | None:
        """The setting to change so that a new LoRA works fully; None when nothing has to be changed."""
        ...


@runtime_checkable
class NamesCards(Protocol):
    """A host with words of its own for the family that the card of a LoRA belongs to."""

    def card_version(self, family: str) -> str | None:
        """What NAME.json has under "sd version", by a family's name; None for the usual word."""
        ...


@runtime_checkable
class KnowsUsualRequest(Protocol):
    """A host that knows the settings of the person's pictures."""

    def usual_request(self) -> SampleRequest:
        """Sizes, steps, scale, sampler and negative prompt, without a prompt."""
        ...


@runtime_checkable
class DrawsBySettings(Protocol):
    """A host with settings that change what its model gets of a prompt."""

    def drawn_with(self, family: str) -> DrawnWith:
        """What they are for a model of this family, by the family's name."""
        ...


def before_end(host: Host, end: Callable[[float], None]) -> None:
    """Has `end(seconds)` called before the host ends its process, if `atexit` would not tell."""
    if isinstance(host, TellsBeforeEnd):
        host.before_end(end)


def remarks(host: Host) -> list[str]:
    """What the host has to say about the loan since it was asked last: sentences for the person. Often none."""
    with _advice("remarks"):
        if isinstance(host, HasRemarks):
            return list(host.remarks())
    return []


def lora_remark(host: Host, text_encoder: bool) -> str | None:
    """What has to be set in this host for a new LoRA to work fully, None when all is set.

    `text_encoder` tells whether that is trained too.
    """
    with _advice("lora_remark"):
        if isinstance(host, RemarksOnLoras):
            return host.lora_remark(text_encoder)
    return None


def card_version(host: Host, family: str) -> str | None:
    """The host's own word for the family of a LoRA's card, None where it has the usual one."""
    with _advice("card_version"):
        if isinstance(host, NamesCards):
            return host.card_version(family)
    return None


def drawn_with(host: Host, family: str) -> DrawnWith:
    """What the host's settings make of a prompt for a model of this family; the usual where it does not tell."""
    with _advice("drawn_with"):
        if isinstance(host, DrawsBySettings):
            return host.drawn_with(family)
    return DrawnWith()


def usual_request(host: Host) -> SampleRequest:
    """What the person draws with in this host, without a prompt; what `SampleRequest` says where it does not tell."""
    with _advice("usual_request"):
        if isinstance(host, KnowsUsualRequest):
            return host.usual_request()
    return SampleRequest("")


# -- captions ----------------------------------------------------------------------------------------------------------


@runtime_checkable
class Captions(Protocol):
    """A host with means of its own to describe a picture."""

    def captioners(self) -> tuple[str, ...]:
        """Their names, () when there is none now."""
        ...

    def caption(self, picture: Image.Image, captioner: str) -> str:
        """What one of them sees on an RGB picture. Takes the host's queue. Raises `AtelierError`."""
        ...


def captioners(host: Host) -> tuple[str, ...]:
    """The names of the host's means to describe a picture, () when it has none."""
    return tuple(host.captioners()) if isinstance(host, Captions) else ()


def caption(host: Host, picture: Image.Image, captioner: str) -> str:
    """What the host's `captioner` sees on an RGB picture. Takes the host's queue. Raises `AtelierError`."""
    if isinstance(host, Captions) and captioner in host.captioners():
        return host.caption(picture, captioner)
    raise AtelierError(f"This WebUI has no {captioner}. Write the captions into .txt files beside the pictures.")


@contextmanager
def _advice(power: str) -> Iterator[None]:
    """For calls that a run can do without: errors of the host's code inside the block go to the log."""
    try:
        yield
    except Exception:
        log.exception("the host's %s failed", power)
