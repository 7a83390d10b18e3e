"""LoRA and its kin, and the kohya file format in and out."""
