"""The model families, each in a file of its own with a `FAMILY`."""
