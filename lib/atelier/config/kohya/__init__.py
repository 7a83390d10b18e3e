"""Reads and writes the TOML files of kohya's sd-scripts, with a verdict for every key."""
