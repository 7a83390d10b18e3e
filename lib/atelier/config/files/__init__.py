"""Files of settings: their paths and size limits, and writing that survives a crash."""
