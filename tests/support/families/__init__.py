"""Tiny models of the families with a transformer."""
