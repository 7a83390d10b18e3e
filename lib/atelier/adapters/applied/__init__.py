"""Finished LoRA files, applied to a model for drawing or as part of its base, and removed again."""
