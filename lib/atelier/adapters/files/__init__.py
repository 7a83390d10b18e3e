"""Adapter files: reads and writes kohya's format, reads other layouts, metadata, and the files beside a LoRA."""
