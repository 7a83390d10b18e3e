"""Pictures through SD.Next's own txt2img, and what its page is set to."""

from __future__ import annotations

import re
from pathlib import Path

import torch
from PIL import Image

from atelier.hosts.contract import DrawnWith, SampleRequest
from atelier.hosts.shared.drawing import LAST_PICTURE, txt2img_arguments, usual_request

SKIP = re.compile(r"CLiP-skip: (\d+)")
"""What the text of a picture has where the slider of that name was not at 1."""


def last_picture_folder() -> Path:
    """Where SD.Next keeps the text of the last picture."""
    from modules import paths

    return Path(paths.params_path).parent


def draw(request: SampleRequest) -> Image.Image | None:
    """Draws one picture without saving it; None when none came of it. Called inside the queue."""
    from modules import processing, shared

    task = processing.StableDiffusionProcessingTxt2Img(sd_model=shared.sd_model, **txt2img_arguments(request))
    job = shared.state.begin("Atelier sample")
    try:
        with torch.no_grad():
            result = processing.process_images(task)
    finally:
        shared.state.end(job)
        task.close()
    return result.images[0] if result is not None and result.images else None


def request_of_page() -> SampleRequest:
    """What the person draws with on the txt2img page."""
    from modules import paths, shared

    page = getattr(shared.cmd_opts, "ui_config", None) or Path(paths.data_path) / "ui-config.json"
    return usual_request(last_picture_folder(), Path(page))


def drawn_with(family: str) -> DrawnWith:
    """What the last picture was drawn with: SD.Next's clip skip is a slider of the page, which only pictures tell."""
    try:
        text = (last_picture_folder() / LAST_PICTURE).read_text(encoding="utf-8", errors="replace")
    except OSError:
        text = ""
    found = SKIP.search(text)
    number = int(found[1]) if found else 1
    return DrawnWith(clip_skip=number + 1 if family == "sdxl" else number)
