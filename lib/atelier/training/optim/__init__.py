"""Optimizers, learning rate schedules, the update of weights, and the moving average (EMA)."""
