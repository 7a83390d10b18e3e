"""Checks on a GPU what was designed and predicted without one. Each case is a file; the most important come first."""
