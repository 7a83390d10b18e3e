"""Settings of models with a rectified flow, such as Z-Image. Stable Diffusion 1, 2 and XL read none of them."""

from __future__ import annotations

from dataclasses import dataclass

from atelier.config.settings.option import setting


@dataclass
class FlowSettings:
    """How much noise a flow is trained on, and how much each amount of noise counts."""

    timestep_sampling: str | None = setting(
        None, "str", "Flow models", "Noise sampling",
        "Which amounts of noise are trained most. Empty is what suits the model. No effect on Stable Diffusion.",
        choices=("sigma", "uniform", "sigmoid", "shift", "flux_shift", "nextdit_shift", "flux2_shift", "qwen_shift",
                 "krea2_shift", "logsnr"),
    )  # fmt: skip
    discrete_flow_shift: float | None = setting(
        None, "float", "Flow models", "Flow shift",
        "With the noise samplings shift and sigma: above 1 trains more noise. Empty is what suits the model. No effect "
        "on Stable Diffusion.",
        minimum=0.01, maximum=100,
    )  # fmt: skip
    sigmoid_scale: float = setting(
        1.0, "float", "Flow models", "Sigmoid scale",
        "With the noise samplings sigmoid, shift, and by the picture's size: above 1 trains little and much noise more "
        "often. No effect on Stable Diffusion.",
        minimum=0.01, maximum=100,
    )  # fmt: skip
    weighting_scheme: str = setting(
        "none", "str", "Flow models", "Noise weighting",
        "sigma_sqrt and cosmap weight the loss by the amount of noise. logit_normal and mode choose it, with the noise "
        "sampling sigma. No effect on Stable Diffusion.",
        choices=("none", "uniform", "logit_normal", "mode", "cosmap", "sigma_sqrt"),
    )  # fmt: skip
    logit_mean: float = setting(
        0.0, "float", "Flow models", "Logit mean",
        "With the noise weighting logit_normal or the noise sampling logsnr: the middle of the distribution. No effect "
        "on Stable Diffusion.",
        minimum=-20, maximum=20,
    )  # fmt: skip
    logit_std: float = setting(
        1.0, "float", "Flow models", "Logit deviation",
        "With the noise weighting logit_normal or the noise sampling logsnr: the width of the distribution. No effect "
        "on Stable Diffusion.",
        minimum=0.01, maximum=20,
    )  # fmt: skip
    mode_scale: float = setting(
        1.29, "float", "Flow models", "Mode scale",
        "With the noise weighting mode: above 0 trains middle amounts of noise more often. No effect on Stable "
        "Diffusion.",
        minimum=-1, maximum=1.75,
    )  # fmt: skip
    model_prediction_type: str = setting(
        "raw", "str", "Flow models", "Prediction",
        "How the model's output is compared. raw suits every released model; sigma_scaled compares clean pictures, so "
        "noise counts more. No effect on Stable Diffusion.",
        choices=("raw", "additive", "sigma_scaled"),
    )  # fmt: skip
