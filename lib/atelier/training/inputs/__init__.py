"""The inputs of a step: latents of pictures and prompt embeddings of captions, each encoded once."""
