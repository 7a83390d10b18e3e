"""Fakes, tiny models and scripts that several tests use."""
