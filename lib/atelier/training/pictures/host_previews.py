"""Sample pictures drawn by the WebUI itself, with the LoRA so far as a temporary file in its LoRA folder."""

from __future__ import annotations

import logging
from collections.abc import Callable
from pathlib import Path

import torch
from PIL import Image

from atelier.adapters.files.kohya_file import save_lora
from atelier.adapters.network import Network
from atelier.config.errors import AtelierError
from atelier.config.sample_prompts import SamplePrompt
from atelier.config.settings.schema import labelled
from atelier.hosts.contract import Host, Lease, SampleRequest
from atelier.hosts.powers import usual_request
from atelier.models.family import Parts
from atelier.models.sampling.samplers import sampler_title
from atelier.training.context import RunContext
from atelier.training.device.plan import Plan
from atelier.training.outputs.saving import check_writable, remove_with_sidecars
from atelier.training.pictures.host_drawing import host_draws
from atelier.training.pictures.previews import OnStep, OwnSampler, Previews
from atelier.training.trained.whole_model import WholeModel

log = logging.getLogger(__name__)


def previews_for(
    context: RunContext, parts: Parts, network: Network | WholeModel, lease: Lease, plan: Plan
) -> Previews:
    """The sample pictures of a session, drawn by our own sampler or by the host, as `sample_with` says."""
    drawing: OwnSampler | HostSampler
    if context.host_draws and isinstance(network, Network):
        drawing = HostSampler(context.host, network, context.job.settings.output_name)
    else:
        clip_skip = context.job.settings.clip_skip
        drawing = OwnSampler(parts, network, lease, plan, clip_skip)
    return Previews(context.prompts, drawing, context.record, context.control, context.first_step)


class HostSampler:
    """Draws with `host.sample`. Call it outside a turn, since the host enters its queue itself."""

    def __init__(self, host: Host, network: Network, output_name: str) -> None:
        self._host = host
        self._network = network
        self._usual = usual_request(host)
        self._name = f"{output_name}-sample"
        self._number = 0

    def draw(self, prompt: SamplePrompt, should_end: Callable[[], bool], on_step: OnStep) -> Image.Image:
        """One picture of `prompt`; values that it lacks are those of the person's own pictures. Raises `AtelierError`.

        Each picture gets a file with a new name, since a WebUI may cache a file under its name.
        """
        path = self._free_path()
        save_lora(path, self._network.state_tensors(torch.float32), {}, overwrite=False)
        try:
            with host_draws(self._host, "it"):
                self._host.publish_lora(path)
                picture = self._host.sample(self.request(prompt, path.stem))
        finally:
            self._take_back(path)
        if picture is None:
            raise AtelierError(f"{self._host.name} cannot draw samples. Set {labelled('sample_with')} to own.")
        return picture

    def request(self, prompt: SamplePrompt, lora: str) -> SampleRequest:
        """The request to the host: the prompt with the LoRA at full weight."""
        usual, named = self._usual, prompt.sample_sampler
        return SampleRequest(
            prompt=f"{prompt.prompt} <lora:{lora}:1>",
            negative_prompt=prompt.negative_prompt or usual.negative_prompt,
            width=prompt.width or usual.width,
            height=prompt.height or usual.height,
            steps=prompt.sample_steps or usual.steps,
            cfg_scale=usual.cfg_scale if prompt.scale is None else prompt.scale,
            seed=prompt.seed or 0,
            sampler=usual.sampler if named is None else sampler_title(named) or named,
            scheduler=usual.scheduler if named is None else "",
        )

    def _take_back(self, path: Path) -> None:
        """Removes the file, also from the host's list."""
        try:
            remove_with_sidecars(path)
            self._host.publish_lora(path)
        except Exception:  # the host's own code: a name that stays in its list does no harm
            log.exception("the temporary LoRA of a sample could not be removed")

    def _free_path(self) -> Path:
        folder = self._host.folders.lora
        check_writable(folder)
        self._number += 1
        while (path := folder / f"{self._name}-{self._number}.safetensors").exists():
            self._number += 1
        return path
