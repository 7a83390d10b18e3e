"""Drawing in WebUIs of A1111's kind: the settings of the page, and pictures that leave no trace on it."""

from __future__ import annotations

import json
import logging
import re
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

from atelier.hosts.contract import SampleRequest

log = logging.getLogger(__name__)

LAST_PICTURE = "params.txt"
"""In the WebUI's data folder: the text of the last picture, which the page's button with the arrow reads back."""

_PAGE: Mapping[str, tuple[str, type]] = {
    "negative_prompt": ("txt2img/Negative prompt/value", str),
    "width": ("txt2img/Width/value", int),
    "height": ("txt2img/Height/value", int),
    "steps": ("customscript/sampler.py/txt2img/Sampling steps/value", int),
    "cfg_scale": ("txt2img/CFG Scale/value", float),
    "sampler": ("customscript/sampler.py/txt2img/Sampling method/value", str),
    "scheduler": ("customscript/sampler.py/txt2img/Schedule type/value", str),
}
_TEXT: Mapping[str, tuple[str, type]] = {
    "steps": (r"Steps: (\d+)", int),
    "cfg_scale": (r"CFG scale: ([\d.]+)", float),
    "sampler": (r"Sampler: ([^,]+)", str),
    "scheduler": (r"Schedule type: ([^,]+)", str),
    "width": (r"Size: (\d+)x\d+", int),
    "height": (r"Size: \d+x(\d+)", int),
}


def usual_request(data_folder: Path, page_file: Path) -> SampleRequest:
    """What the person draws with: the settings of the last picture, else what the page starts with.

    `page_file` is ui-config.json. What neither says, or says in a way that cannot be read, is `SampleRequest`'s own.
    """
    request = replace(SampleRequest(""), **_of_page(page_file))
    try:
        text = (data_folder / LAST_PICTURE).read_text(encoding="utf-8", errors="replace")
    except OSError:
        return request
    return replace(request, **_of_text(text))


def txt2img_arguments(request: SampleRequest) -> dict[str, Any]:
    """What `StableDiffusionProcessingTxt2Img` takes for a request, for a picture that is not saved.

    The schedule is not among it: WebUIs that choose one have an attribute of their own for it.
    """
    return {
        "prompt": request.prompt,
        "negative_prompt": request.negative_prompt,
        "width": request.width,
        "height": request.height,
        "steps": request.steps,
        "cfg_scale": request.cfg_scale,
        "seed": request.seed,
        "sampler_name": request.sampler,
        "do_not_save_samples": True,
        "do_not_save_grid": True,
    }


@contextmanager
def last_picture_kept(data_folder: Path) -> Iterator[None]:
    """A picture drawn inside the block does not become the page's last one."""
    path = data_folder / LAST_PICTURE
    try:
        before = path.read_bytes()
    except OSError:
        before = None
    try:
        yield
    finally:
        try:
            if before is not None:
                path.write_bytes(before)
            else:
                path.unlink(missing_ok=True)
        except OSError as error:
            log.warning("the settings of the last picture could not be put back: %s", error)


def _of_page(path: Path) -> dict[str, Any]:
    try:
        held = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    if not isinstance(held, dict):
        return {}
    return _converted({name: (held.get(key), kind) for name, (key, kind) in _PAGE.items()})


def _of_text(text: str) -> dict[str, Any]:
    """From a picture's text: prompt, perhaps a negative prompt, and a line that begins with "Steps: "."""
    head, found, line = text.rpartition("\nSteps: ")
    if not found:
        return {}
    line = f"Steps: {line}"
    values: dict[str, tuple[Any, type]] = {}
    for name, (pattern, kind) in _TEXT.items():
        match = re.search(pattern, line)
        if match:
            values[name] = (match[1].strip(), kind)
    _, has_negative, negative = head.rpartition("\nNegative prompt: ")
    values["negative_prompt"] = (negative if has_negative else "", str)
    return _converted(values)


def _converted(values: Mapping[str, tuple[Any, type]]) -> dict[str, Any]:
    """The values of their kinds, without those that are missing or of another kind."""
    found: dict[str, Any] = {}
    for name, (value, kind) in values.items():
        if value is None:
            continue
        try:
            found[name] = kind(value)
        except (TypeError, ValueError):
            log.warning("%s is %r where the WebUI has a number; it is ignored", name, value)
    return found
