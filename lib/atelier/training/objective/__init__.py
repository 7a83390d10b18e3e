"""The objective: noise processes, targets, losses and validation."""
