"""The context of a run: everything that stays the same over all its sessions."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from atelier.config.errors import AtelierError
from atelier.config.job import JobConfig
from atelier.config.sample_prompts import SamplePrompt
from atelier.config.settings.schema import labelled
from atelier.data.dataset import TrainingData
from atelier.data.prefetch import Prefetcher
from atelier.data.tensor_cache import TensorCache
from atelier.hosts.contract import Host, ModelInfo
from atelier.models.checkpoints.vae_file import OwnVae
from atelier.models.family import Parts
from atelier.training.device.savings import MemorySavings
from atelier.training.interfaces import RunControl, RunRecord
from atelier.training.objective.discrete import DiscreteDiffusion
from atelier.training.objective.flow import RectifiedFlow
from atelier.training.objective.losses import LossOptions
from atelier.training.objective.noise import TIMESTEPS, NoiseOptions
from atelier.training.objective.process import NoiseProcess
from atelier.training.objective.sigmas import SigmaOptions
from atelier.training.optim.schedulers import ScheduleOptions
from atelier.training.progress.step_schedule import StepSchedule, Throttle


@dataclass
class RunContext:
    """A run's job, host, training data, record and outputs."""

    job: JobConfig
    host: Host
    record: RunRecord
    control: RunControl
    base: ModelInfo
    data: TrainingData
    step_schedule: StepSchedule
    latent_cache: TensorCache
    prompts: list[SamplePrompt]
    seed: int
    started_at: float
    savings: MemorySavings = field(default_factory=MemorySavings)
    throttle: Throttle = field(default_factory=Throttle)
    saves: list[Save] = field(default_factory=list)
    rate_scale: float = 1.0
    """Factor of the learning rates, below 1 after a loss was NaN."""
    lowered: int = 0
    """How often the learning rates were lowered since this process started."""
    first_step: int = 0
    """Steps that count as done before the run: initial_step."""
    vae: OwnVae | None = None
    """The VAE of the setting `vae`, which is used in place of the base's."""

    @property
    def accumulation(self) -> int:
        return self.step_schedule.accumulation

    @property
    def trains_denoiser(self) -> bool:
        return trains_denoiser(self.job.settings)

    @property
    def whole_model(self) -> bool:
        """True when the model itself is trained, not an adapter."""
        return bool(self.job.settings.train_whole_model)

    @property
    def host_draws(self) -> bool:
        """True when the WebUI draws the samples."""
        return draws_with_host(self.job.settings)

    @property
    def rates(self) -> tuple[float, list[float]]:
        """The learning rates of the UNet and of each text encoder."""
        settings = self.job.settings
        if self.whole_model:
            return settings.learning_rate, whole_text_rates(settings)
        return rate_of(settings, "unet_lr"), text_rates(settings)

    @property
    def trains_text(self) -> bool:
        return trains_text(self.job.settings)

    def prefetcher(self, step: int, rank: int, world: int) -> Prefetcher:
        """Loads batches from optimizer step `step` on, beside the training; each with the part of process `rank`.

        The batches of the steps before initial_step count as used only with skip_until_initial_step.
        """
        first, last = step * self.accumulation, self.step_schedule.total_steps * self.accumulation
        unused = 0 if self.job.settings.skip_until_initial_step else self.first_step * self.accumulation
        return Prefetcher(
            lambda index: self.data.batch(index - unused, self.latent_cache, rank=rank, world=world), first, last
        )


@dataclass(frozen=True)
class Save:
    """A file that this run wrote."""

    path: Path
    step: int
    epoch: int
    kind: str
    """"step", "epoch", "asked" or "final"."""


def draws_with_host(settings: Any) -> bool:
    """True when the WebUI shall draw the samples and can."""
    return settings.sample_with == "host" and why_not_host(settings) is None


def why_not_host(settings: Any) -> str | None:
    """Why our own sampler draws although the WebUI was asked for, as a sentence; None when the WebUI can."""
    if settings.sample_with != "host":
        return None
    if settings.train_whole_model:
        return "Samples are drawn by Atelier: the WebUI has the original model, not the one in training."
    for key in ("base_weights", "vae"):
        if getattr(settings, key):
            return f"Samples are drawn by Atelier: in the WebUI, {labelled(key)} would be missing."
    return None


def trains_denoiser(settings: Any) -> bool:
    """True when the UNet or its adapters are trained."""
    return not settings.network_train_text_encoder_only and rate_of(settings, "unet_lr") != 0


def trains_text(settings: Any) -> bool:
    """True when a text encoder or its adapters are trained."""
    if settings.train_whole_model:
        return bool(settings.train_text_encoder and settings.stop_text_encoder_training != -1)
    if settings.network_train_unet_only or settings.cache_text_encoder_outputs:
        return False
    return any(rate != 0 for rate in text_rates(settings))


def rate_of(settings: Any, key: str) -> float:
    """The learning rate of the setting `key`, or learning_rate when it is empty."""
    value = getattr(settings, key)
    return settings.learning_rate if value is None else value


def text_rates(settings: Any) -> list[float]:
    """The learning rate of each text encoder; a single number in the settings is used for all."""
    value = settings.text_encoder_lr
    if value is None or value == []:
        return [settings.learning_rate]
    return [float(rate) for rate in value] if isinstance(value, (list, tuple)) else [float(value)]


def whole_text_rates(settings: Any) -> list[float]:
    """Like `text_rates` for training the whole model: learning_rate_te, or te1 and te2 for SDXL."""
    first = settings.learning_rate_te if settings.learning_rate_te1 is None else settings.learning_rate_te1
    second = settings.learning_rate_te2
    common = settings.learning_rate
    return [common if first is None else first, common if second is None else second]


def noise_options(settings: Any) -> NoiseOptions:
    """The settings of `objective.noise`."""
    return NoiseOptions(
        noise_offset=settings.noise_offset or 0.0,
        noise_offset_random_strength=bool(settings.noise_offset_random_strength),
        adaptive_noise_scale=settings.adaptive_noise_scale or 0.0,
        multires_noise_iterations=settings.multires_noise_iterations or 0,
        multires_noise_discount=settings.multires_noise_discount,
        ip_noise_gamma=settings.ip_noise_gamma or 0.0,
        ip_noise_gamma_random_strength=bool(settings.ip_noise_gamma_random_strength),
    )


def noise_process(settings: Any, parts: Parts) -> NoiseProcess:
    """The noise process of the base's family, with the settings that choose timesteps."""
    lowest = settings.min_timestep or 0
    highest = TIMESTEPS if settings.max_timestep is None else settings.max_timestep
    flow = parts.family.flow
    if flow is not None:
        prediction = settings.model_prediction_type
        return RectifiedFlow(flow, sigma_options(settings), prediction, lowest / TIMESTEPS, highest / TIMESTEPS)
    zero_snr = settings.zero_terminal_snr or parts.zero_terminal_snr
    return DiscreteDiffusion.create(
        parts.device, zero_snr, parts.prediction_type, lowest, highest, settings.snr_after_rescaling
    )


def sigma_options(settings: Any) -> SigmaOptions:
    """The settings of `objective.sigmas`."""
    return SigmaOptions(
        timestep_sampling=settings.timestep_sampling,
        sigmoid_scale=settings.sigmoid_scale,
        discrete_flow_shift=settings.discrete_flow_shift,
        weighting_scheme=settings.weighting_scheme,
        logit_mean=settings.logit_mean,
        logit_std=settings.logit_std,
        mode_scale=settings.mode_scale,
    )


def loss_options(settings: Any) -> LossOptions:
    """The settings of `objective.losses`."""
    return LossOptions(
        loss_type=settings.loss_type,
        huber_schedule=settings.huber_schedule,
        huber_c=settings.huber_c,
        huber_scale=settings.huber_scale,
        min_snr_gamma=settings.min_snr_gamma,
        scale_v_pred_loss_like_noise_pred=bool(settings.scale_v_pred_loss_like_noise_pred),
        v_pred_like_loss=settings.v_pred_like_loss,
        debiased_estimation_loss=bool(settings.debiased_estimation_loss),
    )


def schedule_options(settings: Any) -> ScheduleOptions:
    """The settings of `optim.schedulers`."""
    return ScheduleOptions(
        name=settings.lr_scheduler,
        class_path=settings.lr_scheduler_type or "",
        warmup_steps=settings.lr_warmup_steps or 0,
        decay_steps=settings.lr_decay_steps or 0,
        num_cycles=settings.lr_scheduler_num_cycles,
        power=settings.lr_scheduler_power,
        timescale=settings.lr_scheduler_timescale,
        min_lr_ratio=settings.lr_scheduler_min_lr_ratio,
        arguments=list(settings.lr_scheduler_args or []),
    )


def total_steps(settings: Any, batches_per_epoch: int) -> int:
    """Optimizer steps of the run. As in kohya's scripts, max_train_epochs wins over max_train_steps."""
    accumulation = max(1, settings.gradient_accumulation_steps)
    if settings.max_train_epochs:
        return -(-settings.max_train_epochs * batches_per_epoch // accumulation)
    return int(settings.max_train_steps)


def first_step(settings: Any, step_schedule: StepSchedule) -> int:
    """Steps that count as done: initial_step, or the steps before initial_epoch. Raises `AtelierError`.

    As in kohya's scripts, the learning rate schedule still starts from its beginning.
    """
    step = settings.initial_step
    if step is None:
        a_epoch = -(-step_schedule.batches_per_epoch // step_schedule.accumulation)
        step = ((settings.initial_epoch or 1) - 1) * a_epoch
    if step >= step_schedule.total_steps:
        raise AtelierError(
            f"The run would start at step {step}, after its last step {step_schedule.total_steps}. Raise "
            f"{labelled('max_train_steps')}, or lower {labelled('initial_step')} or {labelled('initial_epoch')}."
        )
    return int(step)
