"""Settings of noise, timesteps and losses, of the text encoder, and of validation."""

from __future__ import annotations

from dataclasses import dataclass

from atelier.config.settings.option import setting


@dataclass
class ObjectiveSettings:
    """How noise is made, and how the loss is computed from the model's error."""

    loss_type: str = setting(
        "l2", "str", "Noise and loss", "Loss",
        "l2 is usual. huber and smooth_l1 give outliers less weight.",
        choices=("l2", "l1", "huber", "smooth_l1"),
    )  # fmt: skip
    huber_schedule: str = setting(
        "snr", "str", "Noise and loss", "Huber schedule",
        "How the Huber threshold changes with the noise.",
        choices=("constant", "exponential", "snr"),
    )  # fmt: skip
    huber_c: float = setting(
        0.1, "float", "Noise and loss", "Huber threshold",
        "Errors larger than this count less.",
        minimum=1e-6, maximum=100,
    )  # fmt: skip
    huber_scale: float = setting(
        1.0, "float", "Noise and loss", "Huber scale", "Multiplies the Huber threshold.", minimum=1e-6, maximum=1000
    )
    min_snr_gamma: float | None = setting(
        None, "float", "Noise and loss", "Min-SNR gamma",
        "Gives timesteps with little noise less weight. 5 is usual; empty is off.",
        minimum=0, maximum=1000,
    )  # fmt: skip
    debiased_estimation_loss: bool = setting(
        False, "bool", "Noise and loss", "Debiased loss", "Another way of weighting timesteps."
    )
    scale_v_pred_loss_like_noise_pred: bool = setting(
        False, "bool", "Noise and loss", "Scale v loss", "Weights a v-prediction loss like a noise-prediction loss."
    )
    v_pred_like_loss: float | None = setting(
        None, "float", "Noise and loss", "v-like loss",
        "Adds a loss like that of v-prediction, with this weight. Empty is off.",
        minimum=0, maximum=100,
    )  # fmt: skip
    noise_offset: float | None = setting(
        None, "float", "Noise and loss", "Noise offset",
        "Helps to learn very dark and very bright pictures. 0.05 is usual; empty is off.",
        minimum=0, maximum=10,
    )  # fmt: skip
    noise_offset_random_strength: bool = setting(
        False, "bool", "Noise and loss", "Random offset",
        "Picks the offset at random, between 0 and the value of Noise offset.",
    )  # fmt: skip
    adaptive_noise_scale: float | None = setting(
        None, "float", "Noise and loss", "Adaptive offset",
        "Adds this multiple of the latents' mean to the noise offset.",
        minimum=-10, maximum=10,
    )  # fmt: skip
    multires_noise_iterations: int | None = setting(
        None, "int", "Noise and loss", "Pyramid noise",
        "Number of layers of coarser noise that are added. 6 to 10 is usual; empty is off.",
        minimum=0, maximum=64,
    )  # fmt: skip
    multires_noise_discount: float = setting(
        0.3, "float", "Noise and loss", "Pyramid discount",
        "Strength of each layer of pyramid noise, relative to the one before.",
        minimum=0, maximum=1,
    )  # fmt: skip
    ip_noise_gamma: float | None = setting(
        None, "float", "Noise and loss", "Input noise",
        "Adds noise to the model's input. 0.1 is usual; empty is off.",
        minimum=0, maximum=10,
    )  # fmt: skip
    ip_noise_gamma_random_strength: bool = setting(
        False, "bool", "Noise and loss", "Random input noise",
        "Picks the input-noise strength at random, between 0 and the value of Input noise.",
    )  # fmt: skip
    min_timestep: int | None = setting(
        None, "int", "Noise and loss", "First timestep",
        "Trains only timesteps from this one on, 0 to 999.",
        minimum=0, maximum=999,
    )  # fmt: skip
    max_timestep: int | None = setting(
        None, "int", "Noise and loss", "Last timestep",
        "Trains only timesteps below this one, 1 to 1000.",
        minimum=1, maximum=1000,
    )  # fmt: skip
    zero_terminal_snr: bool = setting(
        False, "bool", "Noise and loss", "Zero terminal SNR",
        "Only for v-prediction base models that were made for it. Losses are weighted as in sd-scripts: by the SNR of "
        "the schedule before it is rescaled.",
    )  # fmt: skip
    snr_after_rescaling: bool = setting(
        False, "bool", "Noise and loss", "Weights of the rescaled SNR",
        "With Zero terminal SNR: weights losses by the SNR of the rescaled schedule, as the formulas say. Off as in "
        "sd-scripts, and as NoobAI-v was made.",
        ours=True,
    )  # fmt: skip
    prior_loss_weight: float = setting(
        1.0, "float", "Noise and loss", "Class picture weight",
        "How much class pictures count, compared with your own.",
        minimum=0, maximum=100,
    )  # fmt: skip
    clip_skip: int | None = setting(
        None, "int", "Text encoder", "Clip skip",
        "Which layer of the text encoder is used, counted from the last. 2 is usual for anime models.",
        minimum=1, maximum=12,
    )  # fmt: skip
    max_token_length: int | None = setting(
        None, "int", "Text encoder", "Caption length",
        "How many tokens of a caption are read: 75, 150 or 225. Empty is 75.",
        choices=("75", "150", "225"),
    )  # fmt: skip
    cache_text_encoder_outputs: bool = setting(
        False, "bool", "Text encoder", "Cache text",
        "Encodes each caption only once. The text encoder is then not trained.",
    )  # fmt: skip
    cache_text_encoder_outputs_to_disk: bool = setting(
        False, "bool", "Text encoder", "Cache text on disk",
        "Also keeps the encoded captions on disk for later runs. The text encoder is then not trained.",
        shown=False,
    )  # fmt: skip
    validation_split: float = setting(
        0.0, "float", "Validation", "Validation part",
        "Fraction of the pictures that is not trained on but measures the validation loss. 0 is off.",
        minimum=0, maximum=0.9,
    )  # fmt: skip
    validation_seed: int | None = setting(
        None, "int", "Validation", "Validation seed", "Seed that picks the validation pictures.", minimum=0
    )
    validate_every_n_steps: int | None = setting(
        None, "int", "Validation", "Validate every N steps", "Measures the validation loss every N steps.", minimum=1
    )
    validate_every_n_epochs: int | None = setting(
        None, "int", "Validation", "Validate every N epochs", "Measures the validation loss every N epochs.", minimum=1
    )
    max_validation_steps: int | None = setting(
        None, "int", "Validation", "Validation batches",
        "Largest number of batches per validation. Empty uses all validation pictures.",
        minimum=1,
    )  # fmt: skip
