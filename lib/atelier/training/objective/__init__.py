"""The mathematics of a step: noise, targets, losses, validation."""
