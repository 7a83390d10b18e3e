"""What a run does between two of its sessions: waits, saves memory, lowers its rates, or says why it ends."""

from __future__ import annotations

from atelier.config.errors import AtelierError
from atelier.training.context import RunContext
from atelier.training.optim.rates import LOWER, TRIES, can_be_lowered
from atelier.training.progress.state import State
from atelier.training.session import Ending, Session


def goes_on(session: Session, state: State | None) -> str:
    """A sentence: where training goes on after running out of memory. A step that was half taken spoils the weights."""
    if state is None or state.step == session.step:
        return "The step is repeated."
    return f"Training goes on from step {state.step}, the last saved state."


def too_little(context: RunContext) -> AtelierError:
    """The error when all memory savings are on and the memory is still not enough."""
    settings, savings = context.job.settings, context.savings
    on = {
        "gradient checkpointing": savings.gradient_checkpointing or settings.gradient_checkpointing,
        "a batch in parts": savings.micro_batches > 1,
        "text encoder and VAE off the device": savings.text_and_vae_off,
        "a streamed UNet": savings.streamed,
    }
    saved = ", ".join(what for what, is_on in on.items() if is_on)
    smaller = "a smaller resolution" if settings.train_whole_model else "a smaller resolution or rank"
    return AtelierError(
        f"Out of memory, although every memory saving is on ({saved}). Progress is saved. Close other programs that "
        f"use the GPU, or train with {smaller}."
    )


def lowered(context: RunContext, session: Session) -> bool:
    """Halves the learning rates of the next session after a loss was NaN, if that was asked for and is possible."""
    if context.job.settings.when_diverged != "lower" or not can_be_lowered(session.learner.stepper.optimizer):
        return False
    if context.lowered >= TRIES:
        return False
    context.lowered += 1
    context.rate_scale *= LOWER
    return True


def wait_for_base(context: RunContext, message: str) -> Ending:
    """Waits until the host has loaded the base model. Returns PAUSED to start a session, STOPPED to end the run."""
    announced = False
    while not context.control.stopping:
        info = context.host.loaded_model()
        if info is not None and info.identity == context.base.identity and not info.refusal:
            return Ending.PAUSED
        if not announced:
            context.record.status("waiting", message)
            announced = True
        context.control.wait_for_request(0.5)
    return Ending.STOPPED


def wait_while_paused(context: RunContext) -> Ending:
    """Waits while the run is paused. Returns PAUSED to start another session, STOPPED to end the run."""
    control = context.control
    if control.paused and not control.stopping:
        context.record.status("paused", "Paused. The device is free. Press Resume to go on.")
    while control.paused and not control.stopping:
        control.wait_while_paused(1.0)
    return Ending.STOPPED if control.stopping else Ending.PAUSED
