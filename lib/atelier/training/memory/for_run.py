"""The memory plan of a run: for its first session, and for the tab before the start."""

from __future__ import annotations

import functools
import json
import logging
import traceback
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import torch
from diffusers import UNet2DConditionModel

from atelier.config.errors import AtelierError
from atelier.config.job import JobConfig
from atelier.hosts.contract import Host, Lease
from atelier.hosts.powers import bytes_on_device, can_offload_denoiser
from atelier.models.checkpoints.size import bytes_on, numbers_of
from atelier.models.family import Parts
from atelier.models.views.from_ldm import TEXT_CLASSES
from atelier.models.views.view import build_empty
from atelier.training.context import RunContext, trains_denoiser, trains_text
from atelier.training.device.precision import choose
from atelier.training.device.processes import process_count
from atelier.training.device.spill import reserve
from atelier.training.memory.cache import remembering
from atelier.training.memory.plan import MemoryPlan, can_rest, can_stream, in_hand, largest_cut, make_memory_plan, needs
from atelier.training.memory.request import (
    Request,
    configs_of_model,
    configs_of_parts,
    dtype_of,
    request_for,
    tells,
)
from atelier.training.trained.whole_model import OwnedLease

log = logging.getLogger(__name__)


def plan_memory(context: RunContext, parts: Parts, lease: Lease, fresh: bool) -> None:
    """Chooses the run's memory savings once, before its first step, and writes what and why to the record.

    `fresh`: the run has no state yet, so its optimizer may be changed. A resumed run keeps its savings. A failed
    prediction is reported and does not end the run.
    """
    savings = context.savings
    if savings.planned:
        return
    savings.planned = True
    savings.gradient_checkpointing |= context.job.settings.gradient_checkpointing
    try:
        request = replace(_request_of_parts(context, parts), can_stream=can_offload_denoiser(lease))
    except (AttributeError, LookupError, TypeError, ValueError) as error:  # its modules do not show their shapes
        log.info("the memory of a step cannot be predicted: %s", error)
        _not_predicted(context, error)
        return
    savings.can_rest, savings.can_stream = can_rest(request), can_stream(request)
    savings.largest_batch = largest_cut(request)
    savings.fp8 |= request.fp8
    if savings.known:
        savings.streamed &= request.can_stream  # the WebUI may have been restarted with other flags
        return
    try:
        plan = _plan_on(context.host, lease, parts, request, fresh and process_count() == 1)
    except AtelierError as error:  # the run itself is about to say the same
        log.info("the memory of a step cannot be predicted: %s", error)
        return
    except Exception as error:  # noqa: BLE001 - only advice: the run is tried whatever the libraries raise
        log.info("the memory of a step could not be predicted: %s", error)
        context.record.log(traceback.format_exc())
        _not_predicted(context, error)
        return
    for sentence in plan.sentences():
        context.record.message(sentence, "info" if plan.fits else "warning")
    context.savings = plan.savings()
    if isinstance(lease, OwnedLease) and request.device != "cpu":
        lease.room = plan.prediction.activations + plan.prediction.gradients
    keep_savings(context)


def _not_predicted(context: RunContext, error: Exception) -> None:
    context.record.message(f"The memory that this run needs could not be predicted: {error}", "info")


def keep_savings(context: RunContext) -> None:
    """Writes the savings into the run's folder; a full disk is reported."""
    try:
        context.savings.keep(context.record.folder)
    except OSError as error:
        context.record.message(f"The memory savings of this run could not be written: {error}", "warning")


def memory_lines(job: JobConfig, host: Host, sizes: Sequence[tuple[int, int]]) -> list[str]:
    """The sentences of the plan for the tab, for pictures of these `sizes`, each (width, height) in pixels.

    It is [] when the model's file does not show its shapes. It takes seconds the first time.
    """
    info = host.loaded_model()
    if info is None or info.family is None or info.refusal or not sizes:
        return []
    if info.family not in TEXT_CLASSES or info.path is None or not tells(info.path):
        return []
    configs = configs_of_model(info.family, info.path)
    device = torch.device(info.device)
    request = _request(job, info.family, configs, sizes, device, info.dtype, info.dtype)
    request = replace(request, can_stream=can_offload_denoiser(host))
    there = 0 if request.whole_model else bytes_on_device(host)
    plan = make_memory_plan(request, host.memory.free(), remembering(host.folders.cache), there=there)
    return plan.sentences()


def largest(sizes: Sequence[tuple[int, int]]) -> tuple[int, int]:
    """The size with the most pixels."""
    return max(sizes, key=lambda size: size[0] * size[1])


def _plan_on(host: Host, lease: Lease, parts: Parts, request: Request, may_change_optimizer: bool) -> MemoryPlan:
    """The plan for the free memory. If that is too little, the host is first asked to free some."""
    predicted = remembering(host.folders.cache)
    wanted = needs(
        predicted(request), bytes_on(parts.device, parts.parameters()), in_hand(request), reserve(request.device)
    )
    if wanted > host.memory.free():
        host.memory.ask(wanted)
        with lease.turn():  # some hosts free memory when the next turn starts
            pass
    there = bytes_on(parts.device, parts.parameters())
    return make_memory_plan(
        request, host.memory.free(), predicted, eight_bit=None if may_change_optimizer else False, there=there
    )


def _request_of_parts(context: RunContext, parts: Parts) -> Request:
    """The request as the tab made it when the model's file shows its shapes, so that its prediction is cached."""
    base = context.base
    if parts.family.name not in TEXT_CLASSES:
        raise LookupError(f"what a step of {parts.family.title} needs is not known yet.")
    if base.path is not None and tells(base.path):
        configs = configs_of_model(parts.family.name, base.path)
    else:
        configs = configs_of_parts(parts)
    sizes = [picture.bucket for picture in context.data.pictures]
    return _request(
        context.job, parts.family.name, configs, sizes, parts.device, dtype_of(parts.denoiser),
        dtype_of(parts.vae),
    )  # fmt: skip


def _request(
    job: JobConfig,
    family: str,
    configs: dict[str, dict[str, Any]],
    sizes: Sequence[tuple[int, int]],
    device: torch.device,
    dtype: str,
    vae_dtype: str,
) -> Request:
    settings = job.settings
    # A whole model is trained on a copy in another precision.
    base = None if settings.train_whole_model else getattr(torch, dtype, None)
    precision = choose(
        settings.mixed_precision,
        device,
        _count(json.dumps(configs["unet"], sort_keys=True)),
        base,
        bool(settings.full_bf16),
    )
    return request_for(
        settings, family, configs, largest(sizes), _batch(job), precision, len(sizes),
        trains_denoiser=trains_denoiser(settings), trains_text=trains_text(settings),
        base_dtype=dtype, vae_dtype=vae_dtype, device=device.type,
    )  # fmt: skip


def _batch(job: JobConfig) -> int:
    return max(dataset.batch_size for dataset in job.datasets.datasets)


@functools.lru_cache(maxsize=16)
def _count(unet_config: str) -> int:
    return numbers_of(build_empty(UNet2DConditionModel, json.loads(unet_config)).parameters())
