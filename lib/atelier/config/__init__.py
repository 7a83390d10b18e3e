"""Settings of a run: one typed schema, read from and written to kohya's files. Imports no torch."""
