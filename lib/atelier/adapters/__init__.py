"""Adapters: LoRA and related kinds, how they are attached to a model, and their files in kohya's format."""
