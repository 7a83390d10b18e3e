"""The prediction type of a UNet (noise or v): stated in the file, or measured on the UNet itself."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import torch

from atelier.models.family import Parts, PromptEmbeds, SizeConditions

EPSILON = "epsilon"
V_PREDICTION = "v_prediction"


def stated_prediction(path: Path, metadata: Mapping[str, str], names: Mapping[str, object]) -> str | None:
    """The prediction type in the metadata, by a tensor called "v_pred", or in a .yaml beside the file; or None."""
    said = metadata.get("modelspec.prediction_type", "").lower().replace("-", "_")
    if said in ("v", "v_prediction", "vprediction"):
        return V_PREDICTION
    if said in ("epsilon", "eps"):
        return EPSILON
    if "v_pred" in names:
        return V_PREDICTION
    sidecar = path.with_suffix(".yaml")
    if sidecar.is_file():
        for line in sidecar.read_text(encoding="utf-8", errors="replace").splitlines():
            key, _, value = line.partition(":")
            if key.strip() == "parameterization":
                return V_PREDICTION if value.strip().strip("\"'") == "v" else EPSILON
    return None


def states_zero_snr(metadata: Mapping[str, str], names: Mapping[str, object]) -> bool:
    """True when the file states that it was trained with zero terminal SNR."""
    return "ztsnr" in names or metadata.get("ss_zero_terminal_snr", "").lower() == "true"


@torch.no_grad()
def measured_prediction(parts: Parts) -> str:
    """The prediction type, measured on the UNet's output.

    At the noisiest timestep the input is nearly only noise. A UNet that predicts noise returns it, so its output
    correlates with its input. A UNet that predicts v returns nearly minus the picture, which the input hardly shows.
    """
    unet = parts.denoiser
    config = unet.config
    noise = torch.randn(1, 4, 16, 16, generator=torch.Generator().manual_seed(0)).to(parts.device)
    hidden = torch.zeros(1, 77, config["cross_attention_dim"], device=parts.device)
    pooled, sizes = None, None
    if config.get("addition_embed_type") == "text_time":
        ids = torch.zeros(1, 2, device=parts.device)
        width = config["projection_class_embeddings_input_dim"] - 6 * config["addition_time_embed_dim"]
        pooled, sizes = torch.zeros(1, width, device=parts.device), SizeConditions(ids, ids, ids)
    timesteps = torch.full((1,), 999, device=parts.device)
    out = parts.family.predict(parts, noise, timesteps, PromptEmbeds(hidden, pooled), sizes).float()
    correlation = torch.corrcoef(torch.stack([out.flatten(), noise.flatten()]))[0, 1]
    return EPSILON if float(correlation) > 0.5 else V_PREDICTION
