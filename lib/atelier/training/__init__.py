"""Training: the loop, losses, optimizers, schedules, sample pictures, and states to resume from."""
