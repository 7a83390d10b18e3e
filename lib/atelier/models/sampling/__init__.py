"""Our own sampler."""
