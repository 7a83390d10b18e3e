"""One stretch of training: from entering the lease to leaving it.

A run is one session, or several: a pause, a switched checkpoint or too little memory ends a session with its state
written, and the next one goes on from there to the same bits.
"""

from __future__ import annotations

import time
from contextlib import ExitStack
from enum import Enum
from typing import Any

import torch
from accelerate import Accelerator
from torch import Tensor

from atelier.adapters.network import Network
from atelier.data.batch import Batch
from atelier.data.prefetch import Prefetcher
from atelier.hosts.contract import Lease
from atelier.models.family import Parts, SizeConditions, TextStates
from atelier.training.divergence import Guard
from atelier.training.latents import LatentEncoder
from atelier.training.monitor import Monitor
from atelier.training.noise import NoiseSchedule
from atelier.training.objective import diffusion_losses, draw
from atelier.training.optimizers import create_optimizer, is_schedule_free
from atelier.training.outputs import Outputs
from atelier.training.previews import Previews
from atelier.training.processes import borrowed_accelerator, sum_gradients
from atelier.training.randomness import seeded_globals
from atelier.training.run_context import RunContext
from atelier.training.schedulers import create_scheduler
from atelier.training.state import State, pack, unpack
from atelier.training.text import TextCache


class Ending(Enum):
    """Why a session ended."""

    DONE = "done"
    STOPPED = "stopped"
    PAUSED = "paused"
    DIVERGED = "diverged"


class Session:
    """Trains from the state it is given until something ends it. Use: `Session(context).run(lease, state)`."""

    def __init__(self, context: RunContext) -> None:
        self.context = context
        self.settings = context.job.settings
        self.step = 0
        self._stack = ExitStack()

    def run(self, lease: Lease, state: State | None) -> tuple[Ending, State]:
        """Gives why it ended, and the state to go on from. Everything borrowed is given back on every path.

        Raises `BaseGone` (with the state kept in `latest`) when the host loads another model.
        """
        with self._stack:
            self._enter(lease, state)
            ending = self._loop()
            return ending, self.capture()

    # -- setting up -----------------------------------------------------------------------------------------------

    def _enter(self, lease: Lease, state: State | None) -> None:
        context, settings = self.context, self.settings
        self.lease = lease
        self.parts: Parts = self._stack.enter_context(lease)
        self.device = self.parts.device
        self.accelerator: Accelerator = self._stack.enter_context(
            borrowed_accelerator(self.device, context.plan.precision)
        )
        with lease.turn():
            self.network: Network = context.build_network(self.parts)
            self.network.to(self.device)
            self._stack.enter_context(self.network.attached())
            context.plan.apply(self.parts)
        self.groups = self.network.parameter_groups(context.rates)
        self.parameters = [parameter for group in self.groups for parameter in group["params"]]
        self.optimizer = create_optimizer(
            self.groups, settings.optimizer_type, settings.learning_rate, settings.optimizer_args or []
        )
        self.scheduler = create_scheduler(self.optimizer, context.schedule_options, context.total_steps)
        if is_schedule_free(self.optimizer):
            self.optimizer.train()
        if state is not None:
            self.restore(state)
        self.noise_schedule = NoiseSchedule.create(self.device, context.zero_terminal_snr)
        self.stepper = self.accelerator.prepare_optimizer(self.optimizer)
        self.text = TextCache(self._encode)
        self.latents = LatentEncoder(self.parts, context.latent_cache, settings.vae_batch_size, context.plan)
        self.monitor = Monitor(
            context.record, context.total_steps, context.epochs, context.steps_per_epoch, self.device
        )
        self.guard = Guard(self.parameters)
        self.outputs = Outputs(context, self.network)
        self.previews = Previews(context, self.parts, self.lease)
        first = self.step * context.accumulation
        self.batches = self._stack.enter_context(
            Prefetcher(context.load_batch, first, context.total_steps * context.accumulation)
        )

    # -- the loop -------------------------------------------------------------------------------------------------

    def _loop(self) -> Ending:
        context, control = self.context, self.context.control
        context.record.status("running", "")
        if self.step == 0:
            self._first_previews()
        while self.step < context.total_steps:
            started = time.monotonic()
            waited = self._take_step()
            self.step += 1
            context.finished_steps = self.step
            due = self.monitor.step_done(
                self.step, self.loss, self.rates(), time.monotonic() - started - waited
            )
            if due and not self._read_losses():
                return Ending.DIVERGED
            self._after_step()
            if control.stopping:
                return Ending.STOPPED
            if control.paused:
                return Ending.PAUSED
        return Ending.DONE

    def _take_step(self) -> float:
        """One optimiser step. Gives the seconds that were spent waiting for the host."""
        context = self.context
        waited = 0.0
        total = torch.zeros((), device=self.device)
        self.optimizer.zero_grad(set_to_none=True)
        for micro in range(context.accumulation):
            batch = self.batches.get(self.step * context.accumulation + micro)
            asked = time.monotonic()
            with self.lease.turn():
                waited += time.monotonic() - asked
                total += self._forward_backward(batch, micro)
                if micro == context.accumulation - 1:
                    self._update()
        self.loss = total
        return waited

    def _forward_backward(self, batch: Batch, micro: int) -> Tensor:
        """Adds one batch's gradients; gives its share of the step's loss, detached."""
        context = self.context
        purpose = (self.step, micro)
        share = 1.0 / (batch.total * context.accumulation)
        if len(batch.captions) == 0:
            return torch.zeros((), device=self.device)
        with self.accelerator.autocast(), seeded_globals(self.device, context.seed, "dropout", *purpose):
            latents = self.latents(batch)
            shape = torch.Size((batch.total, *latents.shape[1:]))
            draws = draw(shape, latents, context.noise_options, context.seed, "noise", *purpose)
            rows = draws.rows(batch.first, batch.first + len(batch.captions))
            losses = diffusion_losses(
                self.parts,
                self.noise_schedule,
                context.loss_options,
                latents,
                rows,
                self._text_states(batch),
                self._sizes(batch),
                None if batch.masks is None else batch.masks.to(self.device),
                batch.loss_weights.to(self.device),
            )
            loss = losses.sum() * share
        self.accelerator.backward(loss)
        return loss.detach()

    def _update(self) -> None:
        """Clips over all weights, steps the optimiser and the schedule."""
        settings = self.settings
        sum_gradients(self.accelerator, self.parameters)
        if settings.max_grad_norm:
            self.accelerator.clip_grad_norm_(self.parameters, settings.max_grad_norm)
        self.stepper.step()
        if not self.stepper.step_was_skipped:
            self.scheduler.step()
        if settings.scale_weight_norms:
            self.network.apply_max_norm(settings.scale_weight_norms)

    def _read_losses(self) -> bool:
        """Reads the pending losses. False, with the last good weights back in place, when one was not finite."""
        if self.monitor.read():
            self.guard.remember(self.step)
            return True
        self.step = self.guard.roll_back()
        return False

    def _after_step(self) -> None:
        """Saves, states and samples that are due at this step, by rhythm or by request."""
        context, control = self.context, self.context.control
        save, sample = control.take_save(), control.take_sample()
        if context.rhythm.state_due(self.step):
            context.keep_state(self.capture())
        due = self.outputs.due(self.step)
        if not (save or sample or due or self.previews.due(self.step)):
            return
        if not self._read_losses():
            return
        if sample or self.previews.due(self.step):
            self.previews.draw(self.step)
        if save or due:
            self.outputs.save(self.step, final=False)

    # -- inputs ---------------------------------------------------------------------------------------------------

    def _encode(self, captions: list[str]) -> TextStates:
        settings = self.settings
        return self.parts.family.encode(
            self.parts, captions, settings.clip_skip, settings.max_token_length or 75, settings.weighted_captions
        )

    def _text_states(self, batch: Batch) -> TextStates:
        return self._encode(batch.captions) if self.context.trains_text else self.text(batch.captions)

    def _sizes(self, batch: Batch) -> SizeConditions:
        return SizeConditions(
            batch.original_sizes.to(self.device),
            batch.crop_top_lefts.to(self.device),
            batch.target_sizes.to(self.device),
        )

    # -- state ----------------------------------------------------------------------------------------------------

    def rates(self) -> dict[str, float]:
        """The learning rate of each group now, by name."""
        groups = enumerate(self.optimizer.param_groups)
        return {group.get("name", str(index)): float(group["lr"] or 0.0) for index, group in groups}

    def capture(self) -> State:
        """The complete state after the finished steps."""
        tensors: dict[str, Tensor] = {}
        values: dict[str, Any] = {
            "network": pack(self.network.trained_tensors(), "network", tensors),
            "optimizer": pack(self.optimizer.state_dict(), "optimizer", tensors),
            "scheduler": pack(_plain(self.scheduler.state_dict()), "scheduler", tensors),
        }
        if self.accelerator.scaler is not None:
            values["scaler"] = pack(self.accelerator.scaler.state_dict(), "scaler", tensors)
        return State(self.step, {name: tensor.detach().cpu().clone() for name, tensor in tensors.items()}, values)

    def restore(self, state: State) -> None:
        """Puts weights, optimiser, schedule and scaler where `state` left them."""
        self.network.load_trained_tensors(unpack(state.values["network"], state.tensors))
        self.optimizer.load_state_dict(unpack(state.values["optimizer"], state.tensors))
        self.scheduler.load_state_dict(unpack(state.values["scheduler"], state.tensors))
        if self.accelerator.scaler is not None and "scaler" in state.values:
            self.accelerator.scaler.load_state_dict(unpack(state.values["scaler"], state.tensors))
        self.step = state.step


def _plain(state: dict[str, Any]) -> dict[str, Any]:
    """A schedule's state without the functions that some keep in it; they come with the class."""
    return {key: value for key, value in state.items() if not callable(value)}
