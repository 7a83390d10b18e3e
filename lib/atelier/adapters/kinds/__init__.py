"""The kinds of adapter: our own LoRA, and the kinds that LyCORIS computes."""
