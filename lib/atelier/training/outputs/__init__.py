"""What a run leaves: LoRA files, checkpoints, and the rhythm in which they are written."""
