"""Draws missing class pictures with the base model before the run. They are kept for later runs."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable

from PIL import Image

from atelier.config.errors import AtelierError
from atelier.config.job import JobConfig
from atelier.hosts.contract import Host, ModelInfo, SampleRequest
from atelier.hosts.powers import usual_request
from atelier.models.sampling.sample import sample
from atelier.training.device.processes import is_main_process, process_count
from atelier.training.device.turns import LongTurn
from atelier.training.interfaces import RunControl, RunRecord
from atelier.training.outputs.saving import check_writable
from atelier.training.pictures.class_pictures import ClassFolder, class_folders
from atelier.training.pictures.host_drawing import host_draws
from atelier.training.randomness import derived_seed

PARTS = frozenset(("unet", "text_encoder", "vae"))


def with_class_pictures(
    job: JobConfig, host: Host, base: ModelInfo, record: RunRecord, control: RunControl
) -> JobConfig:
    """The job with its class pictures. Missing pictures are drawn by the host or by our own sampler.

    Stop ends it and keeps the drawn pictures. Raises `AtelierError` when a picture cannot be drawn or saved.
    """
    datasets, folders = class_folders(job, host, base)
    missing = sum(wanted.missing for wanted in folders)
    if missing and process_count() > 1 and not is_main_process():
        while any(wanted.missing for wanted in folders) and not control.stopping:
            control.wait_for_request(0.5)
    elif missing:
        record.message(f"{missing} class pictures are missing and are drawn now.")
        done = 0
        for wanted in folders:
            check_writable(wanted.folder)
            while wanted.missing and _go_on(host, base, record, control):
                done += 1
                record.status("preparing", "Drawing class pictures.")
                record.activity(f"Drawing class pictures: {wanted.prompt}", done, missing)
                draw_one(wanted, host, control)
    return dataclasses.replace(job, datasets=datasets)


def draw_one(wanted: ClassFolder, host: Host, control: RunControl) -> None:
    """Draws the next picture of the class into its folder, with a caption file. Raises `AtelierError`."""
    number = 1
    while (path := wanted.folder / f"class-{number:05d}.png").exists():
        number += 1
    width, height = wanted.size
    request = dataclasses.replace(
        usual_request(host), prompt=wanted.prompt, width=width, height=height,
        seed=derived_seed(0, "class picture", wanted.prompt, number) % 2**32,
    )  # fmt: skip
    with host_draws(host, f"the class picture {wanted.prompt!r}"):
        picture = host.sample(request)
    if picture is None:
        picture = _by_our_own_sampler(host, request, lambda: control.stopping)
    if picture is None:
        return
    half = path.with_name(f".{path.name}.part")
    try:
        path.with_suffix(".txt").write_text(wanted.prompt + "\n", encoding="utf-8")
        picture.convert("RGB").save(half, format="PNG")
        half.replace(path)
    except OSError as error:
        half.unlink(missing_ok=True)
        reason = error.strerror or error
        raise AtelierError(f"The class picture {path} cannot be saved ({reason}). Free space on its disk.") from error


def _go_on(host: Host, base: ModelInfo, record: RunRecord, control: RunControl) -> bool:
    """Waits while the run is paused or another model is loaded. False when the person has stopped the run."""
    while not control.stopping:
        info = host.loaded_model()
        if control.paused:
            control.wait_while_paused(1.0)
        elif info is not None and info.identity == base.identity:
            return True
        else:
            record.status("waiting", f"Class pictures are drawn with {base.title}. Load that model to go on.")
            control.wait_for_request(0.5)
    return False


def _by_our_own_sampler(host: Host, request: SampleRequest, should_stop: Callable[[], bool]) -> Image.Image | None:
    lease = host.lease(PARTS)
    with lease as parts, LongTurn(lease) as turn:
        pictures = sample(
            parts, [request.prompt], [request.negative_prompt], request.width, request.height, request.steps,
            request.cfg_scale, [request.seed], on_step=lambda *_: turn.breathe(), should_stop=should_stop,
        )  # fmt: skip
    return pictures[0] if pictures else None
