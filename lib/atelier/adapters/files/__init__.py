"""The files that adapters are kept in: kohya's format in and out, other layouts in, metadata and sidecars."""
