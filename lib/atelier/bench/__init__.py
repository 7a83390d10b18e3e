"""Measurements of the trainer: seconds and bytes, side by side with the floor."""
