"""Noise, timesteps and losses; the text encoder; validation."""

from __future__ import annotations

from dataclasses import dataclass

from atelier.config.settings.option import setting


@dataclass
class ObjectiveSettings:
    """What the noise looks like and how an error is counted."""

    loss_type: str = setting(
        "l2", "str", "Noise and loss", "Loss", "l2 is usual; huber and smooth_l1 care less for outliers.",
        choices=("l2", "l1", "huber", "smooth_l1"),
    )  # fmt: skip
    huber_schedule: str = setting(
        "snr", "str", "Noise and loss", "Huber schedule", "How huber's threshold follows the noise.",
        choices=("constant", "exponential", "snr"),
    )  # fmt: skip
    huber_c: float = setting(
        0.1, "float", "Noise and loss", "Huber threshold", "Errors beyond it count less.", minimum=1e-6, maximum=100
    )
    huber_scale: float = setting(
        1.0, "float", "Noise and loss", "Huber scale", "Scales the threshold.", minimum=1e-6, maximum=1000
    )
    min_snr_gamma: float | None = setting(
        None,
        "float",
        "Noise and loss",
        "Min-SNR gamma",
        "Evens out timesteps; 5 is usual, empty is off.",
        minimum=0,
        maximum=1000,
    )
    debiased_estimation_loss: bool = setting(
        False, "bool", "Noise and loss", "Debiased loss", "Another way of evening out timesteps."
    )
    scale_v_pred_loss_like_noise_pred: bool = setting(
        False, "bool", "Noise and loss", "Scale v loss", "Weighs a v-prediction loss like a noise loss."
    )
    v_pred_like_loss: float | None = setting(
        None,
        "float",
        "Noise and loss",
        "v-like loss",
        "Adds so much of a loss as v-prediction has it.",
        minimum=0,
        maximum=100,
    )
    noise_offset: float | None = setting(
        None, "float", "Noise and loss", "Noise offset", "Lets it learn very dark and bright pictures; 0.05 is usual.",
        minimum=0, maximum=10,
    )  # fmt: skip
    noise_offset_random_strength: bool = setting(
        False, "bool", "Noise and loss", "Random offset", "A random strength up to the offset."
    )
    adaptive_noise_scale: float | None = setting(
        None, "float", "Noise and loss", "Adaptive offset", "Adds so much of the latents' mean to the offset.",
        minimum=-10, maximum=10,
    )  # fmt: skip
    multires_noise_iterations: int | None = setting(
        None,
        "int",
        "Noise and loss",
        "Pyramid noise",
        "Layers of coarser noise; 6 to 10, empty is off.",
        minimum=0,
        maximum=64,
    )
    multires_noise_discount: float = setting(
        0.3, "float", "Noise and loss", "Pyramid discount", "How much weaker each layer is.", minimum=0, maximum=1
    )
    ip_noise_gamma: float | None = setting(
        None,
        "float",
        "Noise and loss",
        "Input noise",
        "Perturbs the input; 0.1 is usual, empty is off.",
        minimum=0,
        maximum=10,
    )
    ip_noise_gamma_random_strength: bool = setting(
        False, "bool", "Noise and loss", "Random input noise", "A random strength up to it."
    )
    min_timestep: int | None = setting(
        None,
        "int",
        "Noise and loss",
        "First timestep",
        "Trains from this timestep on, 0 to 999.",
        minimum=0,
        maximum=999,
    )
    max_timestep: int | None = setting(
        None,
        "int",
        "Noise and loss",
        "Last timestep",
        "Trains up to this timestep, 1 to 1000.",
        minimum=1,
        maximum=1000,
    )
    zero_terminal_snr: bool = setting(
        False, "bool", "Noise and loss", "Zero terminal SNR", "For v-prediction bases made for it."
    )
    prior_loss_weight: float = setting(
        1.0, "float", "Noise and loss", "Class picture weight", "How much class pictures count.", minimum=0, maximum=100
    )
    clip_skip: int | None = setting(
        None, "int", "Text encoder", "Clip skip", "Leaves out the text encoder's last layers; 2 for many anime bases.",
        minimum=1, maximum=12,
    )  # fmt: skip
    max_token_length: int | None = setting(
        None, "int", "Text encoder", "Caption length", "75, 150 or 225 tokens of a caption are read; empty is 75.",
        choices=("75", "150", "225"),
    )  # fmt: skip
    cache_text_encoder_outputs: bool = setting(
        False, "bool", "Text encoder", "Cache text", "Runs the text encoder once a caption; it is then not trained."
    )
    cache_text_encoder_outputs_to_disk: bool = setting(
        False,
        "bool",
        "Text encoder",
        "Cache text on disk",
        "kohya's key, kept for files: captions are encoded anew in each run.",
        shown=False,
    )
    validation_split: float = setting(
        0.0, "float", "Validation", "Validation part", "This part of the pictures is only looked at, not learnt.",
        minimum=0, maximum=0.9,
    )  # fmt: skip
    validation_seed: int | None = setting(None, "int", "Validation", "Validation seed", "Chooses them.", minimum=0)
    validate_every_n_steps: int | None = setting(
        None, "int", "Validation", "Every steps", "How often they are looked at.", minimum=1
    )
    validate_every_n_epochs: int | None = setting(
        None, "int", "Validation", "Every epochs", "How often they are looked at.", minimum=1
    )
    max_validation_steps: int | None = setting(
        None, "int", "Validation", "At most", "Batches looked at each time.", minimum=1
    )
