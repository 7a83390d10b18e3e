"""Memory, precision, saving, samples, resuming."""

from __future__ import annotations

from dataclasses import dataclass

from atelier.config.option import setting

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
    full_bf16: bool = setting(
        False, "bool", "Memory and precision", "All in bf16", "The trained weights too: half their memory."
    )
    full_fp16: bool = setting(
        False, "bool", "Memory and precision", "All in fp16", "kohya's key, kept for files; bf16 is used.", shown=False
    )
    fp8_base: bool = setting(
        False, "bool", "Memory and precision", "Base in fp8",
        "kohya's key, kept for files: the base is used as the host loaded it.", shown=False,
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
        None, "int", "Saving", "First step", "Begins the schedule and the data at this step.", minimum=0, shown=False
    )
    initial_epoch: int | None = setting(
        None, "int", "Saving", "First epoch", "Begins the schedule and the data at this epoch.", minimum=1, shown=False
    )
    skip_until_initial_step: bool = setting(
        False, "bool", "Saving", "Skip to it", "kohya's key: the place in the data is the step.", shown=False
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
        False,
        "bool",
        "Dreambooth",
        "Fused backward",
        "kohya's key, kept for files; full_bf16 saves memory.",
        shown=False,
    )
