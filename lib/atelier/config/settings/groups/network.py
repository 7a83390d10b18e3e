"""Settings of the adapter (the LoRA), the learning rates, the optimizer and the schedule."""

from __future__ import annotations

from dataclasses import dataclass

from atelier.config.settings.option import setting

MODULES = ("networks.lora", "lycoris.kohya")


@dataclass
class NetworkSettings:
    """Size and kind of the adapter."""

    network_module: str = setting(
        "networks.lora", "str", "Network", "Kind of adapter",
        "networks.lora is a plain LoRA. lycoris.kohya offers LoHa, LoKr and more.",
        choices=MODULES,
    )  # fmt: skip
    network_dim: int = setting(
        16, "int", "Network", "Rank",
        "How much the LoRA can learn: 4 to 32 for a subject, more for a style.",
        minimum=1, maximum=1_000_000,
    )  # fmt: skip
    network_alpha: float = setting(
        8.0, "float", "Network", "Alpha",
        "Scales the LoRA's effect by alpha / rank. Half the rank is usual; 0 means the rank itself.",
        minimum=0, maximum=1_000_000,
    )  # fmt: skip
    conv_dim: int | None = setting(
        None, "int", "Network", "Convolution rank",
        "Also trains 3x3 convolutions, with this rank. Useful for styles; empty is off.",
        minimum=1, maximum=1_000_000, ours=True,
    )  # fmt: skip
    conv_alpha: float | None = setting(
        None, "float", "Network", "Convolution alpha",
        "Alpha of the convolutions.",
        minimum=0, maximum=1_000_000, ours=True,
    )  # fmt: skip
    network_dropout: float | None = setting(
        None, "float", "Network", "Dropout",
        "Probability, from 0 to below 1, that a part of the adapter is left out of a step.",
        minimum=0, maximum=1,
    )  # fmt: skip
    network_args: list[str] = setting(
        [], "strs", "Network", "More arguments",
        "More settings of the adapter, as in kohya's network_args. One KEY=VALUE per line.",
    )  # fmt: skip
    network_weights: str | None = setting(
        None, "str", "Network", "Go on from", "A LoRA file to start from. Empty starts a new LoRA."
    )
    dim_from_weights: bool = setting(
        False, "bool", "Network", "Rank from that file", "Uses the ranks and alphas of the LoRA file in Go on from."
    )
    base_weights: list[str] = setting(
        [], "strs", "Network", "Applied to the base",
        "LoRA files that are applied to the base model while training. One file per line.",
    )  # fmt: skip
    base_weights_multiplier: list[float] = setting(
        [], "floats", "Network", "Weights of these files",
        "One weight for each file in Applied to the base, in the same order.",
    )  # fmt: skip
    scale_weight_norms: float | None = setting(
        None, "float", "Network", "Largest norm",
        "Scales a layer's weights down when their norm grows beyond this. 1 is usual; empty is off.",
        minimum=0,
    )  # fmt: skip
    network_train_unet_only: bool = setting(
        False, "bool", "Text encoder", "UNet only",
        "Does not train the text encoder. Faster, and the words in prompts keep their meaning.",
    )  # fmt: skip
    network_train_text_encoder_only: bool = setting(
        False, "bool", "Text encoder", "Text encoder only", "Trains the text encoder and not the UNet."
    )


@dataclass
class LearningSettings:
    """Steps, learning rates, optimizer and schedule."""

    max_train_steps: int = setting(
        1600, "int", "Learning", "Steps",
        "How many steps to train. Not used when Epochs is set.",
        minimum=1, maximum=10_000_000,
    )  # fmt: skip
    max_train_epochs: int | None = setting(
        None, "int", "Learning", "Epochs",
        "How many times to go through all pictures. Empty uses Steps.",
        minimum=1, maximum=1_000_000,
    )  # fmt: skip
    learning_rate: float = setting(
        1e-4, "float", "Learning", "Learning rate",
        "How much each step changes the weights. 1e-4 suits a LoRA.",
        minimum=0, maximum=10,
    )  # fmt: skip
    unet_lr: float | None = setting(
        None, "float", "Learning", "UNet learning rate",
        "Empty uses Learning rate. 0 does not train the UNet.",
        minimum=0, maximum=10,
    )  # fmt: skip
    text_encoder_lr: list[float] = setting(
        [], "floats", "Learning", "Text encoder learning rate",
        "Empty uses Learning rate. 0 does not train the text encoder.",
        minimum=0, maximum=10,
    )  # fmt: skip
    optimizer_type: str = setting(
        "AdamW", "str", "Learning", "Optimizer",
        "AdamW, AdamW8bit, Adafactor, Lion, Prodigy …, or a Python class written as module.Class.",
    )  # fmt: skip
    optimizer_args: list[str] = setting(
        [], "strs", "Learning", "Optimizer arguments", "One KEY=VALUE per line, such as weight_decay=0.01."
    )
    max_grad_norm: float = setting(
        1.0, "float", "Learning", "Clip gradients",
        "Largest gradient norm. 1 is usual; 0 turns clipping off.",
        minimum=0,
    )  # fmt: skip
    gradient_accumulation_steps: int = setting(
        1, "int", "Learning", "Gradient accumulation",
        "Averages the gradients of this many batches per optimizer step: like a larger batch, without its memory.",
        minimum=1, maximum=4096,
    )  # fmt: skip
    lr_scheduler: str = setting(
        "constant", "str", "Schedule", "Schedule",
        "How the learning rate changes over the run.",
        choices=(
            "constant", "constant_with_warmup", "linear", "cosine", "cosine_with_restarts", "polynomial",
            "inverse_sqrt", "cosine_with_min_lr", "warmup_stable_decay", "piecewise_constant", "adafactor",
        ),
    )  # fmt: skip
    lr_warmup_steps: int | float = setting(
        0, "int_or_float", "Schedule", "Warm-up",
        "Steps over which the learning rate rises at the start. 0.1 means a tenth of the run.",
        minimum=0,
    )  # fmt: skip
    lr_decay_steps: int | float = setting(
        0, "int_or_float", "Schedule", "Decay",
        "Steps over which the learning rate falls at the end. Only for warmup_stable_decay.",
        minimum=0,
    )  # fmt: skip
    lr_scheduler_num_cycles: int = setting(
        1, "int", "Schedule", "Cycles",
        "Number of cycles of the schedule cosine_with_restarts.",
        minimum=1, maximum=1000,
    )  # fmt: skip
    lr_scheduler_power: float = setting(
        1.0, "float", "Schedule", "Power", "Exponent of the schedule polynomial.", minimum=0, maximum=100
    )
    lr_scheduler_timescale: int | None = setting(
        None, "int", "Schedule", "Time scale",
        "Time scale of the schedule inverse_sqrt, in steps. Empty uses Warm-up.",
        minimum=1,
    )  # fmt: skip
    lr_scheduler_min_lr_ratio: float | None = setting(
        None, "float", "Schedule", "Lowest learning rate",
        "As a fraction of the highest: 0.1 is a tenth of it. For cosine_with_min_lr and warmup_stable_decay.",
        minimum=0, maximum=1,
    )  # fmt: skip
    lr_scheduler_type: str = setting(
        "", "str", "Schedule", "Other schedule", "A Python class written as module.Class, used instead of Schedule."
    )
    lr_scheduler_args: list[str] = setting([], "strs", "Schedule", "Schedule arguments", "One KEY=VALUE per line.")
