"""Settings of memory, precision, saving, samples and resuming, of notifications, and of Dreambooth."""

from __future__ import annotations

from dataclasses import dataclass

from atelier.config.settings.option import setting

SAMPLERS = (
    "ddim", "pndm", "lms", "euler", "euler_a", "heun", "dpm_2", "dpm_2_a", "dpmsolver", "dpmsolver++", "dpmsingle",
    "k_lms", "k_euler", "k_euler_a", "k_dpm_2", "k_dpm_2_a",
)  # fmt: skip


@dataclass
class RunningSettings:
    """How the run computes, what it saves, and what it draws."""

    mixed_precision: str = setting(
        "auto", "str", "Memory and precision", "Precision",
        "auto picks what suits the device: bf16, fp16 or full precision (no).",
        choices=("auto", "no", "fp16", "bf16"),
    )  # fmt: skip
    gradient_checkpointing: bool = setting(
        False, "bool", "Memory and precision", "Gradient checkpointing",
        "Much less memory. A step takes about a third longer.",
    )  # fmt: skip
    when_diverged: str = setting(
        "stop", "str", "Memory and precision", "If the loss becomes NaN",
        "stop: keeps the last good weights and ends. lower: returns to the last saved state and halves the "
        "learning rate.",
        choices=("stop", "lower"), ours=True,
    )  # fmt: skip
    full_bf16: bool = setting(
        False, "bool", "Memory and precision", "All in bf16",
        "Trained weights in bf16: half the memory. Whole models use stochastic rounding to keep small updates.",
    )  # fmt: skip
    full_fp16: bool = setting(
        False, "bool", "Memory and precision", "All in fp16", "kohya's key, kept for files. bf16 is used.", shown=False
    )
    fp8_base: bool = setting(
        False, "bool", "Memory and precision", "Base in fp8",
        "When the UNet is kept in CPU memory to save GPU memory, its weights are stored there in 8 bits.",
        shown=False,
    )  # fmt: skip
    no_half_vae: bool = setting(
        False, "bool", "Memory and precision", "VAE in full precision",
        "kohya's key, kept for files. Full precision is used where half precision overflows.",
        shown=False,
    )  # fmt: skip
    vae_batch_size: int = setting(
        1, "int", "Memory and precision", "VAE batch", "Pictures that the VAE encodes at once.", minimum=1, maximum=256
    )
    cache_latents: bool = setting(
        True, "bool", "Memory and precision", "Cache latents", "Encodes each picture with the VAE only once."
    )
    cache_latents_to_disk: bool = setting(
        True, "bool", "Memory and precision", "Cache latents on disk", "Also keeps the latents on disk for later runs."
    )
    save_model_as: str = setting(
        "safetensors", "str", "Saving", "File format",
        "safetensors can be read everywhere.",
        choices=("safetensors", "ckpt", "pt", "diffusers", "diffusers_safetensors"),
    )  # fmt: skip
    save_precision: str = setting(
        "fp16", "str", "Saving", "Precision of the file",
        "fp16 is small and precise enough.",
        choices=("fp16", "bf16", "float"),
    )  # fmt: skip
    save_every_n_steps: int | None = setting(
        None, "int", "Saving", "Save every N steps",
        "Writes a file every N steps. Each can be tried at once.",
        minimum=1,
    )  # fmt: skip
    save_every_n_epochs: int | None = setting(
        None, "int", "Saving", "Save every N epochs", "Writes a file every N epochs.", minimum=1
    )
    save_n_epoch_ratio: int | None = setting(
        None, "int", "Saving", "Saves per run",
        "Writes about this many files over the run, each at the end of an epoch.",
        minimum=1, shown=False,
    )  # fmt: skip
    save_last_n_steps: int | None = setting(
        None, "int", "Saving", "Keep the last N steps",
        "Files saved by Save every N steps are removed when they are more than N steps old.",
        minimum=1,
    )  # fmt: skip
    save_last_n_epochs: int | None = setting(
        None, "int", "Saving", "Keep the last N epochs",
        "Of the files saved by Save every N epochs, only the newest N are kept.",
        minimum=1,
    )  # fmt: skip
    save_state: bool = setting(
        False, "bool", "Saving", "Save states", "kohya's key. Every run can be resumed anyway.", shown=False
    )
    save_state_on_train_end: bool = setting(
        False, "bool", "Saving", "State at the end", "kohya's key. A state is always written at the end.", shown=False
    )
    save_last_n_steps_state: int | None = setting(
        None, "int", "Saving", "Keep states", "kohya's key. The last two states are kept.", minimum=1, shown=False
    )
    save_last_n_epochs_state: int | None = setting(
        None, "int", "Saving", "Keep states", "kohya's key. The last two states are kept.", minimum=1, shown=False
    )
    resume: str | None = setting(
        None, "str", "Saving", "Resume", "For the command line: the folder of a run to resume.", shown=False
    )
    initial_step: int | None = setting(
        None, "int", "Saving", "First step",
        "Counts steps from here, to go on from a saved checkpoint or LoRA. The learning rate schedule starts anew.",
        minimum=0,
    )  # fmt: skip
    initial_epoch: int | None = setting(
        None, "int", "Saving", "First epoch",
        "The same as First step, counted in epochs: 3 means that two epochs are done.",
        minimum=1,
    )  # fmt: skip
    skip_until_initial_step: bool = setting(
        False, "bool", "Saving", "Skip used pictures", "Pictures of the steps before First step count as used."
    )
    sample_prompts: str | None = setting(
        None, "str", "Samples", "Sample prompts",
        "One prompt per line, or a file. Empty makes prompts from the trigger word.",
    )  # fmt: skip
    sample_every_n_steps: int | None = setting(
        None, "int", "Samples", "Sample every N steps", "Draws sample pictures every N steps.", minimum=1
    )
    sample_every_n_epochs: int | None = setting(
        None, "int", "Samples", "Sample every N epochs", "Draws sample pictures every N epochs.", minimum=1
    )
    sample_at_first: bool = setting(
        False, "bool", "Samples", "Sample before training", "Also draws samples before the first step, to compare with."
    )
    sample_at_end: bool = setting(
        True, "bool", "Samples", "Sample at the end",
        "Also draws samples after the last step, and when the run is stopped. Stop again skips them.",
        ours=True,
    )  # fmt: skip
    sample_sampler: str = setting(
        "ddim", "str", "Samples", "Sampler", "Sampling method of the sample pictures.", choices=SAMPLERS
    )
    sample_with: str = setting(
        "own", "str", "Samples", "Drawn by",
        "own: Atelier draws, and the WebUI can draw in between. host: the WebUI draws, as it is set, with "
        "the LoRA so far.",
        choices=("own", "host"), ours=True,
    )  # fmt: skip


@dataclass
class NotificationSettings:
    """Who is told of a run, beside the page."""

    webhook_url: str | None = setting(
        None, "str", "Notifications", "Webhook",
        "An address, such as https://example.org/hook, that is sent JSON with the run, its state and its file when the "
        "run ends or waits for you.",
        ours=True,
    )  # fmt: skip


@dataclass
class DreamboothSettings:
    """Training the whole model instead of an adapter."""

    train_whole_model: bool = setting(
        False, "bool", "Dreambooth", "Train the whole model",
        "Trains all weights of the model and saves a checkpoint instead of a LoRA.",
        ours=True,
    )  # fmt: skip
    load_when_done: bool = setting(
        False,
        "bool",
        "Dreambooth",
        "Load it when done",
        "The WebUI switches to the new checkpoint at the end.",
        ours=True,
    )
    train_text_encoder: bool = setting(
        False, "bool", "Dreambooth", "Text encoder too", "Trains the text encoder together with the UNet."
    )
    stop_text_encoder_training: int | None = setting(
        None, "int", "Dreambooth", "Stop text encoder",
        "The text encoder is trained up to this step only. -1 does not train it at all.",
        minimum=-1,
    )  # fmt: skip
    learning_rate_te: float | None = setting(
        None, "float", "Dreambooth", "Text encoder learning rate", "Empty uses Learning rate.", minimum=0, maximum=10
    )
    learning_rate_te1: float | None = setting(
        None, "float", "Dreambooth", "Text encoder 1 learning rate",
        "For SDXL's first text encoder. Empty uses the one above.",
        minimum=0, maximum=10,
    )  # fmt: skip
    learning_rate_te2: float | None = setting(
        None, "float", "Dreambooth", "Text encoder 2 learning rate",
        "For SDXL's second text encoder. Empty uses Learning rate.",
        minimum=0, maximum=10,
    )  # fmt: skip
    fused_backward_pass: bool = setting(
        False, "bool", "Dreambooth", "Fused backward pass",
        "Applies and frees each gradient as it is computed, to save memory. Needs Gradient accumulation 1.",
    )  # fmt: skip
    freeze_blocks: list[str] = setting(
        [], "strs", "Dreambooth", "Frozen blocks",
        "Parts of the UNet that are not trained, one per line: down, mid, up, time, end, or IN00 to OUT11.",
        ours=True,
    )  # fmt: skip
    block_lr: str | None = setting(
        None, "str", "Dreambooth", "Block learning rates",
        "For SDXL: 23 learning rates, separated by commas. 0 freezes a block.",
    )  # fmt: skip
    ema_decay: float | None = setting(
        None, "float", "Dreambooth", "Weight average (EMA)",
        "Saves a moving average of the weights. 0.999 is usual; empty is off.",
        minimum=0, maximum=0.999999, ours=True,
    )  # fmt: skip
    ema_save: str = setting(
        "instead", "str", "Dreambooth", "Save the average",
        "instead: in place of the last weights. beside: as a second file, NAME-ema.",
        choices=("instead", "beside"), ours=True,
    )  # fmt: skip
