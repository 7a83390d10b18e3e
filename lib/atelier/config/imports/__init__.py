"""Reads settings from other programs' files: GUI presets, and the metadata inside LoRA files."""
