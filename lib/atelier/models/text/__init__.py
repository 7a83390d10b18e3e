"""Turns captions into prompt embeddings with CLIP text encoders."""
