"""Runs that go on: from a state, after a kill, after an error, from an earlier version."""
