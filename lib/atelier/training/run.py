"""The recipe of a run, from the job to the finished file.

check the job and find the pictures
until it is done or stopped:
    borrow the base model and train from the last state      (session.py)
    a pause, another checkpoint, too little memory: keep the state, wait, go on
write the LoRA and add it to the WebUI's list
"""

from __future__ import annotations

import time
from dataclasses import dataclass
from pathlib import Path

from atelier.adapters.usable import kind_remark
from atelier.config.errors import AtelierError
from atelier.config.given_paths import check_paths
from atelier.config.job import JobConfig
from atelier.config.kohya.network_args import ignored_arguments
from atelier.config.settings.idle import foreign_settings, idle_settings
from atelier.data.dataset import TrainingData
from atelier.data.found.enlarged import enlarged_sentence
from atelier.data.scan import scan_job
from atelier.data.tensor_cache import TensorCache
from atelier.hosts.contract import BaseGone, Host, ModelInfo
from atelier.hosts.powers import can_offload_denoiser, lora_remark, remarks
from atelier.models.checkpoints.vae_file import load_vae
from atelier.models.out_of_memory import is_out_of_memory
from atelier.models.registry import family_named
from atelier.training.between_sessions import goes_on, lowered, too_little, wait_for_base, wait_while_paused
from atelier.training.context import (
    RunContext,
    Save,
    first_step,
    total_steps,
    trains_text,
    why_not_host,
)
from atelier.training.device.processes import process_count
from atelier.training.device.release import forget_frames, give_back_memory
from atelier.training.for_family import check_sides, distilled_sentence, fitted
from atelier.training.inputs.as_drawn import unlike_drawn
from atelier.training.interfaces import RunControl, RunRecord
from atelier.training.memory.for_run import keep_savings
from atelier.training.optim.optimizers import optimizer_class
from atelier.training.outputs.saving import check_writable, output_folder
from atelier.training.pictures.class_drawing import with_class_pictures
from atelier.training.pictures.prompts import sample_prompts
from atelier.training.progress.state import State, go_back, write_state
from atelier.training.progress.step_schedule import StepSchedule, Throttle
from atelier.training.randomness import derived_seed
from atelier.training.session import Ending, Session

DEVICES = ("cuda", "cpu", "mps", "xpu")
"""Where a run may compute, by torch's names; ROCm has CUDA's. DirectML has no autocast, and no memory to be viewed."""
PARTS = frozenset(("unet", "text_encoder", "vae"))
FIRST_STATE = 5.0
"""Seconds until the first state is kept, so that a run that is killed soon has not worked for nothing."""


@dataclass(frozen=True)
class Outcome:
    """How a run ended: "done", "stopped" or "diverged", after how many steps, and the last file."""

    state: str
    steps: int
    path: Path | None


def train(job: JobConfig, host: Host, record: RunRecord, control: RunControl) -> Outcome:
    """Runs `job` on the model that `host` has loaded, from the newest state in the record if there is one.

    Raises `AtelierError` with a sentence for the person, before anything is trained, when the job cannot be done. All
    memory of the run is freed when this ends, even after an error.
    """
    try:
        return _train(job, host, record, control)
    except BaseException as error:
        forget_frames(error)
        raise
    finally:
        give_back_memory()


def _train(job: JobConfig, host: Host, record: RunRecord, control: RunControl) -> Outcome:
    record.status("preparing", "Looking at the pictures.")
    record.activity("Looking at the pictures")
    context = prepare(job, host, record, control)
    # Before anything is borrowed, since a device can be too small for the whole base.
    context.savings.can_stream = can_offload_denoiser(host) and not context.whole_model
    context.savings.recall(record.folder)
    states = record.folder / "state"
    state = go_back(states)
    if state is not None:
        record.message(f"Going on from step {state.step}.")
    elif any(states.glob("*.damaged")):
        record.message("The saved state of this run is damaged, so it starts again from its beginning.", "warning")
    record.activity()
    trained: Session | None = None
    gone = f"This run trains on {context.base.title}. Load that model to go on."
    while True:
        ending = wait_for_base(context, gone)
        if ending is Ending.PAUSED:
            session = Session(context, lambda new: _keep(states, new, record))
            saved: str | None = None
            record.activity("Setting up the training on the model")
            try:
                ending = session.run(host.lease(PARTS), state)
            except BaseGone as error:
                gone = str(error)
            except Exception as error:
                # With several processes, the others would wait for the step that this one repeats.
                if not is_out_of_memory(error) or process_count() > 1:
                    raise
                if not context.savings.take_next():
                    raise too_little(context) from error
                saved = context.savings.notes[-1]
                keep_savings(context)
            finally:
                state = session.keep() or go_back(states) or state
                session.leave()
                for remark in remarks(host):
                    record.message(remark, "warning")
            if saved is not None:
                record.message(f"Out of memory: {saved} {goes_on(session, state)}", "warning")
            give_back_memory()
            trained = session if session.ready else trained
        if ending is Ending.DIVERGED and trained is not None and lowered(context, trained):
            state = go_back(states)
            step = state.step if state is not None else 0
            record.message(f"The loss became NaN: back to step {step}, with half the learning rate.", "warning")
            continue
        if ending is Ending.PAUSED:
            ending = wait_while_paused(context)
        if ending is not Ending.PAUSED:
            return _finish(context, trained, ending, state)


def prepare(job: JobConfig, host: Host, record: RunRecord, control: RunControl) -> RunContext:
    """The context of the run. Raises `AtelierError` when the job cannot be trained."""
    check_paths(job)
    base = loaded_base(host)
    family = family_named(base.family) if base.family else None
    if family is not None:
        job = fitted(job, family)
    settings = job.settings
    prompts = sample_prompts(job, record)
    check_writable(output_folder(settings, host.folders))
    vae = load_vae(settings.vae, family) if settings.vae and family else None
    job = with_class_pictures(job, host, base, record, control)
    found = scan_job(job, on_picture=lambda done, total: record.activity("Looking at the pictures", done, total))
    for problem in found.problems:
        left_out = f"{problem.path.name} is left out: " if problem.left_out else ""
        record.message(f"{left_out}{problem.reason}", "warning")
    if family is not None:
        check_sides(found.pictures, family)
        if told := distilled_sentence(family, base.title):
            record.message(told, "warning")
    if told := enlarged_sentence(found.training):
        record.message(told, "warning")
    optimizer_class(settings.optimizer_type)  # raises here, before anything is drawn or copied, if it is missing
    whole = settings.train_whole_model
    file_remarks: tuple[str | None, ...] = ()
    if not whole:
        args_remarks = ignored_arguments(settings.network_module, settings.network_args)
        file_remarks = (lora_remark(host, trains_text(settings)), kind_remark(settings, host.name), *args_remarks)
    foreign = foreign_settings(settings, family.flow is not None, family.title) if family else []
    remarks = (why_not_host(settings), *file_remarks, *idle_settings(settings), *unlike_drawn(settings, host), *foreign)
    for warning in remarks:
        if warning:
            record.message(warning, "warning")
    for remark in dict.fromkeys(remark for prompt in prompts for remark in prompt.remarks):
        record.message(remark, "warning")
    seed = settings.seed if settings.seed is not None else derived_seed(0, job.name, str(record.folder.name))
    data = TrainingData(
        found, settings, seed, process_count(), on_problem=lambda path, reason: record.message(reason, "warning")
    )
    step_schedule = StepSchedule(
        total_steps(settings, data.batches_per_epoch),
        data.batches_per_epoch,
        max(1, settings.gradient_accumulation_steps),
    )
    encoder = base.identity if vae is None else f"vae {vae.identity}"
    cache = TensorCache(host.folders.cache / "latents" if settings.cache_latents_to_disk else None, encoder)
    return RunContext(
        job=job,
        host=host,
        record=record,
        control=control,
        base=base,
        data=data,
        step_schedule=step_schedule,
        latent_cache=cache,
        prompts=prompts,
        seed=seed,
        started_at=time.time(),
        first_step=first_step(settings, step_schedule),
        vae=vae,
        saves=[Save(*file) for file in record.saved_files()],
        # The state of a whole model has many gigabytes, so it is written less often to spare the disk.
        throttle=Throttle(600.0) if settings.train_whole_model else Throttle(60.0, first=FIRST_STATE),
    )


def loaded_base(host: Host) -> ModelInfo:
    """The host's model. Raises `AtelierError`, which says what to do, when it cannot be borrowed."""
    info = host.loaded_model()
    if info is None:
        raise AtelierError("No model is loaded. Choose a checkpoint at the top of the page, then press Train again.")
    if info.refusal:
        raise AtelierError(info.refusal)
    kind = info.device.partition(":")[0]
    if kind not in DEVICES:
        raise AtelierError(
            f"The WebUI computes on {info.device}, which cannot be trained on yet: that needs a GPU of NVIDIA or AMD "
            "(with PyTorch for CUDA or ROCm), an Apple or Intel GPU, or the CPU."
        )
    if info.family is None:
        raise AtelierError(f"{info.title} is of a family that cannot be trained yet. Choose a model of SD 1, 2 or XL.")
    return info


def _keep(folder: Path, state: State, record: RunRecord) -> None:
    """Writes the state. A full disk is reported and does not end the run."""
    try:
        write_state(folder, state)
    except OSError as error:
        record.message(f"The state at step {state.step} could not be written: {error}. Training goes on.", "warning")


def _finish(context: RunContext, session: Session | None, ending: Ending, state: State | None) -> Outcome:
    """Writes the last file and closes the record. `session`: the last session that trained, or None."""
    record = context.record
    if context.latent_cache.disk_problem is not None:
        record.message(context.latent_cache.disk_problem, "warning")
    step, path = (session.step, session.write_last(ending)) if session is not None else (context.first_step, None)
    if ending is Ending.DIVERGED:
        kept = f"The good weights after step {step} are saved" if path else "Files saved before are unchanged"
        record.status(
            "failed",
            f"The loss became NaN, so training ended. {kept}. A lower learning rate usually helps.",
        )
    elif ending is Ending.STOPPED:
        reached = state.step if state is not None and session is None else step
        if reached == context.first_step:
            record.status("stopped", "Stopped before the first step. Nothing was learned yet.")
        else:
            record.status("stopped", f"Stopped after step {reached}. What was learned is kept.")
    else:
        record.status("done", "Done.")
    return Outcome(ending.value, step, path)
