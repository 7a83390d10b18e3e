"""LoRA files applied to a model that draws: read, matched to its layers, taken out again."""
