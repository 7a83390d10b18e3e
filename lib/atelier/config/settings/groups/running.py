"""Memory, precision, saving, samples, resuming."""

from __future__ import annotations

from dataclasses import dataclass

from atelier.config.settings.option import setting

SAMPLERS = (
    "ddim", "pndm", "lms", "euler", "euler_a", "heun", "dpm_2", "dpm_2_a", "dpmsolver", "dpmsolver++", "dpmsingle",
    "k_lms", "k_euler", "k_euler_a", "k_dpm_2", "k_dpm_2_a",
)  # fmt: skip


@dataclass
class RunningSettings:
    """How it is computed, and what is kept."""

    mixed_precision: str = setting(
        "auto", "str", "Memory and precision", "Precision", "auto takes the best of the device.",
        choices=("auto", "no", "fp16", "bf16"),
    )  # fmt: skip
    gradient_checkpointing: bool = setting(
        False, "bool", "Memory and precision", "Gradient checkpointing", "Much less memory, a third slower."
    )
    when_diverged: str = setting(
        "stop", "str", "Memory and precision", "If the loss is no number",
        "stop keeps what was good; lower goes back to the last good state, with half the learning rate.",
        choices=("stop", "lower"), ours=True,
    )  # fmt: skip
    full_bf16: bool = setting(
        False,
        "bool",
        "Memory and precision",
        "All in bf16",
        "The trained weights too: half their memory; a whole model's are rounded at random, so small steps count.",
    )
    full_fp16: bool = setting(
        False, "bool", "Memory and precision", "All in fp16", "kohya's key, kept for files; bf16 is used.", shown=False
    )
    fp8_base: bool = setting(
        False, "bool", "Memory and precision", "Base in fp8",
        "Where the UNet is kept in the processor's memory to save the GPU's, it lies there in 8 bits.", shown=False,
    )  # fmt: skip
    no_half_vae: bool = setting(
        False,
        "bool",
        "Memory and precision",
        "VAE in full precision",
        "kohya's key, kept for files: full precision is used where half overflows.",
        shown=False,
    )
    vae_batch_size: int = setting(
        1, "int", "Memory and precision", "VAE batch", "Pictures encoded at once.", minimum=1, maximum=256
    )
    cache_latents: bool = setting(True, "bool", "Memory and precision", "Cache latents", "Encodes each picture once.")
    cache_latents_to_disk: bool = setting(
        True, "bool", "Memory and precision", "Cache latents on disk", "Also keeps them for later runs."
    )
    save_model_as: str = setting(
        "safetensors", "str", "Saving", "File kind", "safetensors is read everywhere.",
        choices=("safetensors", "ckpt", "pt", "diffusers", "diffusers_safetensors"),
    )  # fmt: skip
    save_precision: str = setting(
        "fp16", "str", "Saving", "Precision of the file", "fp16 is small and enough.", choices=("fp16", "bf16", "float")
    )
    save_every_n_steps: int | None = setting(
        None, "int", "Saving", "Save every steps", "A file every so many steps; each can be tried at once.", minimum=1
    )
    save_every_n_epochs: int | None = setting(
        None, "int", "Saving", "Save every epochs", "A file every so many epochs.", minimum=1
    )
    save_n_epoch_ratio: int | None = setting(
        None, "int", "Saving", "Save so often", "So many files over the run, at ends of epochs.", minimum=1, shown=False
    )
    save_last_n_steps: int | None = setting(
        None, "int", "Saving", "Keep steps", "Older files by steps than this are removed.", minimum=1
    )
    save_last_n_epochs: int | None = setting(
        None, "int", "Saving", "Keep epochs", "Only so many of the files by epochs stay.", minimum=1
    )
    save_state: bool = setting(
        False, "bool", "Saving", "Save states", "kohya's key: runs here can always be resumed.", shown=False
    )
    save_state_on_train_end: bool = setting(
        False, "bool", "Saving", "State at the end", "kohya's key: a state is always written at the end.", shown=False
    )
    save_last_n_steps_state: int | None = setting(
        None, "int", "Saving", "Keep states", "kohya's key: the last two states are kept.", minimum=1, shown=False
    )
    save_last_n_epochs_state: int | None = setting(
        None, "int", "Saving", "Keep states", "kohya's key: the last two states are kept.", minimum=1, shown=False
    )
    resume: str | None = setting(
        None, "str", "Saving", "Resume", "For the command line: the folder of a run to go on with.", shown=False
    )
    initial_step: int | None = setting(
        None, "int", "Saving", "First step",
        "Counts steps from here on, for going on from a saved checkpoint or LoRA; the schedule begins anew.",
        minimum=0,
    )  # fmt: skip
    initial_epoch: int | None = setting(
        None, "int", "Saving", "First epoch", "The same by epochs: 3 counts two epochs as done.", minimum=1
    )
    skip_until_initial_step: bool = setting(
        False, "bool", "Saving", "Skip its pictures", "The pictures of the steps before the first one count as used."
    )
    sample_prompts: str | None = setting(
        None, "str", "Samples", "Sample prompts", "One a line, or a file; empty makes them from the trigger word."
    )
    sample_every_n_steps: int | None = setting(
        None, "int", "Samples", "Every steps", "Sample pictures every so many steps.", minimum=1
    )
    sample_every_n_epochs: int | None = setting(
        None, "int", "Samples", "Every epochs", "Sample pictures every so many epochs.", minimum=1
    )
    sample_at_first: bool = setting(
        False, "bool", "Samples", "Before training", "Also one before the first step, to compare."
    )
    sample_sampler: str = setting("ddim", "str", "Samples", "Sampler", "How samples are drawn.", choices=SAMPLERS)
    sample_with: str = setting(
        "own", "str", "Samples", "Drawn by",
        "own lets the WebUI in between steps; host is the WebUI itself, as it is set to draw, with the LoRA so far.",
        choices=("own", "host"), ours=True,
    )  # fmt: skip


@dataclass
class DreamboothSettings:
    """Training the whole model instead of an adapter."""

    train_whole_model: bool = setting(
        False, "bool", "Dreambooth", "Train the whole model", "Makes a checkpoint instead of a LoRA.", ours=True
    )
    load_when_done: bool = setting(
        False,
        "bool",
        "Dreambooth",
        "Load it when done",
        "The WebUI switches to the new checkpoint at the end.",
        ours=True,
    )
    train_text_encoder: bool = setting(
        False, "bool", "Dreambooth", "Text encoder too", "Trains the text encoder with the UNet."
    )
    stop_text_encoder_training: int | None = setting(
        None,
        "int",
        "Dreambooth",
        "Stop text encoder",
        "After so many steps the text encoder stays as it is.",
        minimum=-1,
    )
    learning_rate_te: float | None = setting(
        None, "float", "Dreambooth", "Text encoder rate", "Empty takes the learning rate.", minimum=0, maximum=10
    )
    learning_rate_te1: float | None = setting(
        None, "float", "Dreambooth", "Text encoder 1 rate", "SDXL's first.", minimum=0, maximum=10
    )
    learning_rate_te2: float | None = setting(
        None, "float", "Dreambooth", "Text encoder 2 rate", "SDXL's second.", minimum=0, maximum=10
    )
    fused_backward_pass: bool = setting(
        False, "bool", "Dreambooth", "Step inside backward",
        "Each gradient is used and freed as it is made: less memory; needs gradient accumulation 1.",
    )  # fmt: skip
    freeze_blocks: list[str] = setting(
        [], "strs", "Dreambooth", "Frozen blocks",
        "Parts of the UNet that stay as they are, one a line: down, mid, up, time, end, or IN00 to OUT11.", ours=True,
    )  # fmt: skip
    block_lr: str | None = setting(
        None, "str", "Dreambooth", "Rates of blocks", "For SDXL: 23 rates with commas; 0 freezes a block."
    )
    ema_decay: float | None = setting(
        None, "float", "Dreambooth", "Average", "Saves a moving average of the weights; 0.999 is usual, empty is off.",
        minimum=0, maximum=0.999999, ours=True,
    )  # fmt: skip
    ema_save: str = setting(
        "instead", "str", "Dreambooth", "Average is saved", "Instead of the last weights, or beside them as NAME-ema.",
        choices=("instead", "beside"), ours=True,
    )  # fmt: skip
