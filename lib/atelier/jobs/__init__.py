"""Runs: their queue, the worker thread that trains them, and the record of each on disk."""
