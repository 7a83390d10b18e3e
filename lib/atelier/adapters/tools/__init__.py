"""What can be done with finished LoRA files: check, convert, resize, merge, extract."""
