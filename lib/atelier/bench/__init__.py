"""Measurements of the trainer: time and memory, compared with a bare training loop."""
