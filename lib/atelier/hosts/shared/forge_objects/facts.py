"""What a WebUI says of its loaded model, in words that the adapters of Forge and its kin share."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Facts:
    """What a WebUI says of a model in words of its own."""

    prediction_type: str
    """What the UNet predicts: "epsilon", "v_prediction", or another that cannot be trained."""
    zero_terminal_snr: bool
    storage: object
    """What the UNet's weights are kept in: a torch.dtype, or "nf4", "fp4", "gguf"."""
    loaded_as: str
    """Tells the weights apart: the file's hash, the VAE and text encoder put in, the type they are kept in."""
    low_bits_in_file: bool = False
    """A storage that cannot be lent is the file's own, and no setting's."""
    versions: str = "1, 2 or XL"
    """Of Stable Diffusion, that the WebUI loads and the trainer trains."""
