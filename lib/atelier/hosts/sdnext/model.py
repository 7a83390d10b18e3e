"""The pipeline that SD.Next has loaded: its facts, and loading the chosen checkpoint."""

from __future__ import annotations

from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any

import torch

from atelier.config.errors import AtelierError
from atelier.hosts.contract import ModelInfo
from atelier.hosts.sdnext.refusals import components, family_of, refusal_of
from atelier.hosts.shared.identity import file_identity

LOADING = "Load model"
"""What SD.Next calls its job while it loads a checkpoint."""


def current() -> Any:
    """The pipeline, or None; never makes SD.Next load one, as `shared.sd_model` would."""
    from modules import modeldata

    pipe = modeldata.model_data.sd_model
    return getattr(pipe, "pipe", pipe)


def model_info() -> ModelInfo | None:
    """The model loaded now, or None, also while one is being loaded."""
    from modules import devices, shared

    pipe = current()
    checkpoint = getattr(pipe, "sd_checkpoint_info", None)
    if pipe is None or checkpoint is None or shared.state.job == LOADING or "unet" not in components(pipe):
        return None
    path = Path(checkpoint.path if Path(checkpoint.path).exists() else checkpoint.filename)
    parameter = next(components(pipe)["unet"].parameters())
    return ModelInfo(
        title=str(checkpoint.title),
        family=family_of(pipe),
        path=path if path.exists() else None,
        identity=f"{file_identity(path)}:{chosen_parts()}:{parameter.dtype}",
        prediction_type=prediction_type(pipe),
        dtype=str(parameter.dtype).removeprefix("torch."),
        device=str(torch.device(devices.device)),
        refusal=refusal_of(pipe, shared.opts),
    )


def load_chosen(queue: AbstractContextManager[object]) -> None:
    """Loads the checkpoint that is chosen, if none is loaded: SD.Next would do it at the next picture.

    Takes the queue. Raises `AtelierError` when it cannot be loaded.
    """
    from modules import sd_models

    if current() is not None:
        return
    with queue:
        if current() is None:
            sd_models.reload_model_weights()
    if current() is None:
        raise AtelierError("SD.Next could not load the chosen checkpoint. Its console says why.")


def prediction_type(pipe: Any) -> str:
    """The UNet's prediction type: "epsilon", "v_prediction", or another that cannot be trained."""
    return str(scheduler_says(pipe, "prediction_type", "epsilon"))


def zero_terminal_snr(pipe: Any) -> bool:
    """True when the checkpoint was trained on a schedule that ends in noise alone."""
    return bool(scheduler_says(pipe, "rescale_betas_zero_snr", False))


def scheduler_says(pipe: Any, key: str, otherwise: object) -> object:
    """A value of the schedule that the checkpoint came with; the one in use has the sampler's settings in it."""
    scheduler = getattr(pipe, "default_scheduler", None) or getattr(pipe, "scheduler", None)
    value = (getattr(scheduler, "config", None) or {}).get(key)
    return otherwise if value is None else value


def chosen_parts() -> str:
    """What SD.Next has put into the model in place of the checkpoint's own parts."""
    from modules import sd_unet, sd_vae, shared

    return f"{sd_vae.loaded_vae_file}:{sd_unet.loaded_unet}:{getattr(shared.opts, 'sd_text_encoder', None)}"
