"""The contract with a host: what a WebUI must offer so that training can run inside it.

Between two turns the host may use its model, during a turn the trainer may. A lease lends modules whose parameters are
the host's own tensors. It returns everything when it ends, even after an error.
"""

from __future__ import annotations

from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol, TypeVar

from PIL import Image

from atelier.config.errors import AtelierError


@dataclass(frozen=True)
class Folders:
    """The folders of the host. All of them exist or may be created."""

    lora: Path
    checkpoints: Path
    runs: Path
    """One record folder per run, and the queue."""
    cache: Path
    """Cached latents and prompt embeddings, which survive a restart."""


@dataclass(frozen=True)
class ModelInfo:
    """The model that the host has loaded now."""

    title: str
    family: str | None
    """The name of a `models.family.Family`, or None when it is not one we can train."""
    path: Path | None
    identity: str
    """Differs for different weights. A job waits until the model with its identity is loaded again."""
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


@dataclass(frozen=True)
class DrawnWith:
    """What the host's settings make of the text and the sizes that its model gets for a picture of one family."""

    clip_skip: int = 1
    """The layer of the text encoder whose output is used, counted from the last."""
    emphasis: str = "Original"
    """The mode of (word:1.2) in prompts, in A1111's words."""
    crop: tuple[int, int] = (0, 0)
    """SDXL's crop condition: top, left."""
    unlike: tuple[str, ...] = ()
    """Sentences about settings that training cannot follow."""


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

    `turn` is entered around every use of the parts. Some hosts can keep their denoiser in the CPU's memory meanwhile:
    see `powers.OffloadsDenoiser`.
    """

    def turn(self) -> AbstractContextManager[None]:
        """The host's own queue. Raises `BaseGone` when the base is not loaded any more."""
        ...


class Host(Protocol):
    """A WebUI. What only some can do is in `hosts.powers`."""

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


Adapter = TypeVar("Adapter", bound=type[Host])


def implements_host(adapter: Adapter) -> Adapter:
    """Changes nothing: written above an adapter, it has mypy hold that to `Host`."""
    return adapter
