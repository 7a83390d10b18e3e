"""Models: their families, checkpoint files, prompt embeddings, sampling, and views of borrowed weights."""
