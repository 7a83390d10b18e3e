"""The adapter, and how fast each part of it learns."""

from __future__ import annotations

from dataclasses import dataclass

from atelier.config.settings.option import setting

MODULES = ("networks.lora", "lycoris.kohya")


@dataclass
class NetworkSettings:
    """Size and kind of the adapter."""

    network_module: str = setting(
        "networks.lora", "str", "Network", "Kind of adapter",
        "networks.lora is LoRA; lycoris.kohya has LoHa, LoKr and more.",
        choices=MODULES,
    )  # fmt: skip
    network_dim: int = setting(
        16, "int", "Network", "Rank", "How much it can learn: 4 to 32 for a subject, more for a style.",
        minimum=1, maximum=1_000_000,
    )  # fmt: skip
    network_alpha: float = setting(
        8.0, "float", "Network", "Alpha", "Strength relative to the rank; half the rank is usual, 0 means the rank.",
        minimum=0, maximum=1_000_000,
    )  # fmt: skip
    conv_dim: int | None = setting(
        None, "int", "Network", "Convolution rank", "Also adapts 3x3 convolutions, for styles; empty leaves them.",
        minimum=1, maximum=1_000_000, ours=True,
    )  # fmt: skip
    conv_alpha: float | None = setting(
        None,
        "float",
        "Network",
        "Convolution alpha",
        "Alpha of the convolutions.",
        minimum=0,
        maximum=1_000_000,
        ours=True,
    )
    network_dropout: float | None = setting(
        None,
        "float",
        "Network",
        "Dropout",
        "How often a part of the adapter is left out, 0 to 1.",
        minimum=0,
        maximum=1,
    )
    network_args: list[str] = setting(
        [], "strs", "Network", "More arguments", "As kohya's network_args: one KEY=VALUE a line."
    )
    network_weights: str | None = setting(
        None, "str", "Network", "Go on from", "A LoRA file to start from instead of from nothing."
    )
    dim_from_weights: bool = setting(
        False, "bool", "Network", "Rank from that file", "Takes ranks and alphas from the file to go on from."
    )
    base_weights: list[str] = setting(
        [], "strs", "Network", "Merged into the base", "LoRA files that the base wears while training, one a line."
    )
    base_weights_multiplier: list[float] = setting(
        [], "floats", "Network", "Their weights", "A weight for each of them."
    )
    scale_weight_norms: float | None = setting(
        None, "float", "Network", "Largest norm", "Keeps each layer's norm below this; 1 is usual.", minimum=0
    )
    network_train_unet_only: bool = setting(
        False, "bool", "Text encoder", "UNet only", "Leaves the text encoder alone: quicker, and gentler to prompts."
    )
    network_train_text_encoder_only: bool = setting(
        False, "bool", "Text encoder", "Text encoder only", "Trains the text encoder alone."
    )


@dataclass
class LearningSettings:
    """Steps, rates and the optimiser."""

    max_train_steps: int = setting(
        1600, "int", "Learning", "Steps", "How long to train. Epochs, when set, win.", minimum=1, maximum=10_000_000
    )
    max_train_epochs: int | None = setting(
        None, "int", "Learning", "Epochs", "Rounds through all pictures.", minimum=1, maximum=1_000_000
    )
    learning_rate: float = setting(
        1e-4, "float", "Learning", "Learning rate", "How big a step is; 1e-4 suits LoRA.", minimum=0, maximum=10
    )
    unet_lr: float | None = setting(
        None,
        "float",
        "Learning",
        "UNet rate",
        "Empty takes the learning rate, 0 leaves the UNet alone.",
        minimum=0,
        maximum=10,
    )
    text_encoder_lr: list[float] = setting(
        [], "floats", "Learning", "Text encoder rate", "Empty takes the learning rate, 0 leaves it alone.",
        minimum=0, maximum=10,
    )  # fmt: skip
    optimizer_type: str = setting(
        "AdamW", "str", "Learning", "Optimiser", "AdamW, AdamW8bit, Adafactor, Lion, Prodigy …, or module.Class."
    )
    optimizer_args: list[str] = setting(
        [], "strs", "Learning", "Optimiser arguments", "One KEY=VALUE a line, such as weight_decay=0.01."
    )
    max_grad_norm: float = setting(
        1.0, "float", "Learning", "Clip gradients", "Limits the size of a step; 0 does not.", minimum=0
    )
    gradient_accumulation_steps: int = setting(
        1, "int", "Learning", "Accumulation", "Adds up so many batches before each step.",
        minimum=1, maximum=4096,
    )  # fmt: skip
    lr_scheduler: str = setting(
        "constant", "str", "Schedule", "Schedule", "How the rate changes over the run.",
        choices=(
            "constant", "constant_with_warmup", "linear", "cosine", "cosine_with_restarts", "polynomial",
            "inverse_sqrt", "cosine_with_min_lr", "warmup_stable_decay", "piecewise_constant", "adafactor",
        ),
    )  # fmt: skip
    lr_warmup_steps: int | float = setting(
        0,
        "int_or_float",
        "Schedule",
        "Warm-up",
        "Steps over which the rate rises; 0.1 is a tenth of the run.",
        minimum=0,
    )
    lr_decay_steps: int | float = setting(
        0, "int_or_float", "Schedule", "Decay", "Steps over which the rate falls, for warmup_stable_decay.", minimum=0
    )
    lr_scheduler_num_cycles: int = setting(
        1, "int", "Schedule", "Cycles", "Restarts of cosine_with_restarts.", minimum=1, maximum=1000
    )
    lr_scheduler_power: float = setting(
        1.0, "float", "Schedule", "Power", "Exponent of polynomial.", minimum=0, maximum=100
    )
    lr_scheduler_timescale: int | None = setting(
        None, "int", "Schedule", "Time scale", "Of inverse_sqrt; empty takes the warm-up.", minimum=1
    )
    lr_scheduler_min_lr_ratio: float | None = setting(
        None,
        "float",
        "Schedule",
        "Lowest rate",
        "As a part of the highest, for cosine_with_min_lr.",
        minimum=0,
        maximum=1,
    )
    lr_scheduler_type: str = setting("", "str", "Schedule", "Other schedule", "A class, as module.Class.")
    lr_scheduler_args: list[str] = setting([], "strs", "Schedule", "Schedule arguments", "One KEY=VALUE a line.")
