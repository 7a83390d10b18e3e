"""sd-scripts' TOML files, in and out, with a verdict for every key."""
