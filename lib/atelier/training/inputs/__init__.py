"""What a step is fed with: latents of pictures and prompt embeddings of captions, encoded once."""
