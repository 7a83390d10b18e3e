"""The text for a bug report, and what must not be in it."""
