"""Optimisers, schedules, the update and the moving average."""
