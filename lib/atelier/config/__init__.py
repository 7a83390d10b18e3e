"""Settings: one typed schema, kohya TOML and presets in and out. Imports no torch."""
