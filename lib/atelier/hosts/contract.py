"""The contract with a host: what a WebUI must offer so that training can live inside it.

Between two turns the host may use its model; inside a turn the trainer may. A lease hands out modules whose
parameters are the host's own tensors, and gives everything back when it ends, on every path out.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

from PIL import Image

from atelier.config.errors import AtelierError

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Folders:
    """Where the host keeps things. All exist or may be created."""

    lora: Path
    checkpoints: Path
    runs: Path
    """One record folder per run, and the queue."""
    cache: Path
    """Latents and text states that survive a restart."""


@dataclass(frozen=True)
class ModelInfo:
    """The model that the host has loaded now."""

    title: str
    family: str | None
    """The name of a `models.family.Family`, or None when it is not one we can train."""
    path: Path | None
    identity: str
    """Changes whenever the weights are other ones: a job waits until its identity is back."""
    prediction_type: str
    dtype: str
    device: str
    refusal: str | None = None
    """Why it cannot be borrowed, as one sentence that names the setting to change; None when it can."""


@dataclass(frozen=True)
class SampleRequest:
    """One picture to draw. `width` and `height` in pixels."""

    prompt: str
    negative_prompt: str = ""
    width: int = 512
    height: int = 512
    steps: int = 20
    cfg_scale: float = 7.0
    seed: int = 0
    sampler: str = "Euler a"
    scheduler: str = ""
    """The noise schedule, where the host chooses it apart from the sampler; "" leaves it to the host."""


class BaseGone(AtelierError):
    """Raised on entering a turn when the host no longer has the leased base loaded. The job waits for it."""


class Memory(Protocol):
    """The host's own memory management, in bytes, of the device it computes on."""

    def free(self) -> int: ...

    def total(self) -> int: ...

    def ask(self, size: int) -> None:
        """Asks the host to make `size` bytes free, by its own means. Fewer may come of it."""
        ...


class Lease(AbstractContextManager[Any], Protocol):
    """The loan of the base. Entering gives a `models.family.Parts`; leaving gives everything back.

    `turn` is entered around every use of the parts. Leases of hosts that can keep their denoiser in the CPU's memory
    have `can_offload_denoiser`, and `offload_denoiser()`, before entering or later: from the next turn on it rests
    there.
    """

    def turn(self) -> AbstractContextManager[None]:
        """The host's own queue. Raises `BaseGone` when the base is not loaded any more."""
        ...


class Host(Protocol):
    """A WebUI."""

    @property
    def name(self) -> str: ...

    @property
    def version(self) -> str: ...

    @property
    def folders(self) -> Folders: ...

    @property
    def memory(self) -> Memory: ...

    def loaded_model(self) -> ModelInfo | None:
        """The model loaded now, or None. Never loads one."""
        ...

    def lease(self, parts: frozenset[str]) -> Lease:
        """Borrows "unet", "text_encoder", "vae". Raises `AtelierError` with `ModelInfo.refusal` if it cannot."""
        ...

    def turn(self) -> AbstractContextManager[Any]:
        """The host's queue alone, for work that borrows nothing."""
        ...

    def publish_lora(self, path: Path) -> None:
        """Makes a LoRA file in `folders.lora` usable by its name at once, also when its bytes are new."""
        ...

    def publish_checkpoint(self, path: Path, load: bool) -> None:
        """Lists a checkpoint in `folders.checkpoints`, and loads it if asked."""
        ...

    def sample(self, request: SampleRequest) -> Image.Image | None:
        """Draws with the host's own sampler, LoRA tags in the prompt included; None when it has none.

        Takes the host's queue itself: not to be called inside a turn.
        """
        ...


def chosen_model(host: Host) -> ModelInfo | None:
    """The model that a run started now is for.

    Some hosts load the checkpoint that was chosen only when a picture is drawn: their `load_chosen` does it now.
    Takes the host's queue then. Raises `AtelierError` when the checkpoint cannot be loaded.
    """
    load = getattr(host, "load_chosen", None)
    if load is not None:
        load()
    return host.loaded_model()


def before_end(host: Host, end: Callable[[float], None]) -> None:
    """Has `end(seconds)` called before the host ends its process otherwise than by Python's own end (`atexit`).

    Hosts that do so offer `before_end`, and say how long they wait for what is going on to be kept.
    """
    tell = getattr(host, "before_end", None)
    if tell is not None:
        tell(end)


def can_offload_denoiser(lender: Host | Lease) -> bool:
    """True when the host's UNet can rest in the processor's memory while its model is lent."""
    return bool(getattr(lender, "can_offload_denoiser", False))


def bytes_on_device(host: Host) -> int | None:
    """How many bytes of the loaded model lie on the device that the host computes on; None for all of it.

    Hosts that keep models, or parts of them, in the processor's memory until they compute offer `bytes_on_device`.
    """
    return _advice(host, "bytes_on_device", None)


def make_room(host: Host, size: int) -> None:
    """Has the host move models of its own off the device until `size` bytes are free there. To be called in its queue.

    Hosts that leave a model on the device after a picture, and can take it off again, offer `make_room`.
    """
    _advice(host, "make_room", None, size)


def offload_denoiser(lease: Lease) -> None:
    """Keeps the UNet in the processor's memory from the start, or from the next turn on, if the host can do that."""
    if can_offload_denoiser(lease):
        lease.offload_denoiser()  # type: ignore[attr-defined]


def remarks(host: Host) -> list[str]:
    """What the host has to say about the loan since it was asked last: sentences for the person. Often none."""
    return list(_advice(host, "remarks", []))


def lora_remark(host: Host, text_encoder: bool) -> str | None:
    """What has to be set in this host for a new LoRA to work fully, None when all is set.

    `text_encoder` tells whether that is trained too. Hosts that leave parts of a LoRA out offer `lora_remark`.
    """
    return _advice(host, "lora_remark", None, text_encoder)


def usual_request(host: Host) -> SampleRequest:
    """What the person draws with in this host: sizes, steps, scale, sampler and negative prompt, without a prompt.

    Hosts that know it offer `usual_request`; for others it is what `SampleRequest` says.
    """
    return _advice(host, "usual_request", SampleRequest(""))


def captioners(host: Host) -> tuple[str, ...]:
    """The names of the host's means to describe a picture, () when it has none.

    Hosts that have some offer `captioners` and `caption(picture, name)`.
    """
    ask = getattr(host, "captioners", None)
    return () if ask is None else tuple(ask())


def caption(host: Host, picture: Image.Image, captioner: str) -> str:
    """What the host's `captioner` sees on an RGB picture. Takes the host's queue. Raises `AtelierError`."""
    if captioner not in captioners(host):
        raise AtelierError(f"This WebUI has no {captioner}: write the captions into .txt files beside the pictures.")
    return str(host.caption(picture, captioner))  # type: ignore[attr-defined]


def _advice(host: Host, call: str, otherwise: Any, *arguments: Any) -> Any:
    """What a host offers beyond the contract, `otherwise` where it offers nothing of the kind.

    A run can do without it: what the host's own code raises goes to the log, and costs the run nothing.
    """
    ask = getattr(host, call, None)
    if ask is None:
        return otherwise
    try:
        return ask(*arguments)
    except Exception:
        log.exception("the host's %s failed", call)
        return otherwise
