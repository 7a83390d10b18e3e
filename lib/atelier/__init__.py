"""Atelier trains LoRA and Dreambooth inside the Stable Diffusion WebUI that you generate with."""

__version__ = "0.1.0"
