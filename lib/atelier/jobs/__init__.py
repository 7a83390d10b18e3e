"""The queue, the worker thread, events, and the record of each run."""
