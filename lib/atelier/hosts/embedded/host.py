"""The embedded host without its page: one loaded model, one queue, and folders."""

from __future__ import annotations

import gc
import threading
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path

import torch
from PIL import Image

from atelier import __version__
from atelier.config.errors import AtelierError, few
from atelier.config.presets import TINY
from atelier.hosts.contract import ModelInfo, SampleRequest
from atelier.hosts.embedded.checkpoints import CheckpointFile, list_checkpoints
from atelier.hosts.embedded.folders import DataFolder, data_folder
from atelier.hosts.embedded.generate import Generator
from atelier.hosts.embedded.lease import EmbeddedLease
from atelier.hosts.embedded.loaded import Borrower, LoadedModel
from atelier.hosts.embedded.lora_list import LoraEntry, list_loras
from atelier.hosts.embedded.memory import DeviceMemory
from atelier.hosts.embedded.queue_lock import QueueLock
from atelier.models.checkpoints.load import load_checkpoint
from atelier.models.checkpoints.size import bytes_on
from atelier.models.family import Parts
from atelier.models.sampling.samplers import SAMPLERS

DEMO_BASE = Path(__file__).resolve().parents[4] / "assets" / "demo" / "base"


@dataclass(frozen=True)
class EmbeddedModelInfo(ModelInfo):
    """`side`: the pictures' side in pixels that the model was made for, which may not be its family's."""

    side: int | None = None


class EmbeddedHost:
    """Implements `hosts.contract.Host` over a data folder (models/, loras/, outputs/, runs/, cache/).

    `checkpoint` is a file, a diffusers folder or a title of the list; it is loaded at once. Without it nothing is
    loaded until `load` or `load_default`. `demo_base` is listed besides the models folder.
    """

    name = "embedded"
    version = __version__

    def __init__(
        self,
        root_folder: Path | str,
        checkpoint: Path | str | None = None,
        device: torch.device | str | None = None,
        demo_base: Path | None = DEMO_BASE,
    ) -> None:
        self.folders: DataFolder = data_folder(Path(root_folder))
        self.device = torch.device(device or ("cuda" if torch.cuda.is_available() else "cpu"))
        self.dtype = torch.float16 if self.device.type == "cuda" else torch.float32
        self.memory = DeviceMemory(self.device)
        self.queue = QueueLock()
        self.leases: list[Borrower] = []
        self.current: LoadedModel | None = None
        self.generator = Generator(self)
        self._others = [demo_base] if demo_base is not None else []
        self._loading = threading.Lock()
        if checkpoint is not None:
            self.load(checkpoint)

    # --- checkpoints ---

    def checkpoints(self) -> list[CheckpointFile]:
        """The dropdown: the models folder read anew, then the demo base and what was loaded by path."""
        return list_checkpoints(self.folders.checkpoints, self._others)

    def load(self, checkpoint: Path | str, again: bool = True) -> LoadedModel:
        """Loads a checkpoint by its title in the list or by its path, in the host's queue.

        The one in memory is dropped only when the new one has been read; a file that cannot be read changes
        nothing. Without `again`, one that is loaded already is left as it is. Raises `AtelierError` when there is
        none of that name or it is of no family we know.
        """
        entry = self._find(checkpoint)
        with self._loading:
            if not again and self.current is not None and self.current.path == entry.path:
                return self.current
            read = load_checkpoint(entry.path, self.dtype, torch.device("cpu"))
            with self.queue:
                for lease in self.leases:
                    lease.let_go()
                if self.device.type != "cpu":
                    self.current = None
                    gc.collect()
                    self.memory.ask(self.memory.total())
                parts = _to_device(read.parts, self.device)
                self.generator.forget_loras()
                self.current = LoadedModel(entry.title, entry.path, read.info.identity, parts, _side(parts))
            return self.current

    def load_default(self) -> LoadedModel | None:
        """Loads the first checkpoint of the list if none is loaded. None when the list is empty."""
        if self.current is None and (entries := self.checkpoints()):
            return self.load(entries[0].title)
        return self.current

    def native_size(self) -> int:
        """The side in pixels that the loaded model draws best, 512 when none is loaded."""
        return 512 if self.current is None else self.current.side

    def usual_cfg(self) -> float:
        """The initial CFG scale: 7, or 3 for the small demo base, whose pictures are oversaturated at 7."""
        return 3.0 if self.native_size() <= TINY else 7.0

    def _find(self, checkpoint: Path | str) -> CheckpointFile:
        entries = self.checkpoints()
        for entry in entries:
            if entry.title == str(checkpoint):
                return entry
        path = Path(checkpoint).expanduser()
        if not path.exists():
            known = few([entry.title for entry in entries], 10) or "nothing"
            raise AtelierError(f"There is no checkpoint {str(checkpoint)!r}. {self.folders.checkpoints} has: {known}.")
        path = path.resolve()
        for entry in entries:
            if entry.path.resolve() == path:
                return entry
        self._others.append(path)
        return next(entry for entry in self.checkpoints() if entry.path.resolve() == path)

    # --- the contract ---

    def loaded_model(self) -> ModelInfo | None:
        """The model in memory, or None. Never loads one."""
        model = self.current
        if model is None:
            return None
        return EmbeddedModelInfo(
            title=model.title,
            family=model.parts.family.name,
            path=model.path,
            identity=model.identity,
            prediction_type=model.parts.prediction_type,
            dtype=str(self.dtype).removeprefix("torch."),
            device=str(self.device),
            side=model.side,
        )

    def lease(self, parts: frozenset[str]) -> EmbeddedLease:
        """Borrows "unet", "text_encoder", "vae" of the loaded model."""
        return EmbeddedLease(self, parts)

    can_offload_denoiser = True
    """A run may keep the UNet in CPU memory and stream its blocks."""

    def send_unet_to_rest(self) -> bool:
        """Moves the UNet to CPU memory; False when it is there already. Called inside the queue."""
        return self._move_unet(torch.device("cpu"))

    def load_denoiser(self) -> bool:
        """Moves the UNet back to the device; False when it is there already. Called inside the queue."""
        return self._move_unet(self.device)

    def _move_unet(self, device: torch.device) -> bool:
        # Every tensor is checked: after a move that ran out of memory, some are here and some there.
        if self.current is None or all(p.device.type == device.type for p in self.current.parts.denoiser.parameters()):
            return False
        self.current.parts.denoiser.to(device)
        return True

    def bytes_on_device(self) -> int | None:
        """Less than the model while the UNet rests."""
        return None if self.current is None else bytes_on(self.device, self.current.parts.parameters())

    def turn(self) -> AbstractContextManager[object]:
        """The queue."""
        return self.queue

    def publish_lora(self, path: Path) -> None:
        """Nothing is to be done: the list reads the folder each time, and Generate the file when it has changed."""

    def publish_checkpoint(self, path: Path, load: bool) -> None:
        """The dropdown reads the folder each time; `load` loads it in the queue."""
        if load:
            self.load(path)

    def sample(self, request: SampleRequest) -> Image.Image | None:
        """Draws one picture, `<lora:…>` tags included, without saving it. Takes the queue."""
        return self.generator.draw(request).picture

    def usual_request(self) -> SampleRequest:
        """What the page starts with: it keeps no settings of its own."""
        side = self.native_size()
        return SampleRequest("", width=side, height=side, cfg_scale=self.usual_cfg(), sampler=next(iter(SAMPLERS)))

    # --- the page ---

    def loras(self) -> list[LoraEntry]:
        """The LoRA list, newest first."""
        return list_loras(self.folders.lora)


def _to_device(parts: Parts, device: torch.device) -> Parts:
    for module in parts.modules:
        module.to(device)
        module.eval().requires_grad_(False)
    return parts


def _side(parts: Parts) -> int:
    """What the UNet's configuration says, in pixels; the VAE makes one latent of 8 by 8."""
    sample_size = getattr(parts.denoiser.config, "sample_size", None)
    return 8 * sample_size if isinstance(sample_size, int) else parts.family.resolution
