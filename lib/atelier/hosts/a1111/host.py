"""AUTOMATIC1111's WebUI 1.10 (and reForge's classic parts): an LDM model, a FIFO queue, LoRAs merged into the base."""

from __future__ import annotations

import sys
from contextlib import AbstractContextManager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from PIL import Image
from torch import Tensor, nn

from atelier.hosts.contract import Folders, ModelInfo, SampleRequest
from atelier.hosts.shared import interrogators
from atelier.hosts.shared.drawing import last_picture_kept, txt2img_arguments, usual_request
from atelier.hosts.shared.folders import folders_of
from atelier.hosts.shared.lease import WebUILease
from atelier.hosts.shared.memory import DeviceMemory
from atelier.models.checkpoints.size import bytes_on

if TYPE_CHECKING:
    from atelier.hosts.shared.borrowed import Borrowed
    from atelier.models.views.from_ldm import Weights

EPSILON, VELOCITY = "epsilon", "v_prediction"

PREFIXES = {
    "cond_stage_model.wrapped.transformer.": "cond_stage_model.transformer.",
    "cond_stage_model.wrapped.model.": "cond_stage_model.model.",
    "conditioner.embedders.0.wrapped.transformer.": "conditioner.embedders.0.transformer.",
    "conditioner.embedders.1.wrapped.model.": "conditioner.embedders.1.model.",
}
"""How the WebUI's wrappers around its text encoders show in the names of their tensors."""


class A1111Host:
    """Implements `hosts.contract.Host` inside A1111."""

    name = "a1111"

    def __init__(self) -> None:
        from modules import devices

        self.folders: Folders = folders_of("Stable-diffusion")
        self.memory = DeviceMemory(lambda: torch.device(devices.device))
        self._moved = False

    @property
    def version(self) -> str:
        from modules import launch_utils

        return str(launch_utils.git_tag())

    # -- what is loaded -------------------------------------------------------------------------------------------

    def _model(self) -> Any:
        """The WebUI's model object, or None; never makes it load one."""
        from modules import sd_models

        return sd_models.model_data.sd_model

    def loaded_model(self) -> ModelInfo | None:
        """The model loaded now, or None. Never loads one."""
        from modules import devices

        model = self._model()
        checkpoint = getattr(model, "sd_checkpoint_info", None)
        if model is None or checkpoint is None:
            return None
        path = Path(checkpoint.filename)
        unet = model.model.diffusion_model
        parameter = next(unet.parameters())
        v_prediction = getattr(model, "parameterization", "eps") == "v"
        return ModelInfo(
            title=checkpoint.name_for_extra,
            family=family_of(model),
            path=path,
            identity=f"{path}:{path.stat().st_mtime_ns if path.exists() else 0}:{model.sd_model_hash}",
            prediction_type=VELOCITY if v_prediction else EPSILON,
            dtype=str(parameter.dtype).removeprefix("torch."),
            device=str(devices.device if fetches_parts(model) else parameter.device),
            refusal=refusal_of(model),
        )

    # -- the loan -------------------------------------------------------------------------------------------------

    def lease(self, parts: frozenset[str]) -> WebUILease:
        """Borrows "unet", "text_encoder", "vae" of the loaded model."""
        return WebUILease(self, parts)

    def queue(self) -> AbstractContextManager[object]:
        """The WebUI's FIFO queue. Not re-entrant."""
        from modules import call_queue

        return call_queue.queue_lock

    def turn(self) -> AbstractContextManager[object]:
        """The queue."""
        return self.queue()

    def borrow(self, parts: frozenset[str]) -> Borrowed:
        """Views over the loaded model. Called inside the queue."""
        # Here and not above: diffusers takes seconds to import, which the WebUI's start must not wait for.
        from atelier.hosts.shared.borrowed import Borrowed
        from atelier.models.assets import load_tokenizers
        from atelier.models.registry import family_named
        from atelier.models.views.from_ldm import weights_from_ldm

        model = self._model()
        family = family_named(str(family_of(model)))

        def tensors() -> list[Tensor]:
            return [tensor for _, tensor in named_tensors(self._model())]

        def read() -> Weights:
            found = {renamed(name): tensor for name, tensor in named_tensors(self._model())}
            shapes = {name: tuple(tensor.shape) for name, tensor in found.items()}
            return weights_from_ldm(family, shapes, found.__getitem__, parts, overrides_of(model))

        v_prediction = getattr(model, "parameterization", "eps") == "v"
        return Borrowed(
            family,
            read,
            tensors,
            load_tokenizers(family.name),
            VELOCITY if v_prediction else EPSILON,
            bool(getattr(model, "ztsnr", False)),
        )

    @property
    def can_offload_denoiser(self) -> bool:
        """With medvram and lowvram the WebUI fetches its UNet from the processor whenever it draws."""
        return fetches_parts(self._model())

    def bytes_on_device(self) -> int | None:
        """Less than the model with medvram and lowvram."""
        from modules import devices

        model = self._model()
        if not fetches_parts(model):
            return None
        return bytes_on(torch.device(devices.device), (tensor for _, tensor in named_tensors(model)))

    def load_to_device(self) -> None:
        """medvram and lowvram keep parts on the processor: the whole model goes to the device for the turn."""
        if fetches_parts(self._model()):
            self._bring(unet=True)

    def bring_without_unet(self) -> None:
        """As `load_to_device`, but the UNet rests on the processor. Called inside the queue."""
        self._bring(unet=False)

    def _bring(self, unet: bool) -> None:
        from modules import devices, lowvram

        model = self._model()
        lowvram.send_everything_to_cpu()
        self._moved = True
        model.model.to(devices.device if unet else devices.cpu)
        for module in (model.first_stage_model, text_module(model)):
            module.to(devices.device)

    def restore_placement(self) -> None:
        """Undoes `load_to_device`: everything goes to the processor, from where the WebUI's hooks fetch it."""
        from modules import devices

        model = self._model()
        if self._moved and model is not None:
            for module in (model.model, model.first_stage_model, text_module(model)):
                module.to(devices.cpu)
            devices.torch_gc()
        self._moved = False

    def remove_loras(self) -> None:
        """Takes out the LoRAs that the last picture left in the weights. Called inside the queue.

        The WebUI notes on every layer which LoRAs its weight holds, so that asking costs a loop and no arithmetic.
        """
        networks = sys.modules.get("networks")
        if networks is None:
            return
        model = self._model()
        if model is None:
            return
        dirty = [module for module in layers_with_networks(model) if module.network_current_names != ()]
        if not dirty:
            return
        networks.loaded_networks.clear()
        with torch.no_grad():
            for module in dirty:
                networks.network_apply_weights(module)

    # -- results --------------------------------------------------------------------------------------------------

    def publish_lora(self, path: Path) -> None:
        """Lists the LoRA, and makes the WebUI read it anew if it has an older file of that name in memory.

        What the WebUI notes on a layer is the names and weights of its LoRAs, so new bytes under an old name would
        not be put into a layer that still holds the old ones: those layers are cleaned.
        """
        networks = sys.modules.get("networks")
        if networks is None:
            return
        networks.list_available_networks()
        if networks.networks_in_memory.pop(path.stem, None) is not None:
            with self.queue():
                self.remove_loras()

    def publish_checkpoint(self, path: Path, load: bool) -> None:
        """Lists the checkpoint, and loads it in the queue if asked."""
        from modules import sd_models

        sd_models.list_models()
        if load:
            info = sd_models.get_closet_checkpoint_match(path.name)
            with self.queue():
                sd_models.reload_model_weights(info=info)

    def _no_scripts(self) -> Any:
        """What `process_images` takes for no scripts."""
        return None

    def sample(self, request: SampleRequest) -> Image.Image | None:
        """Draws through the WebUI's own txt2img, in its queue."""
        from modules import shared
        from modules.paths_internal import data_path
        from modules.processing import StableDiffusionProcessingTxt2Img, process_images

        with self.queue(), last_picture_kept(Path(data_path)):
            task = StableDiffusionProcessingTxt2Img(sd_model=shared.sd_model, **txt2img_arguments(request))
            if request.scheduler and hasattr(task, "scheduler"):
                task.scheduler = request.scheduler
            task.scripts = self._no_scripts()
            shared.state.begin(job="atelier-sample")
            try:
                with torch.no_grad():
                    result = process_images(task)
            finally:
                shared.state.end()
                task.close()
        return result.images[0] if result.images else None

    # -- what the page offers -------------------------------------------------------------------------------------

    def usual_request(self) -> SampleRequest:
        """What the person draws with on the txt2img page."""
        from modules import shared
        from modules.paths_internal import data_path

        page = getattr(shared.cmd_opts, "ui_config_file", None) or Path(data_path) / "ui-config.json"
        return usual_request(Path(data_path), Path(page))

    def captioners(self) -> tuple[str, ...]:
        """The WebUI's interrogators."""
        return interrogators.captioners()

    def caption(self, picture: Image.Image, captioner: str) -> str:
        """What an interrogator sees, in the queue. Raises `AtelierError`."""
        with self.queue():
            return interrogators.caption(picture, captioner)


def family_of(model: Any) -> str | None:
    """The name of the family that the WebUI says its model is of, None for those we cannot train."""
    if getattr(model, "is_sd3", False) or getattr(model, "is_ssd", False):
        return None
    for name, flag in (("sdxl", "is_sdxl"), ("sd2", "is_sd2"), ("sd1", "is_sd1")):
        if getattr(model, flag, False):
            return name
    return None


def refusal_of(model: Any) -> str | None:
    """Why the model cannot be borrowed, as a sentence that names the setting to change; None when it can."""
    from modules import devices, shared

    if getattr(model, "is_sd3", False):
        return "Stable Diffusion 3 cannot be trained yet: choose a checkpoint of SD 1, 2 or XL."
    if family_of(model) is None:
        return "This checkpoint is of no family that can be trained yet: choose one of SD 1, 2 or XL."
    unet = model.model.diffusion_model
    if not fetches_parts(model) and next(unet.parameters()).device.type != devices.device.type:
        return (
            "The checkpoint is unloaded: load it again with Settings, Actions, "
            '"Load SD checkpoint to VRAM from RAM", or by choosing it at the top of the page.'
        )
    channels = next(p for name, p in unet.named_parameters() if name.endswith("input_blocks.0.0.weight")).shape[1]
    if channels != 4:
        return "This is an inpainting checkpoint, made for other input: choose the plain one to train on."
    if getattr(devices, "fp8", False):
        return 'The base is kept in 8 bits: set "FP8 weight" to Disable in Settings, Optimizations, then train.'
    if getattr(shared.opts, "lora_functional", False):
        return (
            'The setting "Lora/Networks: use old method" patches the base while drawing: turn it off in Settings, '
            "Compatibility, then train."
        )
    return None


def fetches_parts(model: Any) -> bool:
    """True with medvram and lowvram: the model is on the processor, and its parts are fetched as they compute."""
    return bool(getattr(model, "lowvram", False))


def text_module(model: Any) -> nn.Module:
    """What holds the text encoders: `cond_stage_model`, in SDXL `conditioner`."""
    conditioner = getattr(model, "conditioner", None)
    return conditioner if conditioner is not None else model.cond_stage_model


def named_tensors(model: Any) -> list[tuple[str, Tensor]]:
    """Every parameter of the model under its LDM name, without those that only point at another."""
    roots: list[tuple[str, nn.Module]] = [
        ("model.diffusion_model.", model.model.diffusion_model),
        ("first_stage_model.", model.first_stage_model),
        ("conditioner." if hasattr(model, "conditioner") else "cond_stage_model.", text_module(model)),
    ]
    return [(prefix + name, parameter) for prefix, root in roots for name, parameter in root.named_parameters()]


def renamed(name: str) -> str:
    """The name that a checkpoint file has for a tensor of the WebUI's model."""
    for wrapped, plain in PREFIXES.items():
        if name.startswith(wrapped):
            name = plain + name[len(wrapped) :]
    return name.replace("token_embedding.wrapped.", "token_embedding.")


def overrides_of(model: Any) -> dict[str, dict[str, Any]]:
    """What the shapes do not tell: the number of attention heads, where the WebUI's UNet says it."""
    unet = model.model.diffusion_model
    heads, width = getattr(unet, "num_heads", -1), getattr(unet, "num_head_channels", -1)
    if isinstance(heads, int) and heads > 0 and width in (-1, None):
        return {"unet": {"attention_head_dim": heads}}
    return {}


def layers_with_networks(model: Any) -> list[Any]:
    """Every layer of the UNet and text encoders on which the Lora extension has noted something."""
    return [
        module
        for root in (model.model.diffusion_model, text_module(model))
        for module in root.modules()
        if hasattr(module, "network_current_names")
    ]
