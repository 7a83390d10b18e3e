"""Z-Image, Base and Turbo: a transformer with a rectified flow, Qwen3's states of the caption, Flux's VAE."""

from atelier.models.families.z_image.family import FAMILY

__all__ = ["FAMILY"]
