"""One stretch of training: from entering the lease to leaving it.

A run is one session, or several: a pause, a switched checkpoint or too little memory ends a session with its state
written, and the next one goes on from there to the same bits.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from enum import Enum
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from atelier.data.batch import Batch
from atelier.hosts.contract import BaseGone, Lease, offload_denoiser
from atelier.models.family import Parts, PromptEmbeds, SizeConditions
from atelier.models.transfer import to_device
from atelier.training.context import RunContext, loss_options, noise_options, noise_process
from atelier.training.device.micro_batches import split_batch
from atelier.training.device.plan import make_plan
from atelier.training.device.processes import borrowed_accelerator
from atelier.training.inputs.latents import LatentEncoder
from atelier.training.inputs.prompt_embeds import TextCache
from atelier.training.memory.for_run import plan_memory
from atelier.training.objective.objective import NoiseSample, diffusion_losses, sample_noise
from atelier.training.objective.validation import Validator
from atelier.training.optim.rates import scale_rates
from atelier.training.optim.stepper import Stepper
from atelier.training.outputs.checkpoints import outputs_for
from atelier.training.outputs.outputs import EMA
from atelier.training.pictures.host_previews import previews_for
from atelier.training.progress.last_good import LastGoodWeights
from atelier.training.progress.monitor import Monitor
from atelier.training.progress.run_snapshot import differences, run_snapshot
from atelier.training.progress.state import State, pack, unpack
from atelier.training.progress.stopwatch import Stopwatch
from atelier.training.randomness import seeded_globals
from atelier.training.trained.networks import at_strength, attach_base_loras, build_trainable
from atelier.training.trained.whole_model import OwnedLease, WholeModel


class Ending(Enum):
    """Why a session ended."""

    DONE = "done"
    STOPPED = "stopped"
    PAUSED = "paused"
    DIVERGED = "diverged"


class Session:
    """Trains from the state it is given until something ends it. Use: `Session(context).run(lease, state)`."""

    def __init__(self, context: RunContext, keep_state: Callable[[State], None]) -> None:
        self.context = context
        self.settings = context.job.settings
        self.step = context.first_step
        self._keep_state = keep_state
        self._ready = False
        self._updating = False
        self.watch = Stopwatch()

    def run(self, lease: Lease, state: State | None) -> Ending:
        """Gives why it ended. Everything borrowed is given back on every path.

        Raises `BaseGone` when the host loads another model; what was learnt until then is in `capture`.
        """
        if state is not None:
            self.step = state.step
        # The caller may be in a host's thread, where gradients are off.
        with torch.inference_mode(False), torch.enable_grad(), ExitStack() as stack:
            self.enter(stack, lease, state)
            return self._loop()

    @property
    def ready(self) -> bool:
        """True once it has everything that a step needs."""
        return self._ready

    def keep(self) -> State | None:
        """Writes the state after the last whole step and gives it; None when there is nothing whole to keep."""
        # Losses are left to read where something has ended the session.
        if not self._ready or self._updating or not self.monitor.read() or not self.stepper.sound:
            return None
        state = self.capture()
        if self.is_main:
            with self.context.throttle.timed():
                self._keep_state(state)
        return state

    def leave(self) -> None:
        """Forgets the host's model and what only steps need. What was learnt stays, on the processor, to be written."""
        for name in ("lease", "parts", "plan", "text", "latents", "previews", "validator", "last_good", "batches"):
            self.__dict__.pop(name, None)
        if self._ready:
            self.stepper.retire()
            self.network.to("cpu")
            if isinstance(self.network, WholeModel):
                for module in self.network.parts.modules:
                    module.to("cpu")

    def write_last(self, ending: Ending) -> Path | None:
        """The file that the run leaves: its own name when it is done, else the step's. None without a step."""
        lost = ending is Ending.DIVERGED and self.context.whole_model
        if not self._ready or self.step == self.context.first_step or not self.is_main or lost:
            return None
        return self._save("final" if ending is Ending.DONE else "asked")

    # -- setting up -----------------------------------------------------------------------------------------------

    def enter(self, stack: ExitStack, lease: Lease, state: State | None) -> None:
        """Borrows the base and sets everything up; `stack` undoes it."""
        context, settings = self.context, self.settings
        if context.whole_model:
            lease = OwnedLease(context.host, lease, torch.bfloat16 if settings.full_bf16 else torch.float32)
        self.lease = lease
        if context.savings.streamed:
            offload_denoiser(lease)
        self.parts: Parts = stack.enter_context(lease)
        self.device = self.parts.device
        plan_memory(context, self.parts, lease, fresh=state is None)
        if context.savings.streamed:
            offload_denoiser(lease)
        self.plan = make_plan(settings, self.parts, context.savings)
        self.accelerator = stack.enter_context(borrowed_accelerator(self.device, self.plan.precision))
        # Asked once: when the session ends, the accelerator's global state is another's again.
        self.is_main = self.accelerator.is_main_process
        self.alone = self.accelerator.num_processes == 1
        with lease.turn():
            self._check_base()
            attach_base_loras(context, self.parts, stack)
            self.network = build_trainable(context, self.parts)
            self.network.to(device=self.device, dtype=torch.bfloat16 if settings.full_bf16 else None).train()
            stack.enter_context(self.network.attached())
            self.plan.apply(self.parts, self.device)
            with self.plan.on_device(self.device, self.parts.vae, *self.parts.text_encoders):
                pass  # from here on they rest where the plan says so
        self.stepper = Stepper(context, self.network, self.plan, self.accelerator)
        self.parameters, self.optimizer = self.stepper.parameters, self.stepper.optimizer
        if state is not None:
            self.restore(state)
        held = state.values.get("rate_scale", 1.0) if state is not None else 1.0
        if not context.lowered:
            context.rate_scale = held
        scale_rates(self.optimizer, self.stepper.scheduler, context.rate_scale / held)
        self.loss_options = loss_options(settings)
        self.noise_options = noise_options(settings)
        self.process = noise_process(settings, self.parts)
        self.text = TextCache(self._encode)
        self.latents = LatentEncoder(self.parts, context.latent_cache, settings.vae_batch_size)
        self.monitor = Monitor(context.record, context.step_schedule, self.device)
        # A second copy of a whole model would be too much: its last good weights are those of the last state.
        self.last_good = LastGoodWeights([] if context.whole_model else self.stepper.stepped, self.step)
        self.outputs = outputs_for(context, self.network, self.plan.precision)
        if state is None and self.is_main:
            self.outputs.check_room()
        self.previews = previews_for(context, self.parts, self.network, lease, self.plan)
        held_out = context.data.validation()
        self.validator = None
        if held_out is not None:
            self.validator = Validator(
                held_out, context.latent_cache, lease, self._held_out_losses, self.process, context.seed,
                settings.max_validation_steps,
            )  # fmt: skip
        self.batches = stack.enter_context(
            context.prefetcher(self.step, self.accelerator.process_index, self.accelerator.num_processes)
        )
        self._ready = True

    def _check_base(self) -> None:
        """Raises `BaseGone` when the host lent another model than the run began with. Called inside a turn."""
        info = self.context.host.loaded_model()
        if info is None or info.identity != self.context.base.identity:
            raise BaseGone(f"This run trains on {self.context.base.title}; it goes on when that is loaded again.")

    # -- the loop -------------------------------------------------------------------------------------------------

    def _loop(self) -> Ending:
        context, control = self.context, self.context.control
        context.record.status("running")
        if self.step == context.first_step and self.settings.sample_at_first and self.is_main:
            self._draw(self.step)
        good = True
        while True:
            bad, stopping, paused = self._agreed(not good, control.stopping, control.paused)
            if bad:
                if good:  # another process has read that loss first
                    self._read_losses()
                return Ending.DIVERGED
            if self.step >= context.step_schedule.total_steps:
                return Ending.DONE
            if stopping or paused:
                if not self._read_losses():
                    return Ending.DIVERGED
                return Ending.STOPPED if stopping else Ending.PAUSED
            good = self.advance()

    def advance(self) -> bool:
        """A step, and what follows it: losses, states, saves and samples that are due. False when it diverged."""
        started = time.monotonic()
        waited = self.take_step()
        seconds = time.monotonic() - started - waited
        due = self.monitor.step_done(self.step, self.loss, self.stepper.rates(), seconds)
        return (not due or self._read_losses()) and self._after_step()

    def take_step(self) -> float:
        """One optimiser step. Gives the seconds that were spent waiting for the host.

        The step counts as soon as the weights have it, whatever fails after that.
        """
        context = self.context
        waited = 0.0
        total = torch.zeros((), device=self.device)
        with self.stepper.begin(self.step):
            for micro in range(context.accumulation):
                with self.watch.part("data"):
                    batch = self.batches.get(self.step * context.accumulation + micro)
                asked = time.monotonic()
                with ExitStack() as turn:
                    with self.watch.part("host turn"):
                        turn.enter_context(self.lease.turn())
                    waited += time.monotonic() - asked
                    # A fused backward pass changes weights from its first moment on.
                    self._updating = self.stepper.fused
                    for piece in split_batch(batch, self.plan.micro_batches):
                        with at_strength(self.network, context.data.network_multiplier(piece)):
                            total += self._forward_backward(piece, micro)
                    if micro == context.accumulation - 1:
                        self._updating = True
                        with self.watch.part("optimiser"):
                            self.stepper.finish(self.step)
                        self.step += 1
                        self._updating = False
                    with self.watch.part("host turn"):
                        turn.close()
        self.loss = total if self.alone else self.accelerator.reduce(total, "sum")
        return waited

    def _agreed(self, *asked: bool) -> Sequence[bool]:
        """The same answers in every process: yes to what any of them says yes to."""
        if self.alone:
            return asked
        votes = self.accelerator.reduce(torch.tensor(asked, dtype=torch.float32, device=self.device), "sum")
        return (votes > 0).tolist()

    def _forward_backward(self, batch: Batch, micro: int) -> Tensor:
        """Adds one batch's gradients; gives its share of the step's loss, detached."""
        context = self.context
        purpose = (self.step, micro)
        share = 1.0 / (batch.total * context.accumulation)
        if len(batch.captions) == 0:
            return torch.zeros((), device=self.device)
        with self.accelerator.autocast(), seeded_globals(self.device, context.seed, "dropout", *purpose, batch.first):
            with self.watch.part("latents"):
                latents = self._latents(batch)
            with self.watch.part("text"):
                text = self._prompt_embeds(batch)
            shape = torch.Size((batch.total, *latents.shape[1:]))
            sample = sample_noise(shape, latents, self.process, self.noise_options, context.seed, "noise", *purpose)
            rows = sample.rows(batch.first, batch.first + len(batch.captions))
            with self.watch.part("forward"):
                loss = self._losses(batch, latents, rows, text).sum() * share
        self.batches.refill()
        with self.watch.part("backward"):
            self.accelerator.backward(loss)
        return loss.detach()

    def _losses(self, batch: Batch, latents: Tensor, sample: NoiseSample, text: PromptEmbeds) -> Tensor:
        """Each picture's weighted loss, [B]."""
        masks = None if batch.masks is None else to_device(batch.masks, self.device)
        return diffusion_losses(
            self.parts, self.process, self.loss_options, latents, sample, text, self._sizes(batch), masks,
            to_device(batch.loss_weights, self.device),
        )  # fmt: skip

    def _held_out_losses(self, batch: Batch, noise_for: Callable[[Tensor], NoiseSample]) -> Tensor:
        """Each held-out picture's loss [B], without gradient."""
        self.network.eval()
        try:
            with self.accelerator.autocast():
                latents = self._latents(batch)
                return self._losses(batch, latents, noise_for(latents), self._prompt_embeds(batch))
        finally:
            self.network.train()

    def _save(self, kind: str) -> Path | None:
        """A file of the weights, of their average, or one of each, as ema_save says."""
        average, beside = self.stepper.average, self.settings.ema_save == "beside"
        path = None
        with self.stepper.as_used():
            if average is None or beside:
                path = self.outputs.save(self.step, kind)
            if average is not None:
                with average.applied():
                    saved = self.outputs.save(self.step, kind, EMA if beside else "")
                path = path or saved
        return path

    def _draw(self, step: int) -> None:
        with self.stepper.as_used(), self.plan.on_device(self.device, self.parts.vae, *self.parts.text_encoders):
            self.previews.draw(step)

    def _read_losses(self) -> bool:
        """Reads the pending losses. False, with the last good weights back in place, when one was not finite."""
        if self.monitor.read():
            self.last_good.remember(self.step)
            return True
        self.step = self.last_good.roll_back()
        # The optimiser still holds what went wrong: no state is made of it.
        self._updating = True
        return False

    def _after_step(self) -> bool:
        """Saves, states and samples that are due at this step, by rhythm or by request. False when it diverged."""
        settings, step_schedule, control = self.settings, self.context.step_schedule, self.context.control
        if not self.is_main:
            return True
        kinds = self.outputs.due(self.step)
        if control.take_save():
            kinds.append("asked")
        sample = control.take_sample() or step_schedule.due(
            self.step, settings.sample_every_n_steps, settings.sample_every_n_epochs
        )
        validate = self.validator is not None and step_schedule.due(
            self.step, settings.validate_every_n_steps, settings.validate_every_n_epochs or 1
        )
        state = self.context.throttle.due()
        if not (kinds or sample or state or validate):
            return True
        if not self._read_losses():
            return False
        gone = None
        try:
            if validate and self.validator is not None:
                with self.stepper.as_used():
                    self.context.record.validation(self.step, self.validator.measure())
            if sample:
                self._draw(self.step)
        except BaseGone as error:  # files need no base: what is due is saved first
            gone = error
        self.outputs.preview = self.previews.newest
        for kind in kinds:
            self._save(kind)
        if state or kinds:
            self.keep()
        if gone is not None:
            raise gone
        return True

    # -- inputs ---------------------------------------------------------------------------------------------------

    def _latents(self, batch: Batch) -> Tensor:
        with self.plan.on_device(self.device, self.parts.vae if batch.latents is None else None):
            return self.latents(batch)

    def _encode(self, captions: Sequence[str]) -> PromptEmbeds:
        settings = self.settings
        with self.plan.on_device(self.device, *self.parts.text_encoders):
            return self.parts.family.encode(
                self.parts, captions, settings.clip_skip, settings.max_token_length or 75, settings.weighted_captions
            )

    def _prompt_embeds(self, batch: Batch) -> PromptEmbeds:
        return self._encode(batch.captions) if self.context.trains_text else self.text(batch.captions)

    def _sizes(self, batch: Batch) -> SizeConditions:
        sizes = (batch.original_sizes, batch.crop_top_lefts, batch.target_sizes)
        return SizeConditions(*(to_device(each, self.device) for each in sizes))

    # -- state ----------------------------------------------------------------------------------------------------

    def capture(self) -> State:
        """The complete state after the finished steps, on the processor. It holds weights in training, not copies."""
        tensors: dict[str, Tensor] = {}
        values: dict[str, Any] = {
            "rate_scale": self.context.rate_scale,
            "begun_with": run_snapshot(self.context, self.stepper.name),
            "network": pack(self.network.trained_tensors(), "network", tensors),
            **self.stepper.capture(tensors),
        }
        return State(self.step, {name: tensor.detach().cpu() for name, tensor in tensors.items()}, values)

    def restore(self, state: State) -> None:
        """Puts weights, optimiser, schedule and scaler where `state` left them.

        Raises `AtelierError` when the state is of a run on another model, of another network or another optimiser.
        """
        for told in differences(state.values, self.context, self.stepper.name):
            self.context.record.message(told, "warning")
        self.network.load_trained_tensors(unpack(state.values["network"], state.tensors))
        self.stepper.restore(state.values, state.tensors)
        self.step = state.step
