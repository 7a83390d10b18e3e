"""The settings, a module for each theme. `config.schema.Settings` is all of them together."""
