"""From captions to prompt embeddings with CLIP."""
