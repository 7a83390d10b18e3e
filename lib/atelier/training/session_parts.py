"""The parts of a session, made once at its start: those that need the base model, and those that outlast its loan."""

from __future__ import annotations

from contextlib import ExitStack
from dataclasses import dataclass, replace

import torch
from accelerate import Accelerator

from atelier.adapters.network import Network
from atelier.data.prefetch import Prefetcher
from atelier.hosts.contract import BaseGone, Lease
from atelier.hosts.powers import offload_denoiser
from atelier.models.checkpoints.vae_file import at_base
from atelier.models.family import Parts
from atelier.training.batch_losses import BatchLosses
from atelier.training.context import RunContext
from atelier.training.device.plan import Plan, make_plan
from atelier.training.device.precision import remark
from atelier.training.device.processes import borrowed_accelerator
from atelier.training.device.spill import SpillWatch
from atelier.training.memory.for_run import plan_memory
from atelier.training.objective.validation import Validator
from atelier.training.optim.rates import scale_rates
from atelier.training.optim.stepper import Stepper
from atelier.training.outputs.checkpoints import outputs_for
from atelier.training.outputs.outputs import Outputs
from atelier.training.pictures.host_previews import previews_for
from atelier.training.pictures.previews import Previews
from atelier.training.progress.last_good import LastGoodWeights
from atelier.training.progress.monitor import OVERFLOWS, Monitor
from atelier.training.progress.run_snapshot import differences
from atelier.training.progress.state import State, unpack
from atelier.training.progress.stopwatch import Stopwatch
from atelier.training.trained.networks import attach_base_loras, build_trainable
from atelier.training.trained.whole_model import OwnedLease, WholeModel


@dataclass(frozen=True)
class Learner:
    """The trained weights with their optimizer, and the progress reports. They outlast the loan of the base model."""

    network: Network | WholeModel
    stepper: Stepper
    monitor: Monitor
    outputs: Outputs
    accelerator: Accelerator
    device: torch.device
    is_main: bool
    """True in the process that writes files."""
    alone: bool
    """True when there is only one process."""


@dataclass(frozen=True)
class Workplace:
    """The parts that need the base model. They are dropped when the session ends."""

    lease: Lease
    parts: Parts
    plan: Plan
    losses: BatchLosses
    previews: Previews
    validator: Validator | None
    last_good: LastGoodWeights
    batches: Prefetcher
    spill: SpillWatch


def set_up(
    context: RunContext, stack: ExitStack, lease: Lease, state: State | None, watch: Stopwatch
) -> tuple[Learner, Workplace]:
    """Borrows the base model and builds everything on it, continuing from `state`; `stack` undoes it.

    Raises `BaseGone` when the host has another model than at the run's start, and `AtelierError` when the state belongs
    to another run or there is nothing to train.
    """
    settings = context.job.settings
    if context.whole_model:
        lease = OwnedLease(context.host, lease, torch.bfloat16 if settings.full_bf16 else torch.float32)
    if context.savings.streamed:
        offload_denoiser(lease)
    parts: Parts = stack.enter_context(lease)
    device = parts.device
    plan_memory(context, parts, lease, fresh=state is None)
    if context.savings.streamed:
        offload_denoiser(lease)
    if context.vae is not None:
        stack.callback(context.vae.module.to, "cpu")
        parts = replace(parts, vae=at_base(context.vae, parts.vae, device))
    plan = make_plan(settings, parts, context.savings)
    warning = remark(settings.mixed_precision, plan.precision)
    if warning is not None and state is None:
        context.record.message(warning, "warning")
    accelerator = stack.enter_context(borrowed_accelerator(device, plan.precision))
    # Read once, since the accelerator's global state is restored when the session ends.
    is_main, alone = accelerator.is_main_process, accelerator.num_processes == 1
    with lease.turn():
        _check_base(context)
        attach_base_loras(context, parts, stack)
        network = build_trainable(context, parts)
        network.to(device=device, dtype=torch.bfloat16 if settings.full_bf16 else None).train()
        stack.enter_context(network.attached())
        stack.enter_context(plan.applied(parts, device))
        with plan.on_device(device, parts.vae, *parts.text_encoders):
            pass  # moves them to where the plan says
    stepper = Stepper(context, network, plan, accelerator)
    if state is not None:
        _restore(context, network, stepper, state)
    held = state.values.get("rate_scale", 1.0) if state is not None else 1.0
    if not context.lowered:
        context.rate_scale = held
    scale_rates(stepper.optimizer, stepper.scheduler, context.rate_scale / held)
    step = context.first_step if state is None else state.step
    losses = BatchLosses.create(context, parts, plan, network, accelerator, watch)
    # Steps that overflow are skipped by the scaler, which lowers its scale: some are usual, many in a row are not.
    patience = 0 if accelerator.scaler is None else OVERFLOWS
    monitor = Monitor(context.record, context.step_schedule, device, patience)
    # A whole model is too large for a second copy: its last good weights are those of the last state.
    last_good = LastGoodWeights([] if context.whole_model else stepper.stepped, step)
    outputs = outputs_for(context, network, plan.precision)
    if state is None and is_main:
        outputs.check_room()
    previews = previews_for(context, parts, network, lease, plan)
    held_out = context.data.validation()
    validator = None
    if held_out is not None:
        validator = Validator(
            held_out, context.latent_cache, lease, losses.held_out, losses.process, context.seed,
            settings.max_validation_steps,
        )  # fmt: skip
    batches = stack.enter_context(context.prefetcher(step, accelerator.process_index, accelerator.num_processes))
    return (
        Learner(network, stepper, monitor, outputs, accelerator, device, is_main, alone),
        Workplace(lease, parts, plan, losses, previews, validator, last_good, batches, SpillWatch(device)),
    )


def _check_base(context: RunContext) -> None:
    """Raises `BaseGone` when the host lends another model than at the run's start. Called inside a turn."""
    info = context.host.loaded_model()
    if info is None or info.identity != context.base.identity:
        raise BaseGone(f"This run trains on {context.base.title}. Load that model to go on.")


def _restore(context: RunContext, network: Network | WholeModel, stepper: Stepper, state: State) -> None:
    """Restores weights, optimizer, schedule and loss scaler from `state`.

    Raises `AtelierError` when the state belongs to another base model, network or optimizer.
    """
    for warning in differences(state.values, context, stepper.name):
        context.record.message(warning, "warning")
    network.load_trained_tensors(unpack(state.values["network"], state.tensors))
    stepper.restore(state.values, state.tensors)
