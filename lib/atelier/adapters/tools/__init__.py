"""Tools for finished LoRA files: check, convert, resize, merge and extract."""
