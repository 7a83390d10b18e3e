"""Reads and writes checkpoints: single files, diffusers folders, and pickles without running their code."""
