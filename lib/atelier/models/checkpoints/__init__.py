"""Checkpoints in and out: single files, diffusers folders, pickles, and what they say of themselves."""
