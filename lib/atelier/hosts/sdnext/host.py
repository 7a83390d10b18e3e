"""SD.Next: a diffusers pipeline behind a plain lock, offloaded in several ways, with LoRAs added to its weights."""

from __future__ import annotations

import weakref
from collections.abc import Callable
from contextlib import AbstractContextManager
from pathlib import Path
from typing import TYPE_CHECKING

import torch
from PIL import Image

from atelier.hosts.contract import DrawnWith, Folders, ModelInfo, SampleRequest, implements_host
from atelier.hosts.sdnext import drawing, model, publish
from atelier.hosts.sdnext.lease import SDNextLease
from atelier.hosts.sdnext.log import keep_out_of_log
from atelier.hosts.sdnext.offload import Offload
from atelier.hosts.sdnext.queue import Queue
from atelier.hosts.sdnext.refusals import components, family_of
from atelier.hosts.sdnext.restart import before_restart
from atelier.hosts.shared.drawing import last_picture_kept
from atelier.hosts.shared.memory import DeviceMemory
from atelier.models.checkpoints.size import bytes_on

if TYPE_CHECKING:
    from atelier.hosts.shared.borrowed import Borrowed
    from atelier.models.views.from_ldm import Weights


@implements_host
class SDNextHost:
    """Implements `hosts.contract.Host` inside SD.Next."""

    name = "sdnext"

    def __init__(self) -> None:
        self.folders: Folders = folders()
        self.memory = DeviceMemory(device)
        self._offload = Offload()
        self._lent: weakref.ref[Borrowed] | None = None
        self._remarks: list[str] = []
        keep_out_of_log()

    @property
    def version(self) -> str:
        import installer

        return str(installer.version.get("commit", "unknown"))

    def loaded_model(self) -> ModelInfo | None:
        """The model loaded now, or None, also while one is being loaded. Never loads one."""
        return model.model_info()

    def load_chosen(self) -> None:
        """Loads the checkpoint that is chosen, if none is loaded: SD.Next would do it at the next picture.

        Takes the queue. Raises `AtelierError` when it cannot be loaded.
        """
        model.load_chosen(self.queue())

    def before_end(self, end: Callable[[float], None]) -> None:
        """Has `end(seconds)` called before "Restart server" replaces the process."""
        before_restart(end)

    # -- the loan -------------------------------------------------------------------------------------------------

    def lease(self, parts: frozenset[str]) -> SDNextLease:
        """Borrows "unet", "text_encoder", "vae" of the loaded model."""
        return SDNextLease(self, parts)

    def queue(self) -> AbstractContextManager[object]:
        """SD.Next's lock. Not re-entrant."""
        from modules import call_queue

        return Queue(call_queue.queue_lock)

    def turn(self) -> AbstractContextManager[object]:
        """The lock."""
        return self.queue()

    def borrow(self, parts: frozenset[str]) -> Borrowed:
        """Views over the loaded model. Called inside the queue."""
        # Here and not above: diffusers takes seconds to import, which SD.Next's start must not wait for.
        from atelier.hosts.sdnext.weights import all_tensors, read_weights
        from atelier.hosts.shared.borrowed import Borrowed
        from atelier.models.assets import load_tokenizers
        from atelier.models.registry import family_named

        pipe = model.current()
        family = family_named(str(family_of(pipe)))

        def read() -> Weights:
            return read_weights(model.current(), parts)

        borrowed = Borrowed(
            family,
            read,
            lambda: all_tensors(model.current()),
            load_tokenizers(family.name),
            model.prediction_type(pipe),
            model.zero_terminal_snr(pipe),
        )
        self._lent = weakref.ref(borrowed)
        return borrowed

    def remove_loras(self) -> None:
        """Takes out the LoRAs that the last picture left in the weights. Called inside the queue."""
        from atelier.hosts.sdnext.loras import take_out
        from atelier.hosts.sdnext.originals import originals

        pipe = model.current()
        before = originals(pipe, self._lent() if self._lent is not None else None)
        cleaned = take_out(pipe, before, self.load_to_device)
        if cleaned is not None and cleaned.inexact:
            self._remarks.append(str(cleaned))

    def remarks(self) -> list[str]:
        """Sentences for the person about the loan, each only once."""
        sentences, self._remarks = self._remarks, []
        return sentences

    # -- where the model is ---------------------------------------------------------------------------------------

    def bytes_on_device(self) -> int | None:
        """Less than the model while it is offloaded."""
        pipe = model.current()
        if pipe is None:
            return None
        return sum(bytes_on(device(), module.parameters()) for module in components(pipe).values())

    def load_to_device(self) -> None:
        """Takes offloading out of the model and puts it on the device. Called inside the queue."""
        self._offload.take_out(model.current(), device())

    def restore_placement(self) -> None:
        """Puts offloading back. Called inside the queue."""
        self._offload.put_back(model.current())

    @property
    def holds_offload(self) -> bool:
        """True while the model is elsewhere than SD.Next would have it."""
        return self._offload.is_out

    # -- results --------------------------------------------------------------------------------------------------

    def publish_lora(self, path: Path) -> None:
        """Lists the LoRA, and makes SD.Next read it anew if it has an older file of that name in memory."""
        if publish.list_lora(path):
            with self.queue():
                publish.forget_prompts()
                if model.current() is None:
                    return
                held = self.holds_offload
                self.remove_loras()
                if not held:  # nobody has borrowed the model, or the page has it for the moment
                    self.restore_placement()

    def publish_checkpoint(self, path: Path, load: bool) -> None:
        """Lists the checkpoint, and loads it in the queue if asked."""
        publish.publish_checkpoint(path, load, self.queue())

    def lora_remark(self, text_encoder: bool) -> str | None:
        """What to set for a LoRA to work fully here, None when all is set."""
        from modules import shared

        if text_encoder and not getattr(shared.opts, "lora_apply_te", True):
            return (
                "The text encoder is trained too, but SD.Next leaves that part of a LoRA out while drawing: turn on "
                '"LoRA native apply to text encoder" in Settings, Networks.'
            )
        return None

    def sample(self, request: SampleRequest) -> Image.Image | None:
        """Draws through SD.Next's own txt2img, in its queue."""
        with self.queue(), last_picture_kept(drawing.last_picture_folder()):
            self.restore_placement()
            return drawing.draw(request)

    def drawn_with(self, family: str) -> DrawnWith:
        """What the last picture's settings make of a prompt."""
        return drawing.drawn_with(family)

    def usual_request(self) -> SampleRequest:
        """What the person draws with on the txt2img page."""
        return drawing.request_of_page()


def device() -> torch.device:
    """The device that SD.Next computes on."""
    from modules import devices

    return torch.device(devices.device)


def folders() -> Folders:
    """The folders of the running SD.Next."""
    from modules import paths, shared

    lora = getattr(shared.cmd_opts, "lora_dir", None) or Path(paths.models_path) / "Lora"
    checkpoints = getattr(shared.opts, "ckpt_dir", None) or Path(paths.models_path) / "Stable-diffusion"
    own = Path(paths.data_path or paths.script_path) / "atelier"
    return Folders(Path(lora).resolve(), Path(checkpoints).resolve(), own.resolve() / "runs", own.resolve() / "cache")
