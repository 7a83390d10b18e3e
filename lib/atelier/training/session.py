"""A session: one stretch of training, from borrowing the base model to returning it.

A run has one session or several. A pause, a switched checkpoint or too little memory ends a session with its state
written, and the next one goes on from there with the same bits.
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
from atelier.hosts.contract import BaseGone, Lease
from atelier.training.context import RunContext
from atelier.training.device.micro_batches import split_batch
from atelier.training.device.spill import kept_within
from atelier.training.outputs.outputs import EMA
from atelier.training.progress.run_snapshot import run_snapshot
from atelier.training.progress.state import State, pack
from atelier.training.progress.stopwatch import Stopwatch
from atelier.training.session_parts import Learner, Workplace, set_up
from atelier.training.trained.networks import at_strength
from atelier.training.trained.whole_model import WholeModel

STATE_SIZE = 3
"""Bytes of a state for each byte of the trained weights: these, and the two moments of Adam."""
DISK_SPEED = 400e6
"""Bytes that a usual disk writes in a second. Only the first state goes by it; it is measured then."""


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
        self.watch = Stopwatch()
        self._keep_state = keep_state
        self._learner: Learner | None = None
        self._workplace: Workplace | None = None
        self._updating = False
        self._kept: int | None = None
        """The step of the newest state that this session has kept."""

    def run(self, lease: Lease, state: State | None) -> Ending:
        """Trains and returns why it ended. Everything borrowed is returned, even after an error.

        Raises `BaseGone` when the host loads another model; what was learned until then is in `capture`.
        """
        if state is not None:
            self.step = state.step
        # The caller may be in a host's thread, where gradients are off.
        with torch.inference_mode(False), torch.enable_grad(), ExitStack() as stack:
            self.enter(stack, lease, state)
            return self._loop()

    def enter(self, stack: ExitStack, lease: Lease, state: State | None) -> None:
        """Borrows the base model and sets everything up; `stack` undoes it."""
        learner, workplace = set_up(self.context, stack, lease, state, self.watch)
        self._workplace, self._learner = workplace, learner
        trained = sum(parameter.numel() * parameter.element_size() for parameter in learner.stepper.stepped)
        self.context.throttle.expect(trained * STATE_SIZE / DISK_SPEED)

    @property
    def ready(self) -> bool:
        """True when everything for a step is set up."""
        return self._learner is not None

    @property
    def learner(self) -> Learner:
        """The trained weights and their optimizer; from `enter` on."""
        assert self._learner is not None
        return self._learner

    @property
    def workplace(self) -> Workplace:
        """The parts that need the base model; from `enter` to `leave`."""
        assert self._workplace is not None
        return self._workplace

    def keep(self) -> State | None:
        """Writes the state after the last complete step and returns it; None when a step was left half taken."""
        learner = self._learner
        # After an error, losses may still wait to be read.
        if learner is None or self._updating or not learner.monitor.read() or not learner.stepper.sound:
            return None
        state = self.capture()
        if learner.is_main and self._kept != self.step:
            with self.context.throttle.timed():
                self._keep_state(state)
            self._kept = self.step
        return state

    def leave(self) -> None:
        """Drops the host's model and all that only steps need. The trained weights stay, on the CPU, to be written."""
        self._workplace = None
        if self._learner is None:
            return
        self._learner.stepper.retire()
        network = self._learner.network.to("cpu")
        if isinstance(network, WholeModel):
            for module in network.parts.modules:
                module.to("cpu")

    def write_last(self, ending: Ending) -> Path | None:
        """Writes the run's last file: under its own name when it is done, else with the step. None without a step."""
        lost = ending is Ending.DIVERGED and self.context.whole_model
        if self._learner is None or self.step == self.context.first_step or not self._learner.is_main or lost:
            return None
        return self._save("final" if ending is Ending.DONE else "asked")

    # -- the loop -------------------------------------------------------------------------------------------------

    def _loop(self) -> Ending:
        context, control = self.context, self.context.control
        context.record.status("running")
        if self.step == context.first_step and self.settings.sample_at_first and self.learner.is_main:
            self._draw(self.step)
        context.record.activity("Taking the first step" if self.step == context.first_step else "")
        good = True
        while True:
            bad, stopping, paused = self._agreed(not good, control.stopping, control.paused)
            if bad:
                if good:  # another process has read a bad loss first
                    self._read_losses()
                return Ending.DIVERGED
            if self.step >= context.step_schedule.total_steps:
                self._draw_last()
                return Ending.DONE
            if stopping or paused:
                if not self._read_losses():
                    return Ending.DIVERGED
                if stopping:
                    self._draw_last()
                return Ending.STOPPED if stopping else Ending.PAUSED
            good = self.advance()

    def advance(self) -> bool:
        """Takes a step and does what is due after it: losses, states, saves, samples. False when it diverged."""
        started = time.monotonic()
        waited = self.take_step()
        self.context.record.activity()
        seconds = time.monotonic() - started - waited
        learner = self.learner
        spilt = self.workplace.spill.step_done(seconds)
        if spilt is not None:
            self.context.record.message(spilt, "warning")
        due = learner.monitor.step_done(self.step, self.loss, learner.stepper.rates(), seconds)
        return (not due or self._read_losses()) and self._after_step()

    def take_step(self) -> float:
        """Takes one optimizer step. Returns the seconds spent waiting for the host.

        The step counts as soon as the weights are changed, even if something fails after that.
        """
        context, learner, workplace = self.context, self.learner, self.workplace
        stepper = learner.stepper
        waited = 0.0
        total = torch.zeros((), device=learner.device)
        with stepper.begin(self.step):
            for micro in range(context.accumulation):
                with self.watch.part("data"):
                    batch = workplace.batches.get(self.step * context.accumulation + micro)
                asked = time.monotonic()
                with ExitStack() as turn:
                    with self.watch.part("host turn"):
                        turn.enter_context(workplace.lease.turn())
                    turn.enter_context(kept_within(learner.device))
                    waited += time.monotonic() - asked
                    # A fused backward pass changes weights from its beginning.
                    self._updating = stepper.fused
                    for part in split_batch(batch, workplace.plan.micro_batches):
                        with at_strength(learner.network, context.data.network_multiplier(part)):
                            total += self._forward_backward(part, micro)
                    if micro == context.accumulation - 1:
                        self._updating = True
                        with self.watch.part("optimizer"):
                            stepper.finish(self.step)
                        self.step += 1
                        self._updating = False
                    with self.watch.part("host turn"):
                        turn.close()
        self.loss = total if learner.alone else learner.accelerator.reduce(total, "sum")
        return waited

    def _forward_backward(self, batch: Batch, micro: int) -> Tensor:
        """Adds the gradients of one batch and returns its share of the step's loss, detached."""
        if len(batch.captions) == 0:
            return torch.zeros((), device=self.learner.device)
        loss = self.workplace.losses.share_of_step(batch, self.step, micro)
        self.workplace.batches.refill()
        if not loss.requires_grad:  # module_dropout left every layer out: the gradients are 0
            loss = loss + 0.0 * torch.stack([weight.sum() for weight in self.learner.stepper.parameters]).sum()
        with self.watch.part("backward"):
            self.learner.accelerator.backward(loss)
        return loss.detach()

    def _agreed(self, *asked: bool) -> Sequence[bool]:
        """The answers that all processes share: True when it is True in any process."""
        learner = self.learner
        if learner.alone:
            return asked
        votes = learner.accelerator.reduce(torch.tensor(asked, dtype=torch.float32, device=learner.device), "sum")
        return (votes > 0).tolist()

    def _save(self, kind: str) -> Path | None:
        """Saves the weights, their moving average, or both, as ema_save says."""
        stepper, outputs = self.learner.stepper, self.learner.outputs
        average, beside = stepper.average, self.settings.ema_save == "beside"
        path = None
        with stepper.as_used():
            if average is None or beside:
                path = outputs.save(self.step, kind)
            if average is not None:
                with average.applied():
                    saved = outputs.save(self.step, kind, EMA if beside else "")
                path = path or saved
        return path

    def _draw_last(self) -> None:
        """The samples after the run's last step, also for the preview of its file, unless they are there already."""
        place, learner = self.workplace, self.learner
        wanted = self.settings.sample_at_end and learner.is_main and not self.context.control.hurried
        if not wanted or self.step in (self.context.first_step, place.previews.drawn) or not self.context.prompts:
            return
        self.keep()  # drawing may take long, and the process may be ended meanwhile
        try:
            self._draw(self.step, last=True)
        except BaseGone as error:  # the file does not need the base model
            self.context.record.message(f"The last samples were not drawn. {error}", "warning")
        learner.outputs.preview = place.previews.newest

    def _draw(self, step: int, last: bool = False) -> None:
        place = self.workplace
        resting = (place.parts.vae, *place.parts.text_encoders)
        with self.learner.stepper.as_used(), place.plan.on_device(self.learner.device, *resting):
            place.previews.draw(step, last)

    def _read_losses(self) -> bool:
        """Reads the waiting losses. When one is not finite, restores the last good weights and returns False."""
        if self.learner.monitor.read():
            self.workplace.last_good.remember(self.step)
            return True
        self.step = self.workplace.last_good.roll_back()
        # The optimizer's moments are spoilt, so no state is made of them.
        self._updating = True
        return False

    def _after_step(self) -> bool:
        """Saves, states and samples that are due after this step, regularly or by request. False when it diverged."""
        settings, step_schedule, control = self.settings, self.context.step_schedule, self.context.control
        learner, place = self.learner, self.workplace
        if not learner.is_main:
            return True
        kinds = learner.outputs.due(self.step)
        if control.take_save():
            kinds.append("asked")
        sample = control.take_sample() or step_schedule.due(
            self.step, settings.sample_every_n_steps, settings.sample_every_n_epochs
        )
        validate = place.validator is not None and step_schedule.due(
            self.step, settings.validate_every_n_steps, settings.validate_every_n_epochs or 1
        )
        state = self.context.throttle.due()
        if not (kinds or sample or state or validate):
            return True
        if not self._read_losses():
            return False
        gone = None
        try:
            if validate and place.validator is not None:
                with learner.stepper.as_used():
                    self.context.record.validation(self.step, place.validator.measure())
            if sample:
                self._draw(self.step)
        except BaseGone as error:  # files do not need the base model: they are saved first
            gone = error
        learner.outputs.preview = place.previews.newest
        for kind in kinds:
            self._save(kind)
        if state or kinds:
            self.keep()
        if gone is not None:
            raise gone
        return True

    # -- state ----------------------------------------------------------------------------------------------------

    def capture(self) -> State:
        """The complete state after the finished steps, on the CPU. It has the weights themselves, not copies."""
        network, stepper = self.learner.network, self.learner.stepper
        tensors: dict[str, Tensor] = {}
        values: dict[str, Any] = {
            "rate_scale": self.context.rate_scale,
            "begun_with": run_snapshot(self.context, stepper.name),
            "network": pack(network.trained_tensors(), "network", tensors),
            **stepper.capture(tensors),
        }
        return State(self.step, {name: tensor.detach().cpu() for name, tensor in tensors.items()}, values)
