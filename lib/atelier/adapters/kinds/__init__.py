"""The kinds of adapter: LoRA of our own, and those that LyCORIS computes."""
