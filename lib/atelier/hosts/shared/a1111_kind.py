"""Parts that A1111, Forge and reForge have in common: version, queue, drawing, and the settings of the page."""

from __future__ import annotations

from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any

import torch
from PIL import Image

from atelier.config.errors import AtelierError
from atelier.hosts.contract import SampleRequest
from atelier.hosts.shared import interrogators
from atelier.hosts.shared.drawing import last_picture_kept, txt2img_arguments, usual_request


def version() -> str:
    """The tag or the commit that the WebUI was installed at."""
    from modules import launch_utils

    return str(launch_utils.git_tag())


def queue() -> AbstractContextManager[object]:
    """The WebUI's FIFO queue. Not re-entrant."""
    from modules import call_queue

    lock: AbstractContextManager[object] = call_queue.queue_lock
    return lock


def load_chosen(title: str) -> None:
    """Loads the checkpoint that is chosen, or waits until the WebUI, called `title`, has done so after its start.

    Takes the queue. Raises `AtelierError` when it cannot be loaded.
    """
    from modules import sd_models

    data = sd_models.model_data
    if data.sd_model is not None:
        return
    with queue():
        try:
            # The first loads what no picture has asked for yet; the second, what failed to load before.
            if data.get_sd_model() is None:
                sd_models.reload_model_weights()
        except Exception as error:  # no model there, of no known kind, or damaged: the WebUI's code, in any way
            raise AtelierError(f"{title} could not load the chosen checkpoint: {error}") from error
    if data.sd_model is None:
        raise AtelierError(f"{title} could not load the chosen checkpoint. Its console says why.")


def draw(request: SampleRequest, scripts: object = None) -> Image.Image | None:
    """Draws through the WebUI's own txt2img, in its queue. `scripts`: what `process_images` takes for no scripts."""
    from modules import shared
    from modules.paths_internal import data_path
    from modules.processing import StableDiffusionProcessingTxt2Img, process_images

    with queue(), last_picture_kept(Path(data_path)):
        task = StableDiffusionProcessingTxt2Img(sd_model=shared.sd_model, **txt2img_arguments(request))
        if request.scheduler and hasattr(task, "scheduler"):
            task.scheduler = request.scheduler
        task.scripts = scripts
        shared.state.begin(job="atelier-sample")
        try:
            with torch.no_grad():
                result = process_images(task)
        finally:
            shared.state.end()
            task.close()
    return result.images[0] if result.images else None


def request_of_page() -> SampleRequest:
    """What the person draws with on the txt2img page."""
    from modules import shared
    from modules.paths_internal import data_path

    page = getattr(shared.cmd_opts, "ui_config_file", None) or Path(data_path) / "ui-config.json"
    return usual_request(Path(data_path), Path(page))


def caption(picture: Image.Image, captioner: str) -> str:
    """What an interrogator of the WebUI sees, in its queue. Raises `AtelierError`."""
    with queue():
        return interrogators.caption(picture, captioner)


def listed_checkpoint(path: Path, title: str) -> Any:
    """The entry of a checkpoint in the WebUI's list. Raises `AtelierError` when the WebUI, called `title`, lacks it."""
    from modules import sd_models

    entry = sd_models.get_closet_checkpoint_match(path.name)
    if entry is None:
        raise AtelierError(f"{title} cannot find {path.name} in {path.parent}, so it is not loaded.")
    return entry
