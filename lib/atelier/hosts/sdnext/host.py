"""SD.Next: a diffusers pipeline behind a plain lock, offloaded in several ways, with LoRAs added to its weights."""

from __future__ import annotations

import weakref
from collections.abc import Callable
from contextlib import AbstractContextManager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from PIL import Image
from torch import Tensor

from atelier.config.errors import AtelierError
from atelier.hosts.contract import Folders, ModelInfo, SampleRequest
from atelier.hosts.sdnext.log import keep_out_of_log
from atelier.hosts.sdnext.offload import Offload
from atelier.hosts.sdnext.queue import Queue, others_wait
from atelier.hosts.sdnext.refusals import components, family_of, refusal_of
from atelier.hosts.sdnext.restart import before_restart
from atelier.hosts.shared.drawing import last_picture_kept, txt2img_arguments, usual_request
from atelier.hosts.shared.lease import WebUILease
from atelier.hosts.shared.memory import DeviceMemory
from atelier.models.checkpoints.size import bytes_on

if TYPE_CHECKING:
    from atelier.hosts.shared.borrowed import Borrowed
    from atelier.models.views.from_ldm import Weights

LOADING = "Load model"
"""What SD.Next calls its job while it loads a checkpoint."""


class SDNextHost:
    """Implements `hosts.contract.Host` inside SD.Next."""

    name = "sdnext"

    def __init__(self) -> None:
        from modules import devices

        self.folders: Folders = folders()
        self.memory = DeviceMemory(lambda: torch.device(devices.device))
        self._offload = Offload()
        self._lent: weakref.ref[Borrowed] | None = None
        self._remarks: list[str] = []
        keep_out_of_log()

    @property
    def version(self) -> str:
        import installer

        return str(installer.version.get("commit", "unknown"))

    # -- what is loaded -------------------------------------------------------------------------------------------

    def _pipe(self) -> Any:
        """The pipeline, or None; never makes SD.Next load one, as `shared.sd_model` would."""
        from modules import modeldata

        pipe = modeldata.model_data.sd_model
        return getattr(pipe, "pipe", pipe)

    def loaded_model(self) -> ModelInfo | None:
        """The model loaded now, or None, also while one is being loaded. Never loads one."""
        from modules import devices, shared

        pipe = self._pipe()
        checkpoint = getattr(pipe, "sd_checkpoint_info", None)
        if pipe is None or checkpoint is None or shared.state.job == LOADING or "unet" not in components(pipe):
            return None
        path = Path(checkpoint.path if Path(checkpoint.path).exists() else checkpoint.filename)
        parameter = next(components(pipe)["unet"].parameters())
        return ModelInfo(
            title=str(checkpoint.title),
            family=family_of(pipe),
            path=path if path.exists() else None,
            identity=f"{path}:{path.stat().st_mtime_ns if path.exists() else 0}:{chosen_parts()}:{parameter.dtype}",
            prediction_type=scheduler_says(pipe, "prediction_type", "epsilon"),
            dtype=str(parameter.dtype).removeprefix("torch."),
            device=str(torch.device(devices.device)),
            refusal=refusal_of(pipe, shared.opts),
        )

    def load_chosen(self) -> None:
        """Loads the checkpoint that is chosen, if none is loaded: SD.Next would do it at the next picture.

        Takes the queue. Raises `AtelierError` when it cannot be loaded.
        """
        from modules import sd_models

        if self._pipe() is not None:
            return
        with self.queue():
            if self._pipe() is None:
                sd_models.reload_model_weights()
        if self._pipe() is None:
            raise AtelierError("SD.Next could not load the chosen checkpoint; its console says why.")

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

    def bytes_on_device(self) -> int | None:
        """Less than the model while it is offloaded."""
        from modules import devices

        pipe = self._pipe()
        if pipe is None:
            return None
        device = torch.device(devices.device)
        return sum(bytes_on(device, module.parameters()) for module in components(pipe).values())

    def load_to_device(self) -> None:
        """Takes offloading out of the model and puts it on the device. Called inside the queue."""
        from modules import devices

        self._offload.take_out(self._pipe(), torch.device(devices.device))

    def restore_placement(self) -> None:
        """Puts offloading back. Called inside the queue."""
        self._offload.put_back(self._pipe())

    @property
    def holds_offload(self) -> bool:
        """True while the model is elsewhere than SD.Next would have it."""
        return self._offload.is_out

    def borrow(self, parts: frozenset[str]) -> Borrowed:
        """Views over the loaded model. Called inside the queue."""
        from atelier.hosts.sdnext.weights import all_tensors, read_weights
        from atelier.hosts.shared.borrowed import Borrowed
        from atelier.models.assets import load_tokenizers
        from atelier.models.registry import family_named

        pipe = self._pipe()
        family = family_named(str(family_of(pipe)))

        def read() -> Weights:
            return read_weights(self._pipe(), parts)

        borrowed = Borrowed(
            family,
            read,
            lambda: all_tensors(self._pipe()),
            load_tokenizers(family.name),
            scheduler_says(pipe, "prediction_type", "epsilon"),
            bool(scheduler_says(pipe, "rescale_betas_zero_snr", False)),
        )
        self._lent = weakref.ref(borrowed)
        return borrowed

    # -- LoRAs ----------------------------------------------------------------------------------------------------

    def remove_loras(self) -> None:
        """Takes out the LoRAs that the last picture left in the weights. Called inside the queue."""
        from atelier.hosts.sdnext.loras import take_out

        cleaned = take_out(self._pipe(), self._exact())
        if cleaned is None:
            return
        if cleaned.inexact:
            self._remarks.append(str(cleaned))
        self.load_to_device()  # taking out may have made SD.Next offload again

    def _exact(self) -> Callable[[str, str], Tensor | None]:
        """Where the weights before any LoRA are: in the views of a lease, else in the checkpoint."""
        from atelier.hosts.sdnext.loras import FromFile, layers_with_loras
        from atelier.hosts.sdnext.weights import named_tensors
        from atelier.hosts.shared.borrowed import modules_of
        from atelier.models.text.clip_names import names_of_module
        from atelier.models.views.view import alias

        lent = self._lent() if self._lent is not None else None
        views = {} if lent is None else {part: dict(m.named_parameters()) for part, m in modules_of(lent.parts).items()}
        pipe = self._pipe()

        def read(part: str) -> dict[str, Tensor]:
            return names_of_module(components(pipe)[part], weights_on_disk(self.loaded_model(), part))

        def loaded(part: str) -> dict[str, Tensor]:
            dirty = {f"{layer.name}." for layer in layers_with_loras(pipe) if layer.part == part}
            tensors = named_tensors(components(pipe)[part])
            return {name: t for name, t in tensors.items() if f"{name.rpartition('.')[0]}." not in dirty}

        file = FromFile(read, loaded)

        def exact(part: str, name: str) -> Tensor | None:
            held = views.get(part, {}).get(name)
            return alias(held) if held is not None and held.numel() else file(part, name)

        return exact

    def remarks(self) -> list[str]:
        """Sentences for the person about the loan, each told once."""
        told, self._remarks = self._remarks, []
        return told

    def lora_remark(self, text_encoder: bool) -> str | None:
        """What to set for a LoRA to work fully here, None when all is set."""
        from modules import shared

        if text_encoder and not getattr(shared.opts, "lora_apply_te", True):
            return (
                "The text encoder is trained too, but SD.Next leaves that part of a LoRA out while drawing: turn on "
                '"LoRA native apply to text encoder" in Settings, Networks.'
            )
        return None

    # -- results --------------------------------------------------------------------------------------------------

    def publish_lora(self, path: Path) -> None:
        """Lists the LoRA, and makes SD.Next read it anew if it has an older file of that name in memory."""
        from modules import prompt_parser_diffusers, shared
        from modules.lora import lora_common, lora_load

        lora_load.list_available_networks()
        for page in getattr(shared, "extra_networks", ()):
            if page.name == "lora":
                # A refresh of the panel lists only the kind that is open there, and shows the others as they were made.
                page.refresh_time = page.page_time = 0
                page.create_page("txt2img")
        names = {path.stem, path.stem.replace(".", "_")}
        known = [name for name in names if lora_load.lora_cache.pop(name, None) is not None]
        worn = [*lora_common.loaded_networks, *lora_common.previously_loaded_networks]
        if known or any(network.name in names for network in worn):
            with self.queue():
                prompt_parser_diffusers.cache.clear()
                if self._pipe() is not None:
                    self.remove_loras()

    def publish_checkpoint(self, path: Path, load: bool) -> None:
        """Lists the checkpoint, and loads it in the queue if asked."""
        from modules import sd_checkpoint, sd_models

        sd_checkpoint.list_models()
        if not load:
            return
        info = sd_checkpoint.get_closest_checkpoint_match(str(path)) or sd_checkpoint.get_closest_checkpoint_match(
            path.stem
        )
        if info is None:
            raise AtelierError(f"SD.Next does not find {path.name} in {path.parent}, so it cannot load it.")
        with self.queue():
            sd_models.reload_model_weights(info=info, force=True)

    def sample(self, request: SampleRequest) -> Image.Image | None:
        """Draws through SD.Next's own txt2img, in its queue."""
        from modules import paths, processing, shared

        with self.queue(), last_picture_kept(Path(paths.params_path).parent):
            self.restore_placement()
            task = processing.StableDiffusionProcessingTxt2Img(sd_model=shared.sd_model, **txt2img_arguments(request))
            job = shared.state.begin("Atelier sample")
            try:
                with torch.no_grad():
                    result = processing.process_images(task)
            finally:
                shared.state.end(job)
                task.close()
        return result.images[0] if result is not None and result.images else None

    def usual_request(self) -> SampleRequest:
        """What the person draws with on the txt2img page."""
        from modules import paths, shared

        page = getattr(shared.cmd_opts, "ui_config", None) or Path(paths.data_path) / "ui-config.json"
        return usual_request(Path(paths.params_path).parent, Path(page))


class SDNextLease(WebUILease):
    """A lease that gives offloading back when somebody on the page waits to draw, and takes it out after that."""

    def __init__(self, host: SDNextHost, parts: frozenset[str]) -> None:
        super().__init__(host, parts)
        self._sdnext = host

    def _end_turn(self, borrowed: Borrowed) -> None:
        if self._sdnext.holds_offload and others_wait():
            borrowed.rest()
            self._sdnext.restore_placement()


def folders() -> Folders:
    """The folders of the running SD.Next."""
    from modules import paths, shared

    lora = getattr(shared.cmd_opts, "lora_dir", None) or Path(paths.models_path) / "Lora"
    checkpoints = getattr(shared.opts, "ckpt_dir", None) or Path(paths.models_path) / "Stable-diffusion"
    own = Path(paths.data_path or paths.script_path) / "atelier"
    return Folders(Path(lora).resolve(), Path(checkpoints).resolve(), own.resolve() / "runs", own.resolve() / "cache")


def chosen_parts() -> str:
    """What SD.Next has put into the model in place of the checkpoint's own parts."""
    from modules import sd_unet, sd_vae, shared

    return f"{sd_vae.loaded_vae_file}:{sd_unet.loaded_unet}:{getattr(shared.opts, 'sd_text_encoder', None)}"


def scheduler_says(pipe: Any, key: str, otherwise: Any) -> Any:
    """A value of the schedule that the checkpoint came with; the one in use has the sampler's settings in it."""
    scheduler = getattr(pipe, "default_scheduler", None) or getattr(pipe, "scheduler", None)
    value = (getattr(scheduler, "config", None) or {}).get(key)
    return otherwise if value is None else value


def weights_on_disk(info: ModelInfo | None, part: str) -> dict[str, Tensor]:
    """A component's tensors as the checkpoint has them, under diffusers' names; none when it cannot be read."""
    from atelier.models.checkpoints.load import weights_from_path
    from atelier.models.registry import family_named

    if info is None or info.path is None or info.family is None:
        return {}
    asked = frozenset(("text_encoder" if part.startswith("text_encoder") else part, "unet"))
    try:
        return weights_from_path(family_named(info.family), info.path, asked).tensors.get(part, {})
    except (AtelierError, OSError):
        return {}
